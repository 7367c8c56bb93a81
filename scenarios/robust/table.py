#!/usr/bin/env python3
"""Prints the table of docs/robust.md from a sweep of rules.ron (needs pyarrow):

    fedreplay sweep scenarios/robust/rules.ron --out sweeps/rules
    scenarios/robust/table.py sweeps/rules

Losses are means over clients of their held-out losses after the last round; shares are sums of tasks.weight by round. Both are means
over seeds, with the standard deviation of the losses.
"""

import collections
import pathlib
import statistics
import sys

import pyarrow.dataset

RARE = ("ben_01", "ben_13")


def rows(run, table):
    return pyarrow.dataset.dataset(run / "ledger" / table).to_table().to_pylist()


def figures(run):
    """The rare clients' held-out loss, that of the others, and the rare clients' share of the aggregates."""
    rare = {row["client"] for row in rows(run, "population") if row["client_id"] in RARE}
    evaluations = [row for row in rows(run, "evaluations") if row["split"] == "held_out"]
    last = max(row["round"] for row in evaluations)
    losses = collections.defaultdict(list)
    for row in evaluations:
        if row["round"] == last:
            losses[row["client"] in rare].append(row["loss"])
    tasks = rows(run, "tasks")
    share = sum(row["weight"] for row in tasks if row["client"] in rare) / max(row["round"] for row in tasks)
    return statistics.mean(losses[True]), statistics.mean(losses[False]), share


by_rule = collections.defaultdict(list)
for run in sorted(pathlib.Path(sys.argv[1]).glob("*-seed-*")):
    by_rule[run.name.split("-")[-3]].append(figures(run))
print("| rule | loss, rare data | loss, other clients | share of the two clients |\n|---|---|---|---|")
for rule, found in by_rule.items():
    rare, others, share = zip(*found)
    cells = [f"{statistics.mean(losses):.2f} ± {statistics.stdev(losses):.2f}" for losses in (rare, others)]
    print(f"| `{rule}` | {cells[0]} | {cells[1]} | {statistics.mean(share):.2f} |")
