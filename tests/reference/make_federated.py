"""Makes fixtures/federated: FedLLM-Bench's loop on a tiny model, with Transformers and PEFT.

    python -m venv .venv && .venv/bin/pip install -r tests/reference/requirements.txt
    .venv/bin/python tests/reference/make_federated.py [--out fixtures/federated]

The loop follows the description of FedLLM-Bench's code in its published form: clients and rows sampled by Python's
`random` seeded with the round, PyTorch's shuffle from seed 42, a new optimiser for each client and round
(`transformers.AdamW`, written out below since later releases dropped it), clipping at norm 1, a cosine learning rate
over rounds, and the aggregation rules of `fed_global.py`. Dropout is 0. Two runs on one machine write the same bytes.
"""

import argparse
import json
import math
import random
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parents[2]
R, ALPHA = 2, 4
ROUNDS, SAMPLED, STEPS, BATCH, ACCUMULATION, MAX_TOKENS = 3, 2, 3, 2, 2, 160
LR, LR_MIN = 5e-3, 1e-6
MU, BETA1, BETA2, ETA, TAU = 0.01, 0.5, 0.99, 1e-3, 1e-3
# The third client has fewer rows than a task trains on.
SIZES = [20, 14, 7, 30]
METHODS = ["fedavg", "fedprox", "fedavgm", "fedadam", "scaffold"]


def federation():
    """The first rows of the first clients of fixtures/skills."""
    clients = json.loads((HERE / "fixtures/skills/train.json").read_text())
    return {name: rows[:size] for (name, rows), size in zip(clients.items(), SIZES)}


def encode(tokenizer, row):
    """Ids and labels of one row: all of the response is learnt, with the end of the sequence."""
    prompt = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        f"\n\n### Instruction:\n{row['instruction']} \n\n### Response:"
    )
    encoded = tokenizer(f"{prompt} {row['response']}", return_offsets_mapping=True, add_special_tokens=False)
    ids = [tokenizer.bos_token_id] + encoded["input_ids"] + [tokenizer.eos_token_id]
    # Offsets count characters, as `len` does.
    learnt = [False] + [end > len(prompt) for _, end in encoded["offset_mapping"]] + [True]
    labels = [token if keep else -100 for token, keep in zip(ids, learnt)]
    return ids[:MAX_TOKENS], labels[:MAX_TOKENS]


def collate(rows):
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows])
    labels = torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


class HfAdamW:
    """`transformers.AdamW` of releases before 5: epsilon on the uncorrected root."""

    def __init__(self, parameters, lr):
        self.parameters, self.lr, self.t = parameters, lr, 0
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]

    def step(self):
        self.t += 1
        step = self.lr * math.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        with torch.no_grad():
            for p, m, v in zip(self.parameters, self.first, self.second):
                m.mul_(0.9).add_(p.grad, alpha=0.1)
                v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                p.addcdiv_(m, v.sqrt().add_(1e-8), value=-step)


class Loop:
    """One federated run."""

    def __init__(self, method, model, data, initial):
        self.method, self.model, self.data = method, model, data
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.server = {name: value.clone() for name, value in initial.items()}
        zeros = lambda: {name: torch.zeros_like(value) for name, value in initial.items()}
        self.m, self.v = zeros(), {name: torch.full_like(value, TAU**2) for name, value in initial.items()}
        self.c, self.c_i = zeros(), [zeros() for _ in data]

    def load(self, values):
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(values[name])

    def train(self, client, t, lr):
        """Returns the client's adapter and its losses, one a step."""
        rows = self.data[client]
        random.seed(t)
        rows = [rows[i] for i in random.sample(range(len(rows)), min(BATCH * ACCUMULATION * STEPS, len(rows)))]
        self.load(self.server)
        parameters = list(self.parameters.values())
        optimiser = HfAdamW(parameters, lr)
        correction = {name: self.c[name] - self.c_i[client][name] for name in self.c}
        torch.manual_seed(42)
        loader = DataLoader(rows, batch_size=BATCH, shuffle=True, collate_fn=collate)
        losses, loss_of_step, seen = [], 0.0, 0
        while len(losses) < STEPS:
            for index, batch in enumerate(loader):
                loss = self.model(**batch).loss
                loss_of_step += loss.item() / ACCUMULATION
                if self.method == "fedprox":
                    for name, p in self.parameters.items():
                        loss = loss + MU / 2 * (p - self.server[name]).pow(2).sum()
                (loss / ACCUMULATION).backward()
                seen += 1
                ends_short_epoch = len(loader) <= ACCUMULATION and index + 1 == len(loader)
                if seen % ACCUMULATION == 0 or ends_short_epoch:
                    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                    optimiser.step()
                    for p in parameters:
                        p.grad = None
                    if self.method == "scaffold":
                        with torch.no_grad():
                            for name, p in self.parameters.items():
                                p.sub_(lr * correction[name])
                    losses.append(loss_of_step)
                    loss_of_step = 0.0
                    if len(losses) == STEPS:
                        break
        trained = {name: p.detach().clone() for name, p in self.parameters.items()}
        if self.method == "scaffold":
            after = {n: (self.server[n] - trained[n]) / (STEPS * lr) - correction[n] for n in trained}
            delta = {n: after[n] - self.c_i[client][n] for n in trained}
            self.c_i[client] = after
            return trained, losses, delta
        return trained, losses, None

    def aggregate(self, t, clients, trained, deltas):
        sizes = [len(self.data[client]) for client in clients]
        by_size = lambda name: sum(n / sum(sizes) * x[name] for n, x in zip(sizes, trained))
        for name, before in self.server.items():
            if self.method == "fedavgm":
                change = by_size(name) - before
                self.m[name] = change if t == 0 else BETA1 * self.m[name] + (1 - BETA1) * change
                self.server[name] = before + self.m[name]
            elif self.method == "fedadam":
                change = sum(x[name] - before for x in trained) / len(trained)
                self.m[name] = change if t == 0 else BETA1 * self.m[name] + (1 - BETA1) * change
                self.v[name] = BETA2 * self.v[name] + (1 - BETA2) * self.m[name] ** 2
                self.server[name] = before + ETA * self.m[name] / (self.v[name].sqrt() + TAU)
            else:
                self.server[name] = by_size(name)
            if self.method == "scaffold":
                self.c[name] = self.c[name] + sum(delta[name] for delta in deltas) / len(self.data)

    def run(self):
        rounds = []
        for t in range(ROUNDS):
            lr = LR_MIN + 0.5 * (LR - LR_MIN) * (1 + math.cos(math.pi * t / ROUNDS))
            random.seed(t)
            clients = sorted(random.sample(range(len(self.data)), SAMPLED))
            results = [self.train(client, t, lr) for client in clients]
            self.aggregate(t, clients, [r[0] for r in results], [r[2] for r in results])
            losses = {str(client): result[1] for client, result in zip(clients, results)}
            adapter = {name: value.clone() for name, value in self.server.items()}
            rounds.append({"lr": lr, "losses": losses, "adapter": adapter})
        return rounds


def peft_name(name):
    return name.replace(".default", "")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", type=Path, default=HERE / "fixtures/federated")
    out = arguments.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    base = HERE / "fixtures/tiny-base"
    tokenizer = AutoTokenizer.from_pretrained(base)
    clients = federation()
    (out / "data.json").write_text(json.dumps(clients, indent=1, ensure_ascii=False) + "\n")
    data = [[encode(tokenizer, row) for row in rows] for rows in clients.values()]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(
        r=R, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    torch.manual_seed(7)
    model = get_peft_model(model, config).train()
    initial = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    model.save_pretrained(out / "initial")
    (out / "initial/README.md").unlink()
    path = out / "initial/adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = "tiny-base"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    expected = {}
    for method in METHODS:
        rounds = Loop(method, model, data, initial).run()
        expected[method] = [{"lr": r["lr"], "losses": r["losses"]} for r in rounds]
        tensors = {f"{t}.{peft_name(n)}": v for t, r in enumerate(rounds) for n, v in sorted(r["adapter"].items())}
        save_file(tensors, out / f"{method}.safetensors")
    (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
