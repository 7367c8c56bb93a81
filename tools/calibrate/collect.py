#!/usr/bin/env python3
"""Measures training steps with Transformers and PEFT, and writes them as a table for `fedreplay calibrate --from`.

    python tools/calibrate/collect.py MODEL --rank 8 --rows 1,2,4 --lengths 32,128,512 --out steps.parquet
    fedreplay calibrate --from steps.parquet --out phone.ron

MODEL is a folder, or a name on the hub. It runs wherever PyTorch, Transformers, PEFT and pyarrow do: on a CPU, with --device cuda on a GPU
of NVIDIA or AMD, with --device mps on one of Apple. Rows are random tokens that are all learned. Each shape is run once before any is timed, and the
repeats go in rounds over all shapes. docs/calibrate.md has the columns of the table.
"""

import argparse
import datetime
import platform
import sys
import time
from pathlib import Path

import peft
import pyarrow
import pyarrow.parquet
import torch
import transformers

DTYPES = {"F32": torch.float32, "Bf16": torch.bfloat16}
# Steps of one repeat are timed until this many seconds are over.
LEAST_SECONDS = 0.5


def numbers(text):
    values = sorted({int(value) for value in text.split(",")})
    if not values or values[0] < 1:
        raise argparse.ArgumentTypeError("whole numbers above 0 are needed, separated by commas")
    return values


def shapes_held_out(text):
    """Shapes such as 3x96,2x200."""
    shapes = [tuple(int(number) for number in shape.split("x")) for shape in text.split(",") if shape]
    if any(len(shape) != 2 or min(shape) < 1 for shape in shapes):
        raise argparse.ArgumentTypeError("shapes such as 3x96 are needed, rows x tokens, separated by commas")
    return shapes


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of the base model, or its name on the hub")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--rank", type=numbers, default=[8], metavar="N,...", help="ranks of the adapter [default: 8]")
    parser.add_argument("--targets", default="q_proj,v_proj", help="modules with an adapter [default: q_proj,v_proj]")
    parser.add_argument("--rows", type=numbers, default=[1, 2, 4], metavar="N,...", help="rows of a micro-batch [default: 1,2,4]")
    parser.add_argument("--lengths", type=numbers, default=[32, 80, 200, 512], metavar="N,...", help="tokens of a row [default: 32,80,200,512]")
    parser.add_argument("--held-out", type=shapes_held_out, default=[], metavar="RxL,...", help="shapes that the fit must not see")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all shapes [default: 3]")
    parser.add_argument("--precision", choices=DTYPES, default="F32", help="number format of weights and arithmetic [default: F32]")
    parser.add_argument("--optimizer", choices=["AdamW", "Sgd"], default="AdamW")
    parser.add_argument("--recomputation", action="store_true", help="gradient checkpointing")
    parser.add_argument("--device", default="cpu", help="device of PyTorch [default: cpu]")
    parser.add_argument("--device-name", help="name of the device in the profile [default: what the system says]")
    parser.add_argument("--threads", type=int, help="threads on a CPU [default: PyTorch's choice]")
    parser.add_argument("--workers", type=int, default=1, help="trainings on the device at the same time, of which this is one: a note in the profile")
    chosen = parser.parse_args()
    if len(chosen.lengths) < 2 or chosen.lengths[0] < 2:
        parser.error("--lengths: at least two, of at least 2 tokens")
    for rows, length in chosen.held_out:
        is_inside = chosen.rows[0] <= rows <= chosen.rows[-1] and chosen.lengths[0] <= length <= chosen.lengths[-1]
        if not is_inside or (rows in chosen.rows and length in chosen.lengths):
            parser.error(f"--held-out {rows}x{length}: a shape between the others is needed")
    if chosen.repeats < 1:
        parser.error("--repeats: at least 1")
    return chosen


def device_name(chosen):
    if chosen.device_name:
        return chosen.device_name
    if chosen.device.startswith("cuda"):
        return torch.cuda.get_device_name(chosen.device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model")))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine() or "unknown"


class Peak:
    """The greatest memory since the last reset: of the process on a CPU under Linux, of tensors on a GPU of CUDA; else None."""

    def __init__(self, device):
        self.is_cuda = device.startswith("cuda")
        self.is_cpu = device == "cpu"

    def reset(self):
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats()
        elif self.is_cpu:
            try:
                Path("/proc/self/clear_refs").write_text("5")
            except OSError:
                # The peak would be that of loading the model.
                self.is_cpu = False

    def bytes(self):
        if self.is_cuda:
            return torch.cuda.max_memory_allocated()
        if not self.is_cpu:
            return None
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


def synchronize(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    elif device.startswith("mps"):
        torch.mps.synchronize()


class Bench:
    """One model with an adapter of one rank at a time."""

    def __init__(self, chosen):
        self.chosen = chosen
        self.base = transformers.AutoModelForCausalLM.from_pretrained(chosen.model, dtype=DTYPES[chosen.precision]).to(chosen.device)
        self.base.config.use_cache = False
        self.peak = Peak(chosen.device)
        self.rank = None

    def prepare(self, rank):
        if self.rank == rank:
            return
        if self.rank is not None:
            self.base = self.model.unload()
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=self.chosen.targets.split(","), task_type="CAUSAL_LM")
        self.model = peft.get_peft_model(self.base, config)
        if self.chosen.recomputation:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            self.model.enable_input_require_grads()
        self.model.train()
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        rule = torch.optim.AdamW if self.chosen.optimizer == "AdamW" else torch.optim.SGD
        self.optimizer = rule(self.parameters, lr=1e-4)
        self.rank = rank

    def step(self, rows, length):
        """Seconds of a micro-batch and of the update after it."""
        device = self.chosen.device
        ids = torch.randint(self.base.config.vocab_size, (rows, length), device=device)
        synchronize(device)
        began = time.perf_counter()
        self.model(input_ids=ids, labels=ids).loss.backward()
        synchronize(device)
        micro_batch = time.perf_counter() - began
        began = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        synchronize(device)
        return micro_batch, time.perf_counter() - began

    def repeat(self, shape):
        """Mean seconds of micro-batches and updates of a shape, after one that is not timed."""
        rank, rows, length = shape
        self.prepare(rank)
        self.step(rows, length)
        times = []
        while sum(micro_batch for micro_batch, _ in times) < LEAST_SECONDS:
            times.append(self.step(rows, length))
        return [sum(column) / len(times) for column in zip(*times)]

    def first_peak(self, shape):
        """The greatest memory of a step of a shape that is run for the first time."""
        rank, rows, length = shape
        self.prepare(rank)
        self.step(1, 2)
        self.peak.reset()
        self.step(rows, length)
        return self.peak.bytes()


def setting(chosen, bench):
    """The columns that are the same in every row."""
    config = bench.base.config
    heads = config.num_attention_heads
    return {
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "intermediate": config.intermediate_size,
        "heads": heads,
        "kv_heads": getattr(config, "num_key_value_heads", None) or heads,
        "head_dim": getattr(config, "head_dim", None) or config.hidden_size // heads,
        "vocabulary": config.vocab_size,
        "ties_embeddings": bool(config.tie_word_embeddings),
        "targets": chosen.targets,
        "precision": chosen.precision,
        "recomputation": chosen.recomputation,
        "optimizer": chosen.optimizer,
        "objective": "Sft",
        "device": device_name(chosen),
        "threads": torch.get_num_threads(),
        "workers": chosen.workers,
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}",
        "measured_on": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "busy": False,
    }


def main():
    chosen = options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    torch.manual_seed(1)
    bench = Bench(chosen)
    grid = [(rank, rows, length) for rank in chosen.rank for rows in chosen.rows for length in chosen.lengths]
    held_out = [(rank, rows, length) for rank in chosen.rank for rows, length in chosen.held_out]
    # Rank by rank, as an adapter of another rank is made again.
    shapes = sorted(grid + held_out)
    # By ascending size, so that memory that a larger shape left does not count for a smaller one.
    peaks = {shape: bench.first_peak(shape) for shape in sorted(shapes, key=lambda shape: (shape[1] * shape[2], shape))}
    constant = setting(chosen, bench)
    steps = []
    for number in range(chosen.repeats):
        for shape in shapes:
            micro_batch, update = bench.repeat(shape)
            rank, rows, length = shape
            steps.append(
                {
                    "rows": rows,
                    "length": length,
                    "rank": rank,
                    "micro_batch_seconds": micro_batch,
                    "optimizer_seconds": update,
                    "peak_memory_bytes": peaks[shape],
                    "held_out": shape in held_out,
                    **constant,
                }
            )
        print(f"round {number + 1} of {chosen.repeats} is done", file=sys.stderr, flush=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(steps), chosen.out)
    print(f"{len(steps)} steps of {len(shapes)} shapes are in {chosen.out}")


if __name__ == "__main__":
    main()
