"""The commands of the program as functions."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union

from fedreplay._errors import Refused
from fedreplay._html import table
from fedreplay._judge import Judge, served
from fedreplay._process import call
from fedreplay._progress import ProgressOption
from fedreplay._report import Report
from fedreplay._run import Plan, Run
from fedreplay._scenario import Changes, ScenarioSource, set_arguments, sets_of, source_of, text_file
from fedreplay._sweep import Sweep, sweep_text
from fedreplay._track import Tracking, tracked

RunFolder = Union[str, Path, Run]
"""A run, or the folder of one."""

Arguments = list[Union[str, Path]]


def run(
    scenario: ScenarioSource,
    *,
    set: Changes = None,
    seed: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    track: Tracking = None,
    progress: ProgressOption = None,
    store: str | Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    python: str | Path | None = None,
) -> Run:
    """Runs a scenario and returns the run.

    Args:
        scenario: ``"quickstart"``, a path, RON text, or a dictionary.
        set: Changes of fields, such as ``{"training.lr": 1e-3, "algorithm": {"FedProx": {"mu": 0.01}}}``. A value of ``None``
            removes an optional field.
        seed: Master seed, instead of the scenario's.
        out: Folder to write the run to; ``None`` is ``runs/NAME``, by the scenario's name.
        overwrite: Replace a run that is in this folder.
        track: Tracker that gets the curves while the run goes on: ``"tensorboard"``, ``"wandb"`` or ``"mlflow"``, or a function that
            gets the run when it has begun and returns a :class:`Tracker`.
        progress: ``None`` shows a bar in notebooks and terminals, ``True`` everywhere, ``False`` nowhere; a function gets each
            :class:`Progress`.
        store: Folder of stored results, shared by all runs, or ``"none"``; ``None`` is the user's cache folder.
        workers: Number of tasks trained at the same time; ``None`` is the number of cores, or of GPUs.
        threads: Threads of each task; ``None`` is 1.
        device: Devices to train on, such as ``"cuda:0,cuda:1"``; ``None`` is ``"cpu"``.
        python: Python that computes an aggregation rule of one's own; ``None`` is the one that this function runs in. Commands that go on with a run
            or repeat it take ``python3`` and, where the rule is not the caller's, none.

    Raises:
        Refused: if the scenario, its data or its model cannot be used, or the folder is not empty.
        Failed: if the machine fails.
        Interrupted: on Ctrl-C. :func:`resume` goes on with the run.
    """
    machine = _machine(store, workers, threads, device, python or sys.executable)
    with source_of(scenario, set, seed) as source:
        folder = Path(out) if out is not None else Path("runs") / source.name if source.name else None
        with _room_for(folder if overwrite else None), tracked(track, folder):
            arguments: Arguments = ["run", *source.arguments(), *_options(out=folder), *machine]
            answer = call(arguments, progress=progress, folder=folder, reword=source.reword)
    return Run(answer.data["run"])


def plan(
    scenario: ScenarioSource,
    *,
    set: Changes = None,
    seed: int | None = None,
    out: str | Path | None = None,
    detail: Literal["rounds", "tasks", "events"] = "tasks",
    repeat: int | None = None,
    progress: ProgressOption = None,
) -> Plan:
    """Simulates a scenario's schedule without training.

    Args:
        scenario, set, seed, progress: As in :func:`run`.
        out: Folder to write the tables to; ``None`` is a temporary folder, which is there as long as the plan is.
        detail: Tables to fill: rounds only; tasks and rounds; or events too.
        repeat: Number of simulations, from 2. ``figures["bands"]`` has quantiles over them.

    Raises:
        Refused: as :func:`run`.
    """
    temporary = tempfile.mkdtemp(prefix="fedreplay-plan-") if out is None else None
    folder = Path(temporary) / "plan" if temporary else Path(str(out))
    try:
        with source_of(scenario, set, seed) as source:
            arguments: Arguments = ["plan", *source.arguments(), *_options(out=folder, detail=detail, repeat=repeat)]
            answer = call(arguments, progress=progress, folder=None if temporary else folder, reword=source.reword)
        plan = Plan(folder, answer.data)
    except BaseException:
        if temporary:
            shutil.rmtree(temporary)
        raise
    if temporary:
        weakref.finalize(plan, shutil.rmtree, temporary, ignore_errors=True)
    return plan


def sweep(
    scenario: ScenarioSource,
    *,
    variants: Mapping[str, Changes] | None = None,
    axes: Mapping[str, Sequence[Any]] | None = None,
    set: Changes = None,
    seeds: Sequence[int] = (),
    only: Sequence[str] = (),
    name: str = "sweep",
    out: str | Path | None = None,
    progress: ProgressOption = None,
    store: str | Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    python: str | Path | None = None,
) -> Sweep:
    """Runs a scenario in many settings, and trains what they share once. Runs that are there already are not run again.

    Args:
        scenario: With ``variants`` or ``axes`` a scenario as in :func:`run`. Without them the path or the RON text of a sweep file.
        variants: Changes of fields by the variant's name, such as ``{"FedAvg": {}, "SCAFFOLD": {"algorithm": "Scaffold"}}``.
        axes: Values of fields by their paths, of which all combinations are run, such as ``{"training.lr": [1e-3, 1e-2]}``.
        set: Changes of fields in every run.
        seeds: Master seeds; of a sweep file those of its seeds that are run.
        only: Variants, or scenarios of a sweep file, that are run; none selects all.
        name: Name of a sweep of ``variants`` and ``axes``.
        out: Folder to write the runs to; ``None`` is ``runs/NAME``.
        progress, store, workers, threads, device, python: As in :func:`run`.

    Raises:
        Refused: as :func:`run`, before the first run.
        Interrupted: on Ctrl-C. The same call goes on where it was.
    """
    options = [*(part for one in only for part in ("--only", one)), *_options(out=out)]
    options += _machine(store, workers, threads, device, python or sys.executable)
    if variants is None and axes is None:
        options += _options(seeds=",".join(map(str, seeds)) or None)
        if isinstance(scenario, Mapping):
            raise Refused("a dictionary is a scenario and no sweep: give variants or axes", 2)
        with text_file(scenario) as source:
            arguments = ["sweep", source.file, *set_arguments(sets_of(set)), *options]
            return Sweep(call(arguments, progress=progress, reword=source.reword).data)
    with source_of(scenario, set) as source:
        text = sweep_text(name, source.file, source.sets, variants or {}, axes or {}, seeds)
        with text_file(text) as file:
            arguments = ["sweep", file.file, *options]
            return Sweep(call(arguments, progress=progress, reword=lambda message: source.reword(file.reword(message))).data)


def fork(
    run: RunFolder,
    at_round: int,
    set: Changes,
    *,
    out: str | Path | None = None,
    track: Tracking = None,
    progress: ProgressOption = None,
    store: str | Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    python: str | Path | None = None,
) -> Run:
    """Continues a run from one of its rounds with other values, and returns the new run. Earlier rounds are not trained again.

    Args:
        run: The run.
        at_round: First round of the server under the new values, from 2.
        set: Changes of fields from that round on.
        out: Folder to write the fork to; ``None`` is next to the run, RUN-from-N.
        track, progress, store, workers, threads, device, python: As in :func:`run`.
    """
    sets = set_arguments(sets_of(set))
    options = _options(at_round=at_round, out=out) + _machine(store, workers, threads, device, python)
    beginning = _folder(run)
    folder = Path(out) if out is not None else beginning.absolute().with_name(f"{beginning.absolute().name}-from-{at_round}")
    with tracked(track, folder):
        answer = call(["fork", beginning, *sets, *options], progress=progress, folder=folder)
    return Run(answer.data["run"])


def resume(
    run: RunFolder,
    *,
    set: Changes = None,
    track: Tracking = None,
    progress: ProgressOption = None,
    store: str | Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    python: str | Path | None = None,
) -> Run:
    """Continues a run that was interrupted or killed, to the digest that it would have had.

    Args:
        run: The run.
        set: Changes of fields that affect no result, such as ``{"execution.checkpointing": "Always"}``.
        track, progress, store, workers, threads, device, python: As in :func:`run`.
    """
    folder = _folder(run)
    arguments = ["resume", folder, *set_arguments(sets_of(set)), *_machine(store, workers, threads, device, python)]
    with tracked(track, folder):
        call(arguments, progress=progress, folder=folder)
    return Run(folder)


@dataclass(frozen=True)
class Replay:
    """What came of computing a run again. It is true if the results are the same."""

    same: bool
    difference: str | None
    """First difference; ``None`` if there is none."""
    data: dict[str, Any] = field(repr=False)
    """All figures of the comparison."""

    def __bool__(self) -> bool:
        return self.same


def replay(
    run: RunFolder,
    *,
    round: int | None = None,
    client: str | int | None = None,
    scratch: str | Path | None = None,
    progress: ProgressOption = None,
    store: str | Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    python: str | Path | None = None,
) -> Replay:
    """Computes a run again, or a part of it, and compares the results. A difference is no exception.

    Args:
        run: The run.
        round: Check only this round.
        client: Check only the updates of this client, named or numbered from 0.
        scratch: Folder for the repeated run; ``None`` is next to the run.
        progress, store, workers, threads, device, python: As in :func:`run`. Only a part of a run is looked up in the store.
    """
    options = _options(round=round, client=client, scratch=scratch) + _machine(store, workers, threads, device, python)
    data = call(["replay", _folder(run), *options], progress=progress).data
    return Replay(bool(data["same"]), data.get("difference"), data)


@dataclass(frozen=True)
class Verification:
    """What came of checking a run's files and digest chain. It is true if the run is whole."""

    digest: str | None
    rounds: int | None
    differences: list[str]

    def __bool__(self) -> bool:
        return not self.differences


def verify(run: RunFolder, *, certificate: str | Path | None = None, digest: str | None = None) -> Verification:
    """Checks a run's files and its digest chain against their hashes. A difference is no exception.

    Args:
        run: The run.
        certificate: Certificate to compare with, of a run that this one repeats.
        digest: Digest to compare with, which was kept elsewhere.
    """
    data = call(["verify", _folder(run), *_options(certificate=certificate, digest=digest)]).data
    return Verification(data["digest"], data["rounds"], data["differences"])


@dataclass(frozen=True)
class Evaluation:
    """Figures of an evaluation."""

    figures: list[dict[str, Any]]
    """One entry per figure: subject, client, benchmark, part, rows, failed, score, loss [nat/token]."""
    table: list[dict[str, Any]]
    """The published table of FedLLM-Bench with measured values, one entry per cell."""

    def _repr_html_(self) -> str:
        rows = self.figures
        return table(list(rows[0]), [list(row.values()) for row in rows]) if rows else "no figures"


def evaluate(
    subject: RunFolder,
    *,
    bench: Sequence[str] = ("losses",),
    data: str | Path | None = None,
    round: int | None = None,
    adapter: str | Path | None = None,
    limit: int | None = None,
    answer_tokens_max: int | None = None,
    judge: Judge | None = None,
    out: str | Path | None = None,
    progress: ProgressOption = None,
    store: str | Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str | None = None,
) -> Evaluation:
    """Evaluates the models of a run, or of a folder: losses, perplexity, benchmarks.

    Args:
        subject: A run, or a model's folder.
        bench: Benchmarks; ``"losses"`` are the losses on a run's rows, ``"all"`` is every benchmark with files in ``data``.
        data: Folder with the benchmarks' files.
        round: Round of the run whose adapters are evaluated; ``None`` is the last that was saved.
        adapter: PEFT folder of an adapter to apply to a model's folder.
        limit: Number of questions of each benchmark.
        answer_tokens_max: Limit on the tokens of an answer, if lower than the benchmark's.
        judge: A function that judges answers (:func:`judge`). Its judgments are stored under its name.
        out: Folder to write the tables to.
        progress, store, workers, threads, device: As in :func:`run`.
    """
    options = _options(bench=",".join(bench), data=data, round=round, adapter=adapter, limit=limit, out=out)
    options += _options(answer_tokens_max=answer_tokens_max) + _machine(store, workers, threads, device, None)
    with contextlib.ExitStack() as stack:
        if judge:
            options += stack.enter_context(served(judge))
        answer = call(["eval", _folder(subject), *options], progress=progress).data
    return Evaluation(answer["figures"], answer["table"])


def check(
    scenario: ScenarioSource, *, set: Changes = None, seed: int | None = None, python: str | Path | None = None
) -> dict[str, Any]:
    """Checks a scenario and returns it as a dictionary, with every default written out. No weights are loaded.

    Args:
        scenario, set, seed, python: As in :func:`run`.

    Raises:
        Refused: if the scenario or its data cannot be used.
    """
    with source_of(scenario, set, seed) as source:
        arguments: Arguments = ["scenario", "check", *source.arguments(), "--no-trial", *_options(python=python or sys.executable)]
        answer = call(arguments, reword=source.reword)
    return dict(answer.data["scenario"])


def report(*runs: RunFolder, out: str | Path | None = None) -> Report:
    """Writes one HTML page that shows a run, or compares several with the first, and returns it. A notebook shows it.

    Args:
        runs: Runs or plans, finished or not.
        out: File to write; ``None`` is ``report.html`` in the run's folder, and ``comparison.html`` for several runs.
    """
    answer = call(["report", *map(_folder, runs), *_options(out=out)])
    return Report(Path(answer.data["report"]))


def open(folder: str | Path) -> Run:
    """Opens the run in a folder, finished or not."""
    return Run(folder)


def _folder(run: RunFolder) -> Path:
    return run.folder if isinstance(run, Run) else Path(run)


def _options(**options: str | Path | int | None) -> Arguments:
    """Returns options that have a value as arguments."""
    arguments: Arguments = []
    for name, value in options.items():
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments


def _machine(
    store: str | Path | None, workers: int | None, threads: int | None, device: str | None, python: str | Path | None
) -> Arguments:
    return _options(store=store, workers=workers, threads=threads, device=device, python=python)


@contextlib.contextmanager
def _room_for(folder: Path | None) -> Iterator[None]:
    """Moves a run out of a folder, back if no new one is begun, and else removes it at the end."""
    if folder is None or not (folder / "manifest.json").is_file():
        yield
        return
    _refuse_if_written(folder)
    aside = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    folder.rename(aside)
    try:
        yield
    finally:
        if (folder / "manifest.json").exists():
            shutil.rmtree(aside)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)


def _refuse_if_written(folder: Path) -> None:
    """Refuses a folder that a process is writing a run to, which holds a lock on it."""
    try:
        lock = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(f"a process is writing the run in {folder}", 2) from None
    finally:
        os.close(lock)
