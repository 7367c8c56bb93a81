"""FedReplay simulates federated fine-tuning of language models: the clients' devices, links and absences are simulated, the training
is real.

::

    import fedreplay

    run = fedreplay.run("quickstart", set={"training.lr": 1e-3}, seed=1)
    run.plot.loss()
    run.sql("select client, outcome from tasks where round = 1").df()

The functions start the program that this package carries. docs/python.md of the project documents them with examples.
"""

from fedreplay._adapter import Adapter
from fedreplay._commands import (
    Evaluation,
    Replay,
    Verification,
    check,
    evaluate,
    fork,
    open,
    plan,
    replay,
    report,
    resume,
    run,
    sweep,
    verify,
)
from fedreplay._dataset import Dataset, dataset
from fedreplay._errors import Failed, FedReplayError, Interrupted, Refused
from fedreplay._judge import Judge, judge
from fedreplay._program import NotUsable
from fedreplay._progress import Progress
from fedreplay._report import Report
from fedreplay._rule import Rule, rule
from fedreplay._run import Plan, Run
from fedreplay._sweep import Cell, Sweep
from fedreplay._tables import Table
from fedreplay._track import Tracker

__all__ = [
    "Adapter",
    "Cell",
    "Dataset",
    "Evaluation",
    "Failed",
    "FedReplayError",
    "Interrupted",
    "Judge",
    "NotUsable",
    "Plan",
    "Progress",
    "Refused",
    "Replay",
    "Report",
    "Rule",
    "Run",
    "Sweep",
    "Table",
    "Tracker",
    "Verification",
    "check",
    "dataset",
    "evaluate",
    "fork",
    "judge",
    "open",
    "plan",
    "replay",
    "report",
    "resume",
    "rule",
    "run",
    "sweep",
    "verify",
]
