"""Live tracking: the curves of a run in TensorBoard, Weights & Biases or MLflow, while the program goes on.

A thread reads the run's figures from its folder and hands new points to the tracker's own client. The program knows nothing of it, so
nothing of it is in a digest; what fails in a tracker ends the tracking, with a warning, and never the run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO, Union, cast

from fedreplay import _program
from fedreplay._errors import FedReplayError
from fedreplay._run import Run
from fedreplay._scenario import source_of

TrackerName = Literal["tensorboard", "wandb", "mlflow"]

# [s] -- Between two looks at a run.
_INTERVAL = 2.0
_TRACKED = ("run", "resume", "fork")


class Tracker(Protocol):
    """A tracker of curves."""

    def log(self, round: int, at_ns: int, values: Mapping[str, float]) -> None:
        """Logs figures, by the names of ``run.summary["series"]``.

        Args:
            round: Round of all aggregators; 0 is before any training.
            at_ns: Virtual time at the round's end [ns].
        """

    def close(self, digest: str | None) -> None:
        """Ends the tracking; the digest is ``None`` if the run has not ended."""


class _TensorBoard:
    """Event files in the form of ``fedreplay export --to tensorboard``: against rounds, and against virtual milliseconds."""

    _BY_TIME = "by-simulated-millisecond"

    def __init__(self, run: Run) -> None:
        from tensorboard.summary import Writer

        # Next to the run, since every file in its folder is hashed.
        folder = run.folder.absolute().with_name(f"{run.folder.absolute().name}.tensorboard-live")
        self._by_round: Any = Writer(str(folder / "by-round"))
        self._by_time: Any = Writer(str(folder / self._BY_TIME))

    def log(self, round: int, at_ns: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._by_round.add_scalar(name, value, round, wall_time=at_ns / 1e9)
            self._by_time.add_scalar(f"{self._BY_TIME}/{name}", value, at_ns // 1_000_000, wall_time=at_ns / 1e9)
        self._by_round.flush()
        self._by_time.flush()

    def close(self, digest: str | None) -> None:
        self._by_round.close()
        self._by_time.close()


class _Wandb:
    """Curves against ``round``, with ``virtual_hours`` as another axis. ``WANDB_MODE=offline`` needs no network."""

    def __init__(self, run: Run) -> None:
        import wandb

        project = os.environ.get("WANDB_PROJECT", "fedreplay")
        self._run: Any = wandb.init(project=project, name=run.folder.absolute().name, config=_settings(run))
        self._run.define_metric("*", step_metric="round")

    def log(self, round: int, at_ns: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "round": round, "virtual_hours": at_ns / 3600e9})

    def close(self, digest: str | None) -> None:
        self._run.summary["digest"] = digest
        self._run.finish(exit_code=0 if digest else 1)


class _MlFlow:
    """Curves against rounds. The time of a point is its virtual time after the beginning of the year 1970."""

    def __init__(self, run: Run) -> None:
        import mlflow

        self._client: Any = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fedreplay")
        experiment = self._client.get_experiment_by_name(name)
        identity = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._run: str = self._client.create_run(identity, run_name=run.folder.absolute().name).info.run_id
        for field, value in _settings(run).items():
            self._client.log_param(self._run, field, str(value)[:500])

    def log(self, round: int, at_ns: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, timestamp=at_ns // 1_000_000, step=round)

    def close(self, digest: str | None) -> None:
        if digest:
            self._client.set_tag(self._run, "digest", digest)
        self._client.set_terminated(self._run, "FINISHED" if digest else "KILLED")


_TRACKERS: dict[str, Callable[[Run], Tracker]] = {"tensorboard": _TensorBoard, "wandb": _Wandb, "mlflow": _MlFlow}

Tracking = Union[TrackerName, Callable[[Run], Tracker], None]
"""Name of a tracker, or a function that returns one when the run has begun."""


@contextlib.contextmanager
def tracked(tracking: Tracking, folder: Path | None) -> Iterator[None]:
    """Follows the run in a folder while the program writes it.

    Raises:
        ValueError: if there is no tracker of this name.
    """
    if tracking is None:
        yield
        return
    if isinstance(tracking, str) and tracking not in _TRACKERS:
        raise ValueError(f"there is no tracker {tracking!r}, only {', '.join(_TRACKERS)}")
    if folder is None:
        warnings.warn("the run is not tracked: its folder is not known; choose one", stacklevel=3)
        yield
        return
    follower = _Follower(_TRACKERS[tracking] if isinstance(tracking, str) else tracking, folder)
    try:
        yield
    finally:
        follower.end()
        if follower.failure:
            warnings.warn(f"the run was not tracked to its end: {follower.failure}", stacklevel=3)


class _Follower:
    """Thread that hands new points of a run to a tracker."""

    def __init__(self, make: Callable[[Run], Tracker], folder: Path) -> None:
        self.failure: str | None = None
        self._make = make
        self._folder = folder
        self._tracker: Tracker | None = None
        self._last: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Hands over what is left, and waits for it."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        try:
            is_last = False
            while not is_last:
                is_last = self._ended.wait(_INTERVAL)
                self._look()
            if self._tracker is not None:
                self._tracker.close(Run(self._folder).digest)
        # A tracker may fail in any way, and the run goes on.
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"

    def _look(self) -> None:
        try:
            run = Run(self._folder)
            curves = run.summary["series"]
        except (FedReplayError, OSError, ValueError):
            # Not begun, or just being written. What is wrong with it for good, the program itself says.
            return
        if self._tracker is None:
            self._tracker = self._make(run)
        new: dict[tuple[int, int], dict[str, float]] = {}
        for curve in curves:
            name = curve["name"]
            for point in curve["points"]:
                if point["round"] > self._last.get(name, -1):
                    new.setdefault((point["round"], point["at_ns"]), {})[name] = point["value"]
                    self._last[name] = point["round"]
        for (round, at_ns), values in sorted(new.items()):
            self._tracker.log(round, at_ns, values)


def main(arguments: Sequence[str]) -> int:
    """Runs a command of the program with ``--track NAME`` among its arguments, and returns the program's exit code."""
    try:
        name, rest = _without_track(arguments)
        folder = _folder_of(rest)
        command = [*_program.command(), *rest]
        with warnings.catch_warnings():
            warnings.showwarning = _say
            with tracked(name, folder):
                return _executed(command)
    except (ValueError, FedReplayError, _program.NotUsable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _without_track(arguments: Sequence[str]) -> tuple[TrackerName, list[str]]:
    """Takes ``--track NAME`` or ``--track=NAME`` out of the arguments."""
    rest = list(arguments)
    place = next(place for place, argument in enumerate(rest) if argument.split("=")[0] == "--track")
    option = rest.pop(place)
    name = option.partition("=")[2] or (rest.pop(place) if place < len(rest) else "")
    if name not in _TRACKERS:
        raise ValueError(f"--track takes one of {', '.join(_TRACKERS)}, and not {name!r}")
    if not rest or rest[0] not in _TRACKED:
        raise ValueError(f"--track goes with {', '.join(_TRACKED)}, whose name comes first")
    return cast(TrackerName, name), rest


def _folder_of(arguments: Sequence[str]) -> Path | None:
    """Returns the folder that a command writes its run to."""
    if arguments[0] == "resume":
        return next((Path(argument) for argument in arguments[1:] if Path(argument).is_dir()), None)
    for place, argument in enumerate(arguments):
        option, _, value = argument.partition("=")
        if option == "--out":
            return Path(value or arguments[place + 1])
    sets = [arguments[place + 1] for place, argument in enumerate(arguments[:-1]) if argument == "--set"]
    sets += [argument.partition("=")[2] for argument in arguments if argument.startswith("--set=")]
    scenario = next((argument for argument in arguments[1:] if argument.endswith(".ron") and Path(argument).is_file()), None)
    if scenario is None:
        return None
    with source_of(Path(scenario), sets) as source:
        return Path("runs") / source.name if source.name else None


def _executed(command: Sequence[str]) -> int:
    """Runs the program, which gets the signals that this process gets, and returns its exit code as shells report it."""
    # In a session of its own, so that the terminal's Ctrl-C reaches it once.
    child = subprocess.Popen(command, env=_program.environment(), start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: child.send_signal(received))
    code = child.wait()
    return 128 - code if code < 0 else code


def _say(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _settings(run: Run) -> dict[str, Any]:
    """Returns the scenario as one entry per field, named by its path."""
    found: dict[str, Any] = {"fedreplay.scenario_hash": run.manifest["scenario_hash"]}

    def add(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                add(f"{path}.{name}" if path else name, inner)
        else:
            found[path] = value

    add("", run.scenario)
    return found
