"""Tokens a second of one SFT step in Transformers + PEFT: forward, backward, clip, AdamW. `smollm2-real` takes four steps, one
on each of its batches, and its seconds are of all four.

    python benches/peer/peft_step.py --shape tiny --threads 2
    python benches/peer/peft_step.py --shape 160m --dtype bf16 --checkpointing

Prints one JSON object a repetition, and at last one with the best and the median of all.
"""

import argparse
import json
import statistics
import time

import peft
import torch
import transformers

import workload


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=workload.SHAPES, default="tiny")
    parser.add_argument("--dtype", choices=workload.DTYPES, default="f32")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations, as FedLLM-Bench does")
    parser.add_argument("--dropout", type=float, default=0.0, help="LoRA dropout; FedLLM-Bench: 0.05")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="measured steps a repetition")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the first repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--attention", default="sdpa", choices=["sdpa", "eager", "flash_attention_2"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compile", action="store_true", help="under torch.compile, whose two minutes are in the warm-up")
    parser.add_argument("--int8", action="store_true", help="bitsandbytes' LLM.int8() base with threshold 6.0, which needs bitsandbytes")
    parser.add_argument("--folder", help="a folder written by workload.py: its weights and rows are used")
    return parser.parse_args()


def prepared(options):
    """The model ready to train, its optimizer, and the batches."""
    base = workload.base_model(options.shape, options.dtype, options.device, options.folder)
    if options.int8:
        in_int8(base, options.device)
    base.set_attn_implementation(options.attention)
    base.config.use_cache = False
    model = workload.with_lora(base, options.dropout)
    if options.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=2e-5, weight_decay=0.0)
    count = workload.SHAPES[options.shape]["rows"]
    rows = workload.read_rows(options.folder) if options.folder else workload.token_rows(options.shape, count)
    batches = [workload.batch_tensors(batch, options.device) for batch in workload.batches(options.shape, rows)]
    return model, params, optimizer, batches


def in_int8(base, device):
    """Replaces the layers' linear modules by bitsandbytes' Linear8bitLt, as load_in_8bit does."""
    import bitsandbytes

    for layer in base.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, old in list(parent.named_children()):
                if isinstance(old, torch.nn.Linear):
                    new = bitsandbytes.nn.Linear8bitLt(old.in_features, old.out_features, old.bias is not None, has_fp16_weights=False, threshold=6.0)
                    new.load_state_dict(old.state_dict())
                    setattr(parent, name, new.to(device))


def step(model, params, optimizer, batch):
    """One training step; returns the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
    return loss.item()


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    model, params, optimizer, batches = prepared(options)
    if options.compile:
        model = torch.compile(model)

    def step_all():
        """A step on each of the batches; returns the loss before the last one."""
        return [step(model, params, optimizer, batch) for batch in batches][-1]

    losses = [step_all() for _ in range(options.warmup)]
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    seconds, busy = [], time.process_time()
    for repetition in range(options.repetitions):
        for _ in range(options.steps):
            start = time.perf_counter()
            losses.append(step_all())
            seconds.append(time.perf_counter() - start)
        mine = seconds[-options.steps :]
        print(json.dumps({"repetition": repetition, "best_s": round(min(mine), 5), "tokens_per_s": round(tokens / min(mine), 1)}), flush=True)
    summary = vars(options) | {
        "tokens_per_step": tokens,
        "cpu_s": round((time.process_time() - busy) / len(seconds), 5),
        "best_s": round(min(seconds), 5),
        "median_s": round(statistics.median(seconds), 5),
        "best_tokens_per_s": round(tokens / min(seconds), 1),
        "median_tokens_per_s": round(tokens / statistics.median(seconds), 1),
        "first_loss": losses[0],
        "peak_memory_bytes": peak_memory_bytes(options.device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }
    print(json.dumps(summary))


def peak_memory_bytes(device):
    """Most memory held so far: of the process on a CPU, of the allocator on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
