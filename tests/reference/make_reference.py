"""Makes fixtures/reference: numbers of Transformers and PEFT that the training engine is compared with.

    python -m venv .venv && .venv/bin/pip install -r tests/reference/requirements.txt
    .venv/bin/python tests/reference/make_reference.py [--out fixtures/reference] [--case NAME]

Two runs on one machine write the same bytes. fixtures/reference/README.md says what each file and name means.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import cases
import compute
import decoder

R, ALPHA = 4, 12
LOGIT_ROWS = 3
LOSS_BATCHES = [[0, 1], [2, 3, 4], [5]]
NEW_TOKENS = 20
# In which precisions: file stem -> type.
PRECISIONS = {"expected_f32": torch.float32, "expected_f64": torch.float64}


def base_model(folder, dtype):
    """The base model in `dtype`; in f64 nothing of it is computed in f32."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    return decoder.widen(model) if dtype == torch.float64 else model


def with_adapter(folder, name, dtype):
    """The base with the adapter of folder `name`, ready to train."""
    model = PeftModel.from_pretrained(base_model(folder, dtype), folder / name, is_trainable=True)
    assert all(p.dtype == dtype for p in compute.trainable(model).values())
    return model.eval()


def write_adapters(case, folder):
    """Writes adapter_zero (B = 0, as training starts) and adapter (B random), both with PEFT's own writer."""
    config = LoraConfig(
        r=R, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", target_modules=case.targets, task_type="CAUSAL_LM"
    )
    model = get_peft_model(base_model(folder, torch.float32), config)
    draw = cases.generator(case, "adapter")
    params = sorted(compute.trainable(model).items())
    values = {key: torch.randn(p.shape, generator=draw) for key, p in params}
    scale_random_b = 0.15 if len(case.targets) == 2 else 0.07
    # A starts so small that the gradient norm passes the clipping norm only after some steps.
    for name, scale_a, scale_b in (("adapter_zero", 0.01, 0.0), ("adapter", 0.1, scale_random_b)):
        with torch.no_grad():
            for key, p in params:
                p.copy_(values[key] * (scale_b if ".lora_B." in key else scale_a))
        model.save_pretrained(folder / name)
        tidy_adapter(folder / name)


def tidy_adapter(folder):
    """Drops PEFT's model card and what would differ from run to run: set order and the base model's path."""
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = "../model"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def expected(case, folder, rows, plan, pairs, dtype):
    """Every number of one case in one precision: name -> tensor."""
    numbers = {}
    base, lora = base_model(folder, dtype).eval(), with_adapter(folder, "adapter", dtype)
    with torch.no_grad():
        for prefix, model in (("base", base), ("lora", lora)):
            for i in range(LOGIT_ROWS):
                numbers[f"{prefix}.logits.{i}"] = compute.row_logits(model, rows[i])
            losses = [compute.batch_loss(model, [rows[i] for i in b])[0] for b in LOSS_BATCHES]
            numbers[f"{prefix}.loss"] = torch.stack(losses)
    for prefix, name in (("grad_zero.", "adapter_zero"), ("grad.", "adapter")):
        model = with_adapter(folder, name, dtype)
        loss, _ = compute.batch_loss(model, [rows[i] for i in LOSS_BATCHES[0]])
        numbers |= compute.gradients(model, loss, prefix)
    for optimizer in case.optimizers:
        numbers |= compute.train(with_adapter(folder, "adapter_zero", dtype), rows, plan, optimizer)
    numbers |= compute.preference(lora, pairs)
    numbers["rslora.loss"] = rank_stabilised_loss(lora, [rows[i] for i in LOSS_BATCHES[0]])
    return {name: t.detach().contiguous() for name, t in numbers.items()}


def rank_stabilised_loss(model, rows):
    """Loss of the same adapter scaled by alpha / sqrt(r), as PEFT does under use_rslora."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.scaling["default"] = ALPHA / R**0.5
    with torch.no_grad():
        return compute.batch_loss(model, rows)[0][None]


def generate(model, prompt):
    """Greedy tokens by Transformers' generate, and the smallest lead of a chosen token's logit over the second."""
    ids = torch.tensor([prompt])
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS, eos_token_id=None, pad_token_id=0,
    )[0].tolist()
    leads = []
    for end in range(len(prompt), len(out)):
        with torch.no_grad():
            best = compute.row_logits(model, {"ids": out[:end]})[-1].topk(2)
        assert best.indices[0] == out[end], "generate with its cache differs from plain decoding"
        leads.append((best.values[0] - best.values[1]).item())
    assert min(leads) > 1e-3, f"a tie decides a generated token: lead {min(leads)}"
    return {"ids": out[len(prompt):], "smallest_lead": round(min(leads), 6)}


def check(case, folder, rows, numbers):
    """Requires that the numbers agree with two other ways to get them, and that they exercise what they should."""
    scaling = ALPHA / R
    base = base_model(folder, torch.float32)
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    f32, f64 = numbers["expected_f32"], numbers["expected_f64"]
    for i in range(LOGIT_ROWS):
        for prefix, extra in (("base", {}), ("lora", adapter)):
            name = f"{prefix}.logits.{i}"
            witness = decoder.plain_logits(base, extra, scaling, rows[i]["ids"])
            assert (witness - f64[name]).abs().max() < 1e-11, f"{case.name}: {name} is not f64 throughout"
            assert (f32[name] - f64[name]).abs().max() < 1e-5 * f64[name].abs().max(), name
    model = with_adapter(folder, "adapter", torch.float32)
    for batch, loss in zip(LOSS_BATCHES, f32["lora.loss"]):
        assert (compute.padded_loss(model, [rows[i] for i in batch]) - loss).abs() < 2e-6, "padding matters"
    norms = f64["train.adamw.grad_norm"] / compute.CLIP_NORM
    assert norms.min() < 0.9 and norms.max() > 1.2, f"{case.name}: clipping must act at some steps: {norms.tolist()}"
    for key, g in f64.items():
        if "grad" in key and ".lora_" in key:
            is_zero = key.startswith("grad_zero.") and ".lora_A." in key
            assert bool((g == 0).all()) == is_zero, key


def report(case, folder, numbers):
    """Prints how far f32 is from f64: what a comparison in f32 can ask for at most."""
    f32, f64 = numbers["expected_f32"], numbers["expected_f64"]
    relative = {k: ((f32[k] - f64[k]).abs().max() / f64[k].abs().max().clamp(min=1e-30)).item() for k in f64}
    worst = max((k for k in f64 if not k.startswith("train.")), key=relative.get)
    print(f"{case.name}: worst f32 error outside training {relative[worst]:.1e} of the maximum ({worst})")
    start = load_file(folder / "adapter_zero" / "adapter_model.safetensors")
    for optimizer in case.optimizers:
        prefix = f"train.{optimizer}."
        keys = sorted(start)
        update = torch.cat([(f64[f"{prefix}adapter.{k}"] - start[k]).flatten() for k in keys])
        error = torch.cat([(f32[f"{prefix}adapter.{k}"] - f64[f"{prefix}adapter.{k}"]).flatten() for k in keys])
        norms = " ".join(f"{n:.2f}" for n in f64[prefix + "grad_norm"].tolist())
        losses = f64[prefix + "micro_loss"].mean(1)
        print(
            f"  {optimizer}: update norm {update.norm():.4f}, f32 off by {error.norm() / update.norm():.1e}, "
            f"loss {losses[0]:.4f} -> {losses[-1]:.4f}, gradient norms {norms}"
        )


def make(case, out):
    """Writes the folder of one case."""
    folder = out / case.name
    shutil.rmtree(folder, ignore_errors=True)
    cases.write_model(case, folder / "model")
    write_adapters(case, folder)
    rows, plan, pairs = cases.training_rows(case), cases.training_plan(case), cases.preference_pairs(case)
    prompt = cases.generation_prompt(case)
    numbers = {
        stem: expected(case, folder, rows, plan, pairs, dtype) for stem, dtype in PRECISIONS.items()
    }
    check(case, folder, rows, numbers)
    for stem, tensors in numbers.items():
        save_file(tensors, folder / f"{stem}.safetensors")
    description = {
        "case": case.name,
        "rows": rows,
        "loss_batches": LOSS_BATCHES,
        "gradient_batch": LOSS_BATCHES[0],
        "lora": {"r": R, "alpha": ALPHA, "scaling": ALPHA / R, "target_modules": case.targets},
        "train": {
            "steps": plan,
            "clip_norm": compute.CLIP_NORM,
            "start": "adapter_zero",
            "optimizers": {name: compute.OPTIMIZERS[name] for name in case.optimizers},
        },
        "dpo": {"beta": compute.BETA, "adapter": "adapter", "pairs": pairs},
        "generation": {
            "prompt": prompt,
            "base": generate(base_model(folder, torch.float32).eval(), prompt),
            "adapter": generate(with_adapter(folder, "adapter", torch.float32), prompt),
        },
    }
    (folder / "case.json").write_text(json.dumps(description, separators=(",", ":"), sort_keys=True) + "\n")
    report(case, folder, numbers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "fixtures" / "reference")
    parser.add_argument("--case", help="make this case only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for case in cases.CASES:
        if options.case in (None, case.name):
            make(case, options.out)


if __name__ == "__main__":
    main()
