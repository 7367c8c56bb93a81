"""Seconds of one client task as FedLLM-Bench's loop does it: a new trainer for every client of every round.

    python benches/peer/fedllm_task.py --threads 2
    python benches/peer/fedllm_task.py --threads 2 --trainer trl --dropout 0 --no-checkpointing

The loop of its main_sft.py, with current versions of the libraries: load the global adapter, take the client's rows of this round,
build a new trainer with a new AdamW, run the steps at a constant rate, copy the adapter out; after the clients, average and load back.
`--trainer hf` (default) is Transformers' Trainer, which the SFTTrainer of TRL 0.7 (FedLLM-Bench's version) adds nothing to during
training; `--trainer trl` is today's SFTTrainer, which computes more metrics a step. Both get ready-made tokens and a collator that
pads at the right and masks the prompt; FedLLM-Bench's own would tokenise the texts again here, so its real cost is higher.
A task is timed from the global adapter's load to the copy of the trained one. One JSON line a task, and one with the summary.
"""

import argparse
import copy
import json
import logging
import math
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

import workload


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainer", choices=["hf", "trl"], default="hf")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=workload.SHAPES, default="tiny")
    parser.add_argument("--clients", type=int, default=2, help="clients a round, all sampled")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=60, help="rows that a client has")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--folder", help="a folder written by workload.py: its weights are used, and its rows by every client")
    return parser.parse_args()


def as_dataset(rows):
    """Rows as a dataset of ready-made tokens, with their number so that the order of training can be told."""
    columns = {"input_ids": [r["ids"] for r in rows], "response": [r["response"] for r in rows], "row": list(range(len(rows)))}
    return datasets.Dataset.from_dict(columns)


class Collator:
    """Pads a micro-batch at the right, masks the prompt, and remembers which rows came."""

    def __init__(self):
        self.order = []

    def __call__(self, examples):
        self.order.append([e["row"] for e in examples])
        return workload.batch_tensors([{"ids": e["input_ids"], "response": e["response"]} for e in examples])


def new_trainer(options, model, dataset, rate, collator, folder):
    """What FedLLM-Bench builds for each client of each round."""
    settings = dict(
        output_dir=folder,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=1,
        learning_rate=rate,
        max_steps=options.steps,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        gradient_checkpointing=options.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if options.checkpointing else None,
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    common = dict(model=model, train_dataset=dataset, data_collator=collator)
    if options.trainer == "hf":
        return transformers.Trainer(args=transformers.TrainingArguments(**settings), **common)
    from trl import SFTConfig, SFTTrainer

    settings["dataset_kwargs"] = {"skip_prepare_dataset": True}
    return SFTTrainer(args=SFTConfig(**settings), processing_class=placeholder_tokenizer(), **common)


def placeholder_tokenizer():
    """SFTTrainer wants a tokenizer even for ready-made tokens; this one only names the padding and end tokens."""
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, unk_token="<unk>"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<unk>", eos_token="</s>", bos_token="<s>", unk_token="<unk>")


def client_task(options, model, global_adapter, dataset, round_number, folder):
    """One client in one round; returns its adapter, losses by step and the rows in the order of training."""
    set_peft_model_state_dict(model, global_adapter)
    count = min(options.batch * options.steps, len(dataset))
    random.seed(round_number)
    part = dataset.select(random.sample(range(len(dataset)), count))
    rate = 1e-6 + (options.lr - 1e-6) * (1 + math.cos(math.pi * round_number / options.rounds)) / 2
    collator = Collator()
    trainer = new_trainer(options, model, part, rate, collator, folder)
    trainer.remove_callback(transformers.PrinterCallback)  # It would print every step on stdout.
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return copy.deepcopy(get_peft_model_state_dict(model)), losses, collator.order[: options.steps]


def average(adapters):
    """FedAvg of clients with as many rows each."""
    return {key: sum(a[key] for a in adapters) / len(adapters) for key in adapters[0]}


def run(options, folder):
    """Plays all rounds; prints a line a task and returns the seconds of each."""
    base = workload.base_model(options.shape, folder=options.folder)
    base.config.use_cache = False
    model = workload.with_lora(base, options.dropout)
    if options.checkpointing:
        model.enable_input_require_grads()
    rows = [
        workload.read_rows(options.folder) if options.folder else workload.token_rows(options.shape, options.rows, seed=100 + i)
        for i in range(options.clients)
    ]
    clients = [as_dataset(r) for r in rows]
    global_adapter = copy.deepcopy(get_peft_model_state_dict(model))
    seconds = []
    for round_number in range(options.rounds):
        adapters = []
        for client, dataset in enumerate(clients):
            start = time.perf_counter()
            adapter, losses, order = client_task(options, model, global_adapter, dataset, round_number, folder)
            seconds.append(time.perf_counter() - start)
            adapters.append(adapter)
            line = {"round": round_number, "client": client, "task_s": round(seconds[-1], 4), "losses": losses}
            print(json.dumps(line | ({"order": order} if options.folder else {})), flush=True)
        global_adapter = average(adapters)
        set_peft_model_state_dict(model, global_adapter)
    return seconds


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
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
