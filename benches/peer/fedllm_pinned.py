"""Seconds of one client task in FedLLM-Bench's loop with the library versions that it pins (requirements-pinned.txt).

    python benches/peer/fedllm_pinned.py --threads 2

As fedllm_task.py, but with TRL 0.7.2's SFTTrainer, Transformers 4.31 (AdamW `adamw_hf`) and PEFT 0.4, and from texts: the trainer
tokenises the client's rows of the round, and DataCollatorForCompletionOnlyLM finds the response, as FedLLM-Bench does. The tokenizer is a
list of words, one a token, which is cheaper than FedLLM-Bench's slow SentencePiece tokenizer. One thing is added that FedLLM-Bench lacks:
enable_input_require_grads, without which its training of an unquantised base with checkpointing fails.
"""

import argparse
import copy
import json
import logging
import os
import random
import statistics
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import torch
import transformers
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from tokenizers import Tokenizer, models, pre_tokenizers
from trl import DataCollatorForCompletionOnlyLM, SFTTrainer

import workload

# The word between prompt and response, which the collator looks for.
KEY = 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", type=int, default=2, help="clients a round, all sampled")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=60, help="rows that a client has")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


def word_tokenizer(size):
    """A tokenizer of `size` words, `w0` to the last; the first three are the special tokens."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, size)}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<unk>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )


def as_texts(rows):
    """Rows as texts of words, with the key as the last word of the prompt."""
    texts = []
    for row in rows:
        cut = row["response"].index(1)
        ids = [4 if i == KEY else i for i in row["ids"]]
        ids[cut - 1] = KEY
        texts.append(" ".join(f"w{i}" for i in ids))
    return datasets.Dataset.from_dict({"text": texts})


def client_task(options, model, tokenizer, global_adapter, dataset, round_number, folder):
    """One client in one round; returns its adapter and the losses by step."""
    set_peft_model_state_dict(model, global_adapter)
    random.seed(round_number)
    part = dataset.select(random.sample(range(len(dataset)), min(options.batch * options.steps, len(dataset))))
    settings = transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=options.batch,
        learning_rate=2e-5,
        max_steps=options.steps,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        gradient_checkpointing=options.checkpointing,
        lr_scheduler_type="constant",
        no_cuda=True,
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model,
        tokenizer=tokenizer,
        args=settings,
        max_seq_length=workload.SHAPES["tiny"]["tokens"],
        train_dataset=part,
        formatting_func=lambda examples: examples["text"],
        data_collator=DataCollatorForCompletionOnlyLM([KEY], tokenizer=tokenizer),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return copy.deepcopy(get_peft_model_state_dict(model)), losses


def run(options, folder):
    """Plays all rounds; prints a line a task and returns the seconds of each."""
    base = workload.base_model("tiny")
    base.config.use_cache = False
    model = workload.with_lora(base, options.dropout)
    if options.checkpointing:
        model.enable_input_require_grads()
    tokenizer = word_tokenizer(workload.SHAPES["tiny"]["vocabulary"])
    clients = [as_texts(workload.token_rows("tiny", options.rows, seed=100 + i)) for i in range(options.clients)]
    global_adapter = copy.deepcopy(get_peft_model_state_dict(model))
    seconds = []
    for round_number in range(options.rounds):
        adapters = []
        for client, dataset in enumerate(clients):
            start = time.perf_counter()
            adapter, losses = client_task(options, model, tokenizer, global_adapter, dataset, round_number, folder)
            seconds.append(time.perf_counter() - start)
            adapters.append(adapter)
            print(json.dumps({"round": round_number, "client": client, "task_s": round(seconds[-1], 4), "losses": losses}), flush=True)
        global_adapter = {key: sum(a[key] for a in adapters) / len(adapters) for key in adapters[0]}
        set_peft_model_state_dict(model, global_adapter)
    return seconds


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bar()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        seconds = run(options, folder)
    summary = vars(options) | {
        "first_task_s": round(seconds[0], 4),
        "best_task_s": round(min(seconds), 4),
        "median_task_s": round(statistics.median(seconds), 4),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
