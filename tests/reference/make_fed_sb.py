"""Writes fixtures/reference/fed_sb.json: the initial adapter of Fed-SB, and gradients of its R, of two small models.

    python tests/reference/make_fed_sb.py fixtures/reference

All in f64, with torch's autograd and NumPy's singular value decomposition: the gradients of the whole weights of the adapted modules,
for batches of two rows; the step -eta sign(G); its first r singular values, and the nearest matrix of rank r; then, with one fixed
B, A and R, the gradients of R under W0 + s B R A, by replacing the weights by that sum.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call
from transformers import AutoModelForCausalLM

import compute
import decoder

CASES = ["mistral", "llama_linear"]
STEP_SIZE = 0.01
BATCHES = [[0, 1], [2, 3], [4]]


class Called:
    """A model with some of its weights replaced."""

    def __init__(self, model, weights):
        self.model, self.weights = model, weights

    def __call__(self, **inputs):
        return functional_call(self.model, self.weights, (), inputs)


def varied(rows, columns, start):
    """A matrix of numbers below 1/2 that f32 holds exactly."""
    places = (torch.arange(rows * columns, dtype=torch.int64) * 37 + start) % 101
    return ((places.double() - 50) / 128).view(rows, columns)


def adapted(model, targets):
    """The adapted weights by PEFT's order: layer by layer, in the order of computation."""
    return [name for name, _ in model.named_parameters() if name.split(".")[-2] in targets]


def case(folder):
    text = json.loads((folder / "case.json").read_text())
    rows, lora = text["rows"], text["lora"]
    model = decoder.widen(AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32))
    names = adapted(model, lora["target_modules"])
    weights = {name: model.get_parameter(name).detach().requires_grad_() for name in names}
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for batch in BATCHES:
        loss, _ = compute.batch_loss(Called(model, weights), [rows[place] for place in batch])
        for name, gradient in zip(names, torch.autograd.grad(loss / len(batch), list(weights.values()))):
            sums[name] += gradient
    rank, scale = lora["r"], lora["alpha"] / lora["r"]
    modules = []
    trained = {}
    for number, name in enumerate(names):
        step = -STEP_SIZE * np.sign(sums[name].numpy())
        u, s, v = np.linalg.svd(step)
        best = (u[:, :rank] * s[:rank]) @ v[:rank]
        modules.append(
            {
                "path": name.removesuffix(".weight"),
                "shape": list(step.shape),
                "gradient_sum": float(sums[name].sum()),
                "gradient_norm": float(sums[name].norm()),
                "least_gradient": float(sums[name].abs().min()),
                "values": s[: rank + 1].tolist(),
                "best_rows": best[:3].tolist(),
            }
        )
        outputs, inputs = step.shape
        parts = varied(outputs, rank, number), varied(rank, rank, 7 + number), varied(rank, inputs, 3 + number)
        trained[name] = [parts[0], parts[1].requires_grad_(), parts[2]]
    with_r = {name: weights[name].detach() + scale * (b @ r @ a) for name, (b, r, a) in trained.items()}
    loss, _ = compute.batch_loss(Called(model, with_r), [rows[place] for place in BATCHES[0]])
    for module, gradient in zip(modules, torch.autograd.grad(loss, [trained[name][1] for name in names])):
        module["r_gradient"] = gradient.flatten().tolist()
    return {"batches": BATCHES, "step_size": STEP_SIZE, "r_loss": loss.item(), "modules": modules}


def main(folder):
    out = {name: case(folder / name) for name in CASES}
    (folder / "fed_sb.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
