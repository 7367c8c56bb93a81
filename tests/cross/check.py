"""Computes the figures of a run again, outside of FedReplay, and prints how far they are apart.

    .venv-peer/bin/python tests/cross/check.py RUN STORE [--losses ROWS]

RUN is a finished run whose results are all in STORE. The sums of the ledger come from DuckDB; norms, weights and models of rounds
from numpy; epsilon from Google's dp-accounting; with --losses, the losses of the test rows in the file ROWS, in the template Alpaca,
from Transformers and PEFT. Exits with 1 if a difference exceeds its tolerance.

Not done here: schedules of shared links, which tests/simgrid compares with SimGrid 3.32 (Debian's) in `make test`.
"""

import argparse
import json
import re
import struct
import sys
from pathlib import Path

import duckdb
import numpy

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{} \n\n### Response:"
)


class Table:
    """Lines of differences, each with its tolerance."""

    def __init__(self):
        self.failed = 0
        print(f"{'figure':<58} {'by':<16} {'compared':>8} {'largest difference':>20} {'tolerance':>10}")

    def line(self, figure, by, pairs, tolerance):
        """Prints the largest difference of pairs (found, expected), relative to 1 or to the expected size where that is more."""
        pairs = list(pairs)
        assert pairs, f"{figure}: nothing to compare"
        worst = 0.0
        for found, expected in pairs:
            if (found is None) != (expected is None):
                worst = float("inf")
            elif found is not None:
                worst = max(worst, abs(float(found) - float(expected)) / max(1.0, abs(float(expected))))
        ok = worst <= tolerance
        self.failed += not ok
        verdict = "" if ok else "  DIFFERS"
        print(f"{figure:<58} {by:<16} {len(pairs):>8} {worst:>20.2e} {tolerance:>10.0e}{verdict}")


class Store:
    """Results by their keys. A result is a variant and a length, as varints, and then an adapter in safetensors."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def find(self, kind, name):
        for path in (self.folder / kind / name, self.folder / kind / name[:2] / name, self.folder / kind / name[:2] / name[2:]):
            if path.is_file():
                return path
        raise FileNotFoundError(f"{kind} {name} is not in {self.folder}")

    def adapter(self, key):
        content = self.find("results", key).read_text().strip()
        rest = self.find("contents", content).read_bytes()
        _, rest = varint(rest)
        length, rest = varint(rest)
        return flat(rest[:length])


def varint(rest):
    value = shift = 0
    while True:
        byte, rest = rest[0], rest[1:]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, rest


def flat(file):
    """All values of a safetensors file in one vector, by name."""
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__", None)
    values = []
    for name in sorted(header):
        assert header[name]["dtype"] == "F32", name
        begin, end = header[name]["data_offsets"]
        values.append(numpy.frombuffer(file[8 + length + begin : 8 + length + end], "<f4").astype(numpy.float64))
    return numpy.concatenate(values)


class Run:
    """Tables of a run."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.scenario = (self.folder / "scenario.ron").read_text()

    def query(self, sql):
        for name in ("tasks", "rounds", "population", "evaluations", "lineage"):
            sql = sql.replace("{" + name + "}", f"'{self.folder}/ledger/{name}/*.parquet'")
        cursor = duckdb.sql(sql)
        return [dict(zip(cursor.columns, row)) for row in cursor.fetchall()]

    def number(self, field):
        found = re.search(rf"\b{field}: (?:Some\()?([-+0-9.e]+)", self.scenario)
        return float(found[1]) if found else None


def ledger_sums(table, run):
    """Counts and bytes of each round, from the rows of its tasks, which are consecutive."""
    rounds = run.query(
        "SELECT *, sum(task_rows) OVER (ORDER BY round) AS until FROM {rounds} ORDER BY round"
    )
    tasks = run.query("SELECT row_number() OVER () AS row, * FROM {tasks}")
    for figure, condition in (
        ("counted", lambda task: task["fate"] == "counted"),
        ("late", lambda task: task["fate"] == "late"),
        ("dropped", lambda task: task["fate"] == "dropped"),
    ):
        pairs = []
        for row in rounds:
            own = tasks[row["until"] - row["task_rows"] : row["until"]]
            pairs.append((row[figure], sum(condition(task) for task in own)))
        table.line(f"rounds.{figure}", "DuckDB", pairs, 0)
    for figure in ("bytes_down", "bytes_up"):
        pairs = []
        for row in rounds:
            if row["merged_versions"] is None:
                own = tasks[row["until"] - row["task_rows"] : row["until"]]
                pairs.append((row[figure], sum(task[figure] for task in own)))
        table.line(f"rounds.{figure}", "DuckDB", pairs, 0)
    means = run.query(
        """SELECT r.round, r.train_loss AS found, sum(t.loss_mean * t.weight) / sum(t.weight) AS expected
           FROM {rounds} r JOIN {tasks} t ON t.counted_in_version = r.version WHERE r.train_loss IS NOT NULL GROUP BY ALL"""
    )
    table.line("rounds.train_loss, mean of tasks by their weights", "DuckDB", [(m["found"], m["expected"]) for m in means], 1e-9)


def aggregation(table, run, store):
    """Models of synchronous FedAvg by samples: start + sum of n_i / n (update_i - start), McMahan et al. 2017."""
    if not re.search(r"algorithm: FedAvg\(\s*weights: Samples,\s*mean: Factors", run.scenario) or "Synchronous(" not in run.scenario:
        print("models are not computed again: the run is not FedAvg by samples in synchronous rounds")
        return
    initial = run.query("SELECT key FROM {lineage} WHERE kind IN ('initial', 'given')")[0]["key"]
    models = {0: store.adapter(initial)}
    rows = {row["client"]: row["train_rows"] for row in run.query("SELECT client, train_rows FROM {population}")}
    weights, task_norms, round_norms, values = [], [], [], []
    for row in run.query("SELECT * FROM {rounds} WHERE model_key IS NOT NULL ORDER BY round"):
        if row["version"] == row["base_version"]:
            continue
        start = models[row["base_version"]]
        tasks = run.query("SELECT * FROM {tasks} WHERE counted_in_version = %d" % row["version"])
        total = sum(rows[task["client"]] for task in tasks)
        change = numpy.zeros_like(start)
        for task in tasks:
            share = rows[task["client"]] / total
            delta = store.adapter(task["update_key"]) - start
            change += share * delta
            weights.append((task["weight"], share))
            task_norms.append((task["update_norm"], numpy.linalg.norm(delta)))
        model = store.adapter(row["model_key"])
        # Models are kept in f32: differences are relative to the change, which is much smaller than 1.
        scale = numpy.abs(change).max()
        values.append((numpy.abs(model - start - change).max() / scale, 0.0))
        round_norms.append((row["update_norm"], numpy.linalg.norm(model - start)))
        models[row["version"]] = model
    table.line("tasks.weight, n_i / n", "numpy", weights, 1e-12)
    table.line("tasks.update_norm", "numpy", task_norms, 1e-6)
    table.line("rounds.update_norm", "numpy", round_norms, 1e-6)
    table.line("models, relative to the largest change", "numpy", values, 1e-4)


def privacy(table, run):
    """Epsilon of the Poisson-sampled Gaussian mechanism by privacy loss distributions."""
    rounds = run.query("SELECT aggregator_round, epsilon_spent FROM {rounds} WHERE epsilon_spent IS NOT NULL ORDER BY round")
    rate = re.search(r"Poisson\(\s*rate: ([0-9.e-]+)", run.scenario)
    if not rounds or not rate:
        print("epsilon is not computed again: the run has no Poisson-sampled privacy")
        return
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant

    noise, delta = run.number("noise_multiplier"), run.number("delta")
    pairs = []
    for row in rounds:
        step = PoissonSampledDpEvent(float(rate[1]), GaussianDpEvent(noise))
        accountant = PLDAccountant().compose(SelfComposedDpEvent(step, row["aggregator_round"]))
        pairs.append((row["epsilon_spent"], accountant.get_epsilon(delta)))
    table.line("rounds.epsilon_spent", "dp-accounting", pairs, 2e-4)


def losses(table, run, file):
    """Mean loss per target token of the test rows: what the last saved adapter gives to the answers and their ends."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_grad_enabled(False)
    manifest = json.loads((run.folder / "manifest.json").read_text())
    base = manifest["inputs"]["base_model"]["path"]
    base = base if Path(base).is_dir() else Path(base).parent
    tokenizer = AutoTokenizer.from_pretrained(base)
    length = int(run.number("max_seq_length"))
    last = max((run.folder / "adapters").iterdir())
    measured = {}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(model, last)
    for round_number, context in ((0, tuned.disable_adapter()), (int(last.name.split("-")[1]), None)):
        total = count = 0
        if context:
            context.__enter__()
        for row in json.loads(Path(file).read_text()):
            prompt = ALPACA.format(row["instruction"])
            encoded = tokenizer(prompt + " " + row["response"], return_offsets_mapping=True)
            ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
            if ids[-1] == tokenizer.eos_token_id:
                ids, offsets = ids[:-1], offsets[:-1]
            is_answer = [begin >= len(prompt) for begin, end in offsets] + [True]
            ids = (ids + [tokenizer.eos_token_id])[:length]
            scores = tuned(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
            for place, token in enumerate(ids[1:]):
                if is_answer[place + 1]:
                    total -= scores[place, token].item()
                    count += 1
        if context:
            context.__exit__(None, None, None)
        measured[round_number] = (total / count, count)
    rows = run.query(
        "SELECT round, loss, target_tokens FROM {evaluations} WHERE split = 'test' AND subject = 'global' AND benchmark = 'losses'"
    )
    found = {row["round"]: row for row in rows}
    table.line("evaluations.target_tokens", "Transformers", [(found[r]["target_tokens"], n) for r, (_, n) in measured.items()], 0)
    table.line("evaluations.loss on test rows, first and last", "Transformers+PEFT", [(found[r]["loss"], l) for r, (l, _) in measured.items()], 1e-5)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("store")
    parser.add_argument("--losses", metavar="ROWS")
    arguments = parser.parse_args()
    table = Table()
    run = Run(arguments.run)
    ledger_sums(table, run)
    aggregation(table, run, Store(arguments.store))
    privacy(table, run)
    if arguments.losses:
        losses(table, run, arguments.losses)
    sys.exit(table.failed > 0)


main()
