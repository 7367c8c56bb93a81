"""Curves of a run that goes on: what trackers get, what becomes of a run whose tracker fails, and the trackers themselves."""

import importlib.util
import os
import subprocess
import sys
import unittest
import warnings
from pathlib import Path
from unittest import mock

from world import QUICKSTART, SMALL, World

import fedreplay
from fedreplay import _track

PACKAGE = Path(fedreplay.__file__).parents[1]


def needs(package):
    return unittest.skipUnless(importlib.util.find_spec(package), f"{package} is not installed: make python-check installs it")


def points(run):
    """Points of a run's curves: name, round, end of the round in virtual time [ns], value."""
    return {(curve["name"], point["round"], point["at_ns"], point["value"]) for curve in run.summary["series"] for point in curve["points"]}


class Recorder:
    """A tracker that keeps what it gets."""

    def __init__(self, run):
        self.run = run
        self.calls = []
        self.digest = None

    def log(self, round, at_ns, values):
        self.calls.append((round, at_ns, dict(values)))

    def close(self, digest):
        self.digest = digest


class Followed(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.trackers = []
        cls.enterClassContext(mock.patch.object(_track, "_INTERVAL", 0.2))
        cls.run_ = fedreplay.run(QUICKSTART, set=SMALL, out="tracked", track=cls.recorder, progress=False)

    @classmethod
    def recorder(cls, run):
        cls.trackers.append(Recorder(run))
        return cls.trackers[-1]

    def test_a_tracker_gets_every_point_once(self):
        (tracker,) = self.trackers
        got = [(name, round, at_ns, value) for round, at_ns, values in tracker.calls for name, value in values.items()]
        self.assertEqual(len(got), len(set(got)))
        self.assertEqual(set(got), points(self.run_))
        self.assertEqual(tracker.digest, self.run_.digest)
        self.assertEqual(tracker.run.folder, self.run_.folder)

    def test_tracking_is_in_no_digest(self):
        plain = fedreplay.run(QUICKSTART, set=SMALL, out="plain")
        self.assertEqual(plain.digest, self.run_.digest)
        self.assertTrue(fedreplay.verify(self.run_))

    def test_a_run_ends_although_its_tracker_fails(self):
        class Failing(Recorder):
            def log(self, round, at_ns, values):
                raise ConnectionError("nobody answers")

        with self.assertWarnsRegex(UserWarning, "not tracked to its end: ConnectionError: nobody answers"):
            run = fedreplay.run(QUICKSTART, set=SMALL, out="failing", track=Failing)
        self.assertEqual(run.digest, self.run_.digest)

    def test_a_missing_tracker_is_a_warning_and_an_unknown_one_an_error(self):
        with mock.patch.dict(sys.modules, {"wandb": None}), self.assertWarnsRegex(UserWarning, "wandb"):
            fedreplay.run(QUICKSTART, set=SMALL, out="missing", track="wandb")
        with self.assertRaisesRegex(ValueError, "only tensorboard, wandb, mlflow"):
            fedreplay.run(QUICKSTART, set=SMALL, out="unknown", track="tensorbord")
        self.assertFalse(Path("unknown").exists())

    def test_a_refused_run_is_not_tracked(self):
        before = len(self.trackers)
        with self.assertRaises(fedreplay.Refused):
            fedreplay.run(QUICKSTART, set={"rounds": 0}, out="refused", track=self.recorder)
        self.assertEqual(len(self.trackers), before)

    @needs("tensorboard")
    def test_tensorboard_has_the_curves_by_round_and_by_time(self):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run = fedreplay.run(QUICKSTART, set=SMALL, out="board", track="tensorboard")
        by_round = EventAccumulator("board.tensorboard-live/by-round").Reload()
        found = {(name, event.step) for name in by_round.Tags()["tensors"] for event in by_round.Tensors(name)}
        self.assertEqual(found, {(name, round) for name, round, _, _ in points(run)})
        by_time = EventAccumulator("board.tensorboard-live/by-simulated-millisecond").Reload()
        steps = [event.step for event in by_time.Tensors("by-simulated-millisecond/loss/test")]
        self.assertEqual(steps, sorted(at_ns // 1_000_000 for name, _, at_ns, _ in points(run) if name == "loss/test"))

    @needs("wandb")
    def test_wandb_writes_offline(self):
        import wandb

        with mock.patch.dict(os.environ, {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(self.folder)}), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            fedreplay.run(QUICKSTART, set=SMALL, out="weights", track="wandb")
        # Waits for its service, which writes the file, as the end of a process does.
        wandb.teardown(exit_code=0)
        (file,) = self.folder.glob("wandb/offline-run-*/*.wandb")
        content = file.read_bytes()
        for name in (b"loss/test", b"virtual_hours", fedreplay.open("weights").digest.encode()):
            self.assertIn(name, content)

    @needs("mlflow")
    def test_mlflow_has_the_curves_with_virtual_times(self):
        import mlflow

        variables = {"MLFLOW_TRACKING_URI": f"file:{self.folder}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
        with mock.patch.dict(os.environ, variables), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            run = fedreplay.run(QUICKSTART, set=SMALL, out="flow", track="mlflow")
            client = mlflow.MlflowClient()
            (found,) = client.search_runs([client.get_experiment_by_name("fedreplay").experiment_id])
            history = client.get_metric_history(found.info.run_id, "loss/test")
        expected = sorted((round, at_ns // 1_000_000, value) for name, round, at_ns, value in points(run) if name == "loss/test")
        self.assertEqual(sorted((point.step, point.timestamp, point.value) for point in history), expected)
        self.assertEqual((found.info.status, found.data.tags["digest"]), ("FINISHED", run.digest))
        self.assertEqual(found.data.params["training.batch_size"], "4")


class CommandLine(World):
    def command(self, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        return subprocess.run([sys.executable, "-m", "fedreplay", *map(str, arguments)], env=environment, capture_output=True, text=True)

    def test_what_cannot_be_tracked_is_refused(self):
        for arguments in (["run", QUICKSTART, "--track", "board"], ["run", QUICKSTART, "--track"], ["show", "x", "--track=wandb"]):
            answer = self.command(*arguments)
            self.assertEqual((answer.returncode, answer.stderr[:15]), (2, "error: --track "), answer)

    def test_the_exit_code_is_that_of_the_program(self):
        answer = self.command("run", "nothing.ron", "--track", "tensorboard", "--out", "x")
        self.assertEqual(answer.returncode, 2)
        self.assertIn("failed to read the scenario nothing.ron", answer.stderr)

    def test_the_folder_is_that_of_the_run(self):
        for arguments, folder in [
            (["run", str(QUICKSTART)], Path("runs/quickstart")),
            (["run", str(QUICKSTART), "--set", "name=other"], Path("runs/other")),
            (["run", str(QUICKSTART), "--out=there"], Path("there")),
            (["resume", "--workers", "2", str(self.folder)], self.folder),
            (["fork", "x", "--at-round", "2"], None),
        ]:
            self.assertEqual(_track._folder_of(arguments), folder)

    @needs("tensorboard")
    def test_a_run_is_tracked_and_interrupted_runs_are_told(self):
        sets = [part for name, value in SMALL.items() for part in ("--set", f"{name}={str(value).lower()}")]
        answer = self.command("run", QUICKSTART, *sets, "--track", "tensorboard", "--out", "run")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn("digest", answer.stdout)
        self.assertEqual(len(list(Path("run.tensorboard-live").rglob("events.*"))), 2)


if __name__ == "__main__":
    unittest.main()
