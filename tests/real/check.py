"""Compares FedReplay with Transformers and PEFT on a real model: losses of held-out rows, greedy answers, and a trained adapter.

    .venv-peer/bin/python tests/real/check.py target/release/fedreplay models/smollm2-135m-instruct.gguf models/smollm2-135m-instruct

The peer reads the GGUF file itself, so that the import of FedReplay is compared too. Rows are the chats beside this file, which
are as chats are found (turns out of order, special tokens in the text), and questions of FEDREPLAY_REAL_DATA in eight languages,
or of fixtures/skills without it. Exits with 1 if something differs by more than the limits below.
"""

import collections
import csv
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import gguf as gguf_package
import pyarrow.parquet as parquet
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parent.parent.parent
LOSS_LIMIT = 1e-5  # nats/token
ADAPTER_LIMIT = 1e-4  # relative Frobenius norm
STEPS = 2
# AdamW divides by the size of a gradient: with 1e-8, gradients that are rounding noise may count as much as the others.
EPSILON = 1e-5
BATCH = 3
LENGTH = 96
ANSWER_TOKENS = 16
QUESTIONS = [
    ["What is the capital of France?", "And which river flows through it?"],
    ["List three animals that live in the sea.", "Which of them is the largest?"],
    ["Write one sentence about the moon.", "Now write it as a question."],
    ["What is 12 plus 30?", "Subtract 2 from that."],
    ["Translate 'good morning' to Spanish.", "And to German?"],
]
ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant"}
SCENARIO = """(
    name: "check", seed: 1, rounds: 1,
    model: (folder: "{model}", lora: (rank: 8, alpha: 16, target_modules: ["q_proj", "v_proj"], initial: Some("initial"))),
    data: (
        file: "train.json", test_file: "test.json", template: Chat, max_seq_length: {length},
        bad_rows: Skip, special_tokens_in_text: AsText,
    ),
    // One step reads all rows, in two micro-batches.
    training: (local_steps: {steps}, batch_size: {batch}, gradient_accumulation: 2, lr: 1e-3, optimizer: AdamW(epsilon: {epsilon})),
    algorithm: FedAvg(weights: Samples),
    server: (protocol: Synchronous(clients_per_round: 1), downlink: "1 Gbit/s", uplink: "1 Gbit/s"),
    population: (
        devices: {{"one": (speed: "1 TFLOP/s")}},
        links: {{"one": (down: "1 Gbit/s", up: "1 Gbit/s", latency: "1ms")}},
        mix: [(share: 1, device: "one", link: "one")],
    ),
)
"""


class Peer:
    """The model as Transformers reads it in the GGUF file."""

    def __init__(self, gguf):
        torch.set_num_threads(2)
        # Config, weights and tokenizer are read separately, and reading the vocabulary takes seconds each time.
        gguf_package.GGUFReader = functools.cache(gguf_package.GGUFReader)
        config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
        self.model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, config=config, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, config=config)
        # SmolLM splits numbers into digits, which Transformers does not read in the file.
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        self.tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)

    def encoded(self, messages, prompt):
        """Ids of what the chat template writes. A mark takes the place of each text, so that the template's tokens are told apart."""
        marked = [{**message, "content": f"\ue000{index}\ue001"} for index, message in enumerate(messages)]
        written = self.tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=prompt)
        ids = []
        for piece in re.split(r"(<\|im_start\|>|<\|im_end\|>)", written):
            if piece.startswith("<|"):
                ids.append(self.tokenizer.convert_tokens_to_ids(piece))
            else:
                text = re.sub("\ue000([0-9]+)\ue001", lambda mark: messages[int(mark[1])]["content"], piece)
                # Special tokens that a text spells stay text.
                ids += self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return ids

    def example(self, row):
        """Ids and labels of a row: each answer is learned, with the end of its turn."""
        messages = [{"role": ROLES[message["from"]], "content": message["value"]} for message in row["conversations"]]
        if messages[0]["role"] == "assistant":
            del messages[0]
        if messages[-1]["role"] == "user":
            del messages[-1]
        ids = self.encoded(messages, False)
        labels = [-100] * len(ids)
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                answer = slice(len(self.encoded(messages[:index], True)), len(self.encoded(messages[: index + 1], False)))
                labels[answer] = ids[answer]
        return ids[:LENGTH], labels[:LENGTH]

    def sums(self, model, examples):
        """Sum of the losses of all learned tokens, in double precision, and their number."""
        total, count = 0.0, 0
        for ids, labels in examples:
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
            targets = torch.tensor(labels[1:])
            total = total + torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
            count += int((targets != -100).sum())
        return total, count

    def loss(self, model, examples):
        with torch.no_grad():
            total, count = self.sums(model, examples)
        return float(total) / count

    def answers(self):
        """Greedy answers to all turns, each after the model's own earlier answers."""
        found = []
        for turns in QUESTIONS:
            messages = []
            for turn in turns:
                messages.append({"role": "user", "content": turn})
                ids = torch.tensor([self.encoded(messages, True)])
                mask = torch.ones_like(ids)
                made = self.model.generate(ids, attention_mask=mask, max_new_tokens=ANSWER_TOKENS, do_sample=False, pad_token_id=2, eos_token_id=2)
                text = self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
                messages.append({"role": "assistant", "content": text})
                found.append(text)
        return found

    def initial_adapter(self, folder):
        """Adds an adapter whose B is not zero, and saves it."""
        torch.manual_seed(1)
        config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(self.model, config)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if ".lora_B." in name:
                    weight.normal_(0, 0.01)
        model.save_pretrained(folder)
        return model

    def train(self, model, examples):
        """Full-batch steps by hand: the mean over tokens, the norm clipped to 1, AdamW without decay."""
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=1e-3, eps=EPSILON, weight_decay=0.0)
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            total, count = self.sums(model, examples)
            (total / count).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()


class Report:
    """Prints each comparison with the seconds since the one before, and remembers whether one differed."""

    def __init__(self):
        self.differs = False
        self.last = time.monotonic()

    def line(self, what, is_good):
        now = time.monotonic()
        print(f"{'ok     ' if is_good else 'DIFFERS'} {what} ({now - self.last:.0f} s)", flush=True)
        self.last = now
        self.differs = self.differs or not is_good


def real_rows(peer):
    """Two rows to train on and eight held out, whose prompts are shorter than the limit of length."""
    real = os.environ.get("FEDREPLAY_REAL_DATA")
    path = Path(real) / "fed/aya_8c_160.json" if real else ROOT / "fixtures/skills/train.json"
    found = []
    for client in json.loads(path.read_text()).values():
        rows = [{"conversations": [{"from": "human", "value": row["instruction"]}, {"from": "gpt", "value": row["response"]}]} for row in client]
        fitting = [row for row in rows if any(label != -100 for label in peer.example(row)[1][:-8])]
        found += fitting[:2]
    return found[:2], found[2:10]


def fedreplay(program, *arguments, cwd):
    done = subprocess.run([program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: fedreplay {arguments[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


def their_losses(program, work):
    """Losses of the test rows before and after the round."""
    fedreplay(program, "export", "run", "--to", "csv", "--out", "csv", cwd=work)
    with open(work / "csv/evaluations.csv", newline="") as file:
        found = {int(row["round"]): float(row["loss"]) for row in csv.DictReader(file) if row["split"] == "test" and row["subject"] == "global"}
    return found[0], found[1]


def their_answers(program, work, model):
    folder = work / "questions/mt-bench"
    folder.mkdir(parents=True)
    # The answers of this category are greedy.
    lines = [json.dumps({"question_id": index + 1, "category": "extraction", "turns": turns}) for index, turns in enumerate(QUESTIONS)]
    (folder / "question.jsonl").write_text("\n".join(lines) + "\n")
    # The file of references must be there; these belong to no question.
    reference = {"question_id": 0, "choices": [{"turns": ["", ""]}]}
    (folder / "reference_answers.jsonl").write_text(json.dumps(reference) + "\n")
    fedreplay(program, "eval", model, "--bench", "mt-bench", "--data", "questions", "--template", "chat", "--answer-tokens-max", ANSWER_TOKENS,
              "--out", "answers", "--store", "none", cwd=work)
    table = parquet.read_table(work / "answers/generations.parquet").to_pylist()
    rows = {(row["question"], row["turn"]): row["answer"] for row in table}
    return [rows[str(index + 1), turn + 1] for index, turns in enumerate(QUESTIONS) for turn in range(len(turns))]


def distance(ours, theirs):
    """Distance of all tensors in relative Frobenius norm."""
    if ours.keys() != theirs.keys():
        sys.exit(f"error: the adapters have different tensors: {sorted(ours.keys() ^ theirs.keys())[:4]}")
    difference = sum(((ours[key].double() - theirs[key].double()) ** 2).sum() for key in ours)
    return float((difference / sum((theirs[key].double() ** 2).sum() for key in theirs)).sqrt())


def compare_answers(report, peer, program, work, model):
    ours, theirs = peer.answers(), their_answers(program, work, model)
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    report.line(f"{same} of {len(ours)} greedy answers of up to {ANSWER_TOKENS} tokens are the same", same == len(ours))
    for peers, found in zip(ours, theirs):
        if peers != found:
            print(f"        {peers!r}\n        {found!r}")


def compare_training(report, peer, program, work, model):
    chats = json.loads((ROOT / "tests/real/chats.json").read_text())
    used = [row for row in chats if row["expected"] == "used"]
    train, test = real_rows(peer)
    (work / "train.json").write_text(json.dumps({"one": chats + train}))
    (work / "test.json").write_text(json.dumps(test))
    trained = peer.initial_adapter(work / "initial")
    (work / "scenario.ron").write_text(SCENARIO.format(model=model, length=LENGTH, steps=STEPS, batch=BATCH, epsilon=EPSILON))
    fedreplay(program, "run", "scenario.ron", "--out", "run", "--store", "none", cwd=work)
    left_out = json.loads((work / "run/manifest.json").read_text())["left_out"]["data"]["reasons"]
    expected = collections.Counter(row["expected"] for row in chats if row["expected"] != "used")
    report.line(f"rows of chats that are left out: {left_out}, expected {dict(expected)}", left_out == expected)

    examples = [peer.example(row) for row in used + train]
    assert len(examples) == 2 * BATCH
    held_out = [peer.example(row) for row in test]
    before, after = their_losses(program, work)
    peers_before = peer.loss(trained, held_out)
    start = {key: value.clone() for key, value in get_peft_model_state_dict(trained).items()}
    peer.train(trained, examples)
    peers_after = peer.loss(trained, held_out)
    report.line(f"loss of {len(test)} held-out rows before training: {before:.7f}, by Transformers {peers_before:.7f}", abs(before - peers_before) <= LOSS_LIMIT)
    report.line(f"the same after {STEPS} steps: {after:.7f}, by Transformers and PEFT {peers_after:.7f}", abs(after - peers_after) <= LOSS_LIMIT)
    written = load_file(next((work / "run/adapters").rglob("adapter_model.safetensors")))
    found = distance(written, get_peft_model_state_dict(trained))
    moved = distance(get_peft_model_state_dict(trained), start)
    report.line(f"trained adapter: {found:.1e} apart in relative Frobenius norm, training moved it by {moved:.1e}", found <= ADAPTER_LIMIT < moved / 10)


def main():
    warnings.simplefilter("ignore")
    program, gguf, model = (Path(argument).resolve() for argument in sys.argv[1:4])
    report = Report()
    peer = Peer(gguf)
    with tempfile.TemporaryDirectory() as folder:
        compare_answers(report, peer, program, Path(folder), model)
        compare_training(report, peer, program, Path(folder), model)
    sys.exit(report.differs)


if __name__ == "__main__":
    main()
