"""Computes the figures of a run again, outside of FedReplay, and prints how far they are apart.

    .venv-peer/bin/python tests/cross/check.py RUN STORE FIGURES... [--losses ROWS]

RUN is a finished run whose results are all in STORE. FIGURES are any of

    sums       counts, bytes and mean losses of rounds, from the rows of their tasks, by DuckDB
    models     weights, norms, models and errors of synchronous FedAvg by samples, by numpy
    epsilon    epsilon of Poisson sampling, by Google's dp-accounting
    losses     losses of the test rows in the file ROWS, by Transformers and PEFT; templates Alpaca and Chat
    schedule   ends of transfers that share the server's links, by SimGrid (schedule.py)

Every figure is then computed once more with a planted error, 5 to 1,000 times its tolerance, and each line must differ: a
comparison that cannot fail is worth nothing. Exits with 1 if a difference exceeds its tolerance, or a planted error is not found.
"""

import argparse
import functools
import json
import re
import struct
import sys
from pathlib import Path

import duckdb
import numpy
import schedule

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{} \n\n### Response:"
)

# The errors that are planted, by table: a column and its wrong value.
PLANTED = {
    "rounds": {
        "counted": "counted + 1",
        "late": "late + 1",
        "dropped": "dropped + 1",
        "bytes_down": "bytes_down + 1",
        "bytes_up": "bytes_up + 1",
        "wire_bytes_down": "wire_bytes_down + 1",
        "wire_bytes_up": "wire_bytes_up + 1",
        "train_loss": "train_loss + 1e-7",
        "update_norm": "update_norm + 1e-4",
        "aggregation_error": "aggregation_error + 1e-9",
        "epsilon_spent": "epsilon_spent * 1.001 + 0.001",
    },
    "aggregation": {"norm": "norm + 1e-9", "error": "error + 1e-9"},
    "tasks": {
        "weight": "weight + 1e-9",
        "update_norm": "update_norm + 1e-4",
        "download_done_at_ns": "download_done_at_ns + 1000000",
        "upload_done_at_ns": "upload_done_at_ns + 1000000",
    },
    "evaluations": {"loss": "loss + 1e-3", "target_tokens": "target_tokens + 1"},
}


class Table:
    """Lines of differences, each with its tolerance."""

    def __init__(self, is_planted):
        self.is_planted = is_planted
        self.lines = 0
        self.failed = 0
        if not is_planted:
            print(f"{'figure':<58} {'by':<18} {'compared':>8} {'largest difference':>20} {'tolerance':>10}")

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
        # A NaN is no agreement.
        ok = worst <= tolerance
        self.lines += 1
        self.failed += not ok
        if not self.is_planted:
            verdict = "" if ok else "  DIFFERS"
            print(f"{figure:<58} {by:<18} {len(pairs):>8} {worst:>20.2e} {tolerance:>10.0e}{verdict}", flush=True)
        elif ok:
            print(f"{figure}: the planted error was not found")


class Store:
    """Results by their keys. A result is a variant and a length, as varints, and then an adapter in safetensors. Two variants
    hold another result, with something after it."""

    AROUND_ANOTHER = (9, 11)

    def __init__(self, folder):
        self.folder = Path(folder)

    def find(self, kind, name):
        for path in (self.folder / kind / name, self.folder / kind / name[:2] / name, self.folder / kind / name[:2] / name[2:]):
            if path.is_file():
                return path
        raise FileNotFoundError(f"{kind} {name} is not in {self.folder}")

    def file(self, key):
        content, own = self.find("results", key).read_text().split()
        assert own == key, f"the result {key} is that of {own}"
        rest = self.find("contents", content).read_bytes()
        variant, rest = varint(rest)
        while variant in self.AROUND_ANOTHER:
            variant, rest = varint(rest)
        length, rest = varint(rest)
        return rest[:length]

    def adapter(self, key):
        """All values in one vector."""
        matrices = tensors(self.file(key))
        return numpy.concatenate([matrices[name].ravel() for name in sorted(matrices)])

    def factors(self, key):
        """B and A of each module, by its path."""
        matrices = tensors(self.file(key))
        found = {}
        for name in matrices:
            if name.endswith(".lora_A.weight"):
                path = name.removesuffix(".lora_A.weight")
                found[path.removeprefix("base_model.model.")] = (matrices[path + ".lora_B.weight"], matrices[name])
        return found


def varint(rest):
    value = shift = 0
    while True:
        byte, rest = rest[0], rest[1:]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, rest


def tensors(file):
    """The matrices of a safetensors file, by name."""
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, tensor in header.items():
        assert tensor["dtype"] == "F32", name
        begin, end = tensor["data_offsets"]
        values = numpy.frombuffer(file[8 + length + begin : 8 + length + end], "<f4")
        found[name] = values.astype(numpy.float64).reshape(tensor["shape"])
    return found


class Run:
    """Tables of a run, with planted errors if asked for."""

    def __init__(self, folder, is_planted=False):
        self.folder = Path(folder)
        self.is_planted = is_planted
        self.scenario = (self.folder / "scenario.ron").read_text()
        self.is_plan = json.loads((self.folder / "manifest.json").read_text())["kind"] == "plan"

    def query(self, sql):
        for name in ("tasks", "rounds", "population", "evaluations", "lineage", "aggregation"):
            table = f"'{self.folder}/ledger/{name}/*.parquet'"
            if self.is_planted and name in PLANTED:
                wrong = ", ".join(f"{value} AS {column}" for column, value in PLANTED[name].items())
                table = f"(SELECT * REPLACE ({wrong}) FROM {table})"
            sql = sql.replace("{" + name + "}", table)
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
    for figure in ("bytes_down", "bytes_up", "wire_bytes_down", "wire_bytes_up"):
        pairs = []
        for row in rounds:
            if row["merged_versions"] is None:
                own = tasks[row["until"] - row["task_rows"] : row["until"]]
                pairs.append((row[figure], sum(task[figure] for task in own)))
        table.line(f"rounds.{figure}", "DuckDB", pairs, 0)
    if run.is_plan:
        return
    means = run.query(
        """SELECT r.round, r.train_loss AS found, sum(t.loss_mean * t.weight) / sum(t.weight) AS expected
           FROM {rounds} r JOIN {tasks} t ON t.counted_in_version = r.version WHERE r.train_loss IS NOT NULL GROUP BY ALL"""
    )
    table.line("rounds.train_loss, mean of tasks by their weights", "DuckDB", [(m["found"], m["expected"]) for m in means], 1e-9)


def aggregation(table, run, store):
    """Models of synchronous FedAvg by samples: start + sum of n_i / n (update_i - start), McMahan et al. 2017."""
    assert re.search(r"algorithm: FedAvg\(\s*weights: Samples,\s*mean: Factors", run.scenario) and "Synchronous(" in run.scenario
    initial = run.query("SELECT key FROM {lineage} WHERE kind IN ('initial', 'first_step', 'given')")[0]["key"]
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
        planted = 1e-3 * scale if run.is_planted else 0.0
        values.append(((numpy.abs(model - start - change).max() + planted) / scale, 0.0))
        round_norms.append((row["update_norm"], numpy.linalg.norm(model - start)))
        models[row["version"]] = model
    table.line("tasks.weight, n_i / n", "numpy", weights, 1e-12)
    table.line("tasks.update_norm", "numpy", task_norms, 1e-6)
    table.line("rounds.update_norm", "numpy", round_norms, 1e-6)
    table.line("models, relative to the largest change", "numpy", values, 1e-4)


def errors(table, run, store):
    """Difference of the mean of products and the product of means, relative to the former: by module, and over all of them."""
    scale = run.number("alpha") / run.number("rank")
    recorded = {(row["round"], row["module"]): row for row in run.query("SELECT * FROM {aggregation}")}
    norms, by_module, totals = [], [], []
    for row in run.query("SELECT * FROM {rounds} WHERE model_key IS NOT NULL AND version > base_version ORDER BY round"):
        tasks = run.query("SELECT weight, update_key FROM '%s/ledger/tasks/*.parquet' WHERE counted_in_version = %d"
                          % (run.folder, row["version"]))
        tasks = [(task["weight"], store.factors(task["update_key"])) for task in tasks if task["weight"] > 0]
        squares = numpy.zeros(2)
        for module in tasks[0][1] if tasks else []:
            mean = scale * sum(weight * factors[module][0] @ factors[module][1] for weight, factors in tasks)
            b, a = (sum(weight * factors[module][which] for weight, factors in tasks) for which in (0, 1))
            norm, difference = numpy.linalg.norm(mean), numpy.linalg.norm(mean - scale * b @ a)
            squares += norm**2, difference**2
            norms.append((recorded[row["round"], module]["norm"], norm))
            by_module.append((recorded[row["round"], module]["error"], difference / norm))
        totals.append((row["aggregation_error"], numpy.sqrt(squares[1] / squares[0]) if squares[0] > 0 else None))
    assert len(norms) == len(recorded), "table aggregation has other rows"
    table.line("aggregation.norm", "numpy", norms, 1e-12)
    table.line("aggregation.error", "numpy", by_module, 1e-12)
    table.line("rounds.aggregation_error", "numpy", totals, 1e-12)


@functools.cache
def poisson_epsilon(rate, noise, delta, steps):
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant

    step = PoissonSampledDpEvent(rate, GaussianDpEvent(noise))
    return PLDAccountant().compose(SelfComposedDpEvent(step, steps)).get_epsilon(delta)


def privacy(table, run):
    """Epsilon of the Poisson-sampled Gaussian mechanism by privacy loss distributions."""
    rounds = run.query("SELECT aggregator_round, epsilon_spent FROM {rounds} WHERE epsilon_spent IS NOT NULL ORDER BY round")
    rate = re.search(r"Poisson\(\s*rate: ([0-9.e-]+)", run.scenario)
    assert rounds and rate, "the run has no Poisson-sampled privacy"
    noise, delta = run.number("noise_multiplier"), run.number("delta")
    pairs = [(row["epsilon_spent"], poisson_epsilon(float(rate[1]), noise, delta, row["aggregator_round"])) for row in rounds]
    table.line("rounds.epsilon_spent", "dp-accounting", pairs, 2e-4)


def example(tokenizer, template, row, length):
    """Ids of a row, and for each whether it is learned: the answer with its end."""
    if template == "Alpaca":
        prompt = ALPACA.format(row["instruction"])
        encoded = tokenizer(prompt + " " + row["response"], return_offsets_mapping=True)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        if ids[-1] == tokenizer.eos_token_id:
            ids, offsets = ids[:-1], offsets[:-1]
        is_learned = [begin >= len(prompt) for begin, end in offsets] + [True]
        return (ids + [tokenizer.eos_token_id])[:length], is_learned
    assert template == "Chat", template
    asked = [{"role": "user", "content": row["instruction"]}]
    answered = asked + [{"role": "assistant", "content": row["response"]}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(answered, tokenize=False)
    assert whole.startswith(prompt)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"][:length], [begin >= len(prompt) for begin, end in encoded["offset_mapping"]]


@functools.cache
def measured_losses(folder, template, length, file):
    """By round: mean loss per target token of the rows in a file, and their number. The base alone, and with the last adapter."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_grad_enabled(False)
    manifest = json.loads((folder / "manifest.json").read_text())
    base = Path(manifest["inputs"]["base_model"]["path"])
    base = base if base.is_dir() else base.parent
    tokenizer = AutoTokenizer.from_pretrained(base)
    last = max((folder / "adapters").iterdir())
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    rows = [example(tokenizer, template, row, length) for row in json.loads(Path(file).read_text())]
    measured = {}
    for round_number in (0, int(last.name.split("-")[1])):
        if round_number > 0:
            model = PeftModel.from_pretrained(model, last).eval()
        total = count = 0
        for first in range(0, len(rows), 16):
            batch = rows[first : first + 16]
            # Padded on the right, where causal attention does not see it.
            width = max(len(ids) for ids, _ in batch)
            padded = torch.zeros(len(batch), width, dtype=torch.long)
            learned = torch.zeros(len(batch), width, dtype=torch.bool)
            for row, (ids, is_learned) in enumerate(batch):
                padded[row, : len(ids)] = torch.tensor(ids)
                learned[row, : len(ids)] = torch.tensor(is_learned[: len(ids)])
            logits = model(padded).logits[:, :-1][learned[:, 1:]].double()
            total += torch.nn.functional.cross_entropy(logits, padded[:, 1:][learned[:, 1:]], reduction="sum").item()
            count += len(logits)
        measured[round_number] = (total / count, count)
    return measured


def losses(table, run, file):
    """Mean loss per target token of the test rows, before the first round and by the last saved adapter."""
    template = re.search(r"\btemplate: (\w+)", run.scenario)[1]
    measured = measured_losses(run.folder, template, int(run.number("max_seq_length")), file)
    rows = run.query(
        "SELECT round, loss, target_tokens FROM {evaluations} WHERE split = 'test' AND subject = 'global' AND benchmark = 'losses'"
    )
    found = {row["round"]: row for row in rows}
    tokens = [(found[number]["target_tokens"], count) for number, (_, count) in measured.items()]
    means = [(found[number]["loss"], loss) for number, (loss, _) in measured.items()]
    table.line("evaluations.target_tokens", "Transformers", tokens, 0)
    table.line("evaluations.loss on test rows, first and last", "Transformers, PEFT", means, 1e-5)


def compare(table, run, arguments):
    if "sums" in arguments.figures:
        ledger_sums(table, run)
    if "models" in arguments.figures:
        aggregation(table, run, Store(arguments.store))
        errors(table, run, Store(arguments.store))
    if "epsilon" in arguments.figures:
        privacy(table, run)
    if "losses" in arguments.figures:
        losses(table, run, arguments.losses)
    if "schedule" in arguments.figures:
        schedule.compare(table, run)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("store")
    parser.add_argument("figures", nargs="+", choices=["sums", "models", "epsilon", "losses", "schedule"])
    parser.add_argument("--losses", metavar="ROWS")
    arguments = parser.parse_args()
    table = Table(is_planted=False)
    compare(table, Run(arguments.run), arguments)
    planted = Table(is_planted=True)
    compare(planted, Run(arguments.run, is_planted=True), arguments)
    print(f"with an error planted in each figure, {planted.failed} of {planted.lines} lines differ")
    sys.exit(table.failed > 0 or planted.failed < planted.lines)


main()
