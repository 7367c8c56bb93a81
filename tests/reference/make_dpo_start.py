"""Writes fixtures/reference/dpo_from_adapter.json: preference training whose reference is the adapter that it starts from.

    python tests/reference/make_dpo_start.py fixtures/reference

Model, adapter and pairs are those of the case `llama`. Four steps of plain descent on all pairs, in f64, written out by hand
as in TRL, whose reference is the model that training starts from.
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

import compute
from make_reference import with_adapter

STEPS = 4
RATE = 0.05


def main(folder):
    case = json.loads((folder / "llama" / "case.json").read_text())
    pairs = case["dpo"]["pairs"]
    policy = with_adapter(folder / "llama", "adapter", torch.float64)
    reference = with_adapter(folder / "llama", "adapter", torch.float64)

    def summed(model, side):
        return torch.stack([compute.target_log_probs(model, pair[side]).sum() for pair in pairs])

    with torch.no_grad():
        at_start = {side: summed(reference, side) for side in ("chosen", "rejected")}
    params = list(compute.trainable(policy).values())
    steps = []
    for _ in range(STEPS):
        rewards = {side: compute.BETA * (summed(policy, side) - at_start[side]) for side in ("chosen", "rejected")}
        loss = -F.logsigmoid(rewards["chosen"] - rewards["rejected"]).mean()
        steps.append({"loss": loss.item()} | {side: value.mean().item() for side, value in rewards.items()})
        with torch.no_grad():
            for parameter, gradient in zip(params, torch.autograd.grad(loss, params)):
                parameter -= RATE * gradient
    out = {"beta": compute.BETA, "rate": RATE, "steps": steps}
    (folder / "dpo_from_adapter.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
