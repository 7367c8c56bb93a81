"""The functions of the package, by a small run of the real program."""

import json
import re
import shutil
import struct
import subprocess
import unittest
import warnings
from pathlib import Path

import numpy
import pyarrow.parquet
from world import QUICKSTART, ROOT, SMALL, World

import fedreplay
from fedreplay import _program, _ron


class Runs(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.steps = []
        cls.run_ = fedreplay.run(QUICKSTART, set=SMALL, out="run", progress=cls.steps.append)

    def test_the_digest_is_that_of_the_command_line(self):
        sets = [part for name, value in SMALL.items() for part in ("--set", f"{name}={str(value).lower()}")]
        command = [*_program.command(), "run", str(QUICKSTART), *sets, "--out", "by-command"]
        printed = subprocess.run(command, env=_program.environment(), capture_output=True, text=True, check=True).stdout
        self.assertIn(f"digest      {self.run_.digest}\n", printed)

    def test_a_dictionary_and_ron_text_give_the_digest_of_the_file(self):
        scenario = fedreplay.check(QUICKSTART, set=SMALL)
        for path in ("folder",):
            scenario["model"][path] = str(QUICKSTART.parent / scenario["model"][path])
        for path in ("file", "test_file"):
            scenario["data"][path] = str(QUICKSTART.parent / scenario["data"][path])
        by_dictionary = fedreplay.run(scenario, out="by-dictionary")
        self.assertEqual(by_dictionary.digest, self.run_.digest)
        by_text = fedreplay.run(by_dictionary.scenario_text, out="by-text")
        self.assertEqual(by_text.digest, self.run_.digest)
        self.assertEqual(list(Path().glob(".fedreplay-*")), [], "files for the program are left")

    def test_progress_has_a_line_per_round_and_moves_within_rounds(self):
        self.assertEqual(sum(step.kind == "round" for step in self.steps), 2)
        steps = []
        # Long enough for some seconds, in each of which a share is said.
        fedreplay.run(QUICKSTART, set={"rounds": 8, "evaluation.local_baseline": False}, out="longer", store="none", progress=steps.append)
        shares = [step.share for step in steps if step.share is not None]
        self.assertTrue(all(0 <= share <= 1 for share in shares), shares)
        self.assertTrue(any(0 < share < 1 for share in shares), steps)
        self.assertEqual(shares, sorted(shares), "all work of this run is known before it begins")

    def test_figures_are_those_of_the_tables(self):
        summary = self.run_.summary
        losses = self.run_.evaluations.arrow().to_pylist()
        of_last = [row["loss"] for row in losses if row["round"] == 2 and row["split"] == "test" and row["client"] is None]
        self.assertEqual([self.run_.loss], of_last)
        self.assertEqual(summary["rounds"], 2)
        self.assertEqual(self.run_.hours, self.run_.rounds.arrow()["closed_at_ns"][-1].as_py() / 3600e9)
        self.assertTrue(self.run_.is_done)
        self.assertEqual(self.run_.name, "quickstart")
        self.assertEqual(self.run_.scenario["rounds"], 2)

    def test_the_tables_are_those_of_the_documentation(self):
        documented = re.findall(r"^## `(?:ledger/|timing/)(\w+)(?:\.parquet)?`", (ROOT / "docs/ledger.md").read_text(), re.MULTILINE)
        for name in documented:
            self.assertTrue(hasattr(fedreplay.Run, name), f"a run has no attribute {name}")
        self.assertLessEqual(set(self.run_.tables), set(documented))
        for name, table in self.run_.tables.items():
            self.assertEqual(getattr(self.run_, name).files, table.files)
        with self.assertRaisesRegex(AttributeError, "no table repeats, only aggregation"):
            self.run_.repeats

    def test_every_library_reads_the_same(self):
        import duckdb
        import pandas
        import polars

        tasks = self.run_.tasks
        files = sorted(Path("run/ledger/tasks").glob("*.parquet"))
        expected = sum(pyarrow.parquet.read_table(file)["bytes_up"].to_numpy().sum() for file in files)
        self.assertEqual(expected, self.run_.summary["bytes_up"])
        self.assertEqual(tasks.arrow(["bytes_up"])["bytes_up"].to_numpy().sum(), expected)
        self.assertEqual(tasks.polars()["bytes_up"].sum(), expected)
        self.assertEqual(tasks.lazy().select("bytes_up").collect()["bytes_up"].sum(), expected)
        self.assertEqual(tasks.pandas(["bytes_up"])["bytes_up"].sum(), expected)
        self.assertEqual(tasks.duckdb().sum("bytes_up").fetchall(), [(expected,)])
        self.assertEqual(self.run_.sql("select sum(bytes_up) from tasks").fetchall(), [(expected,)])
        self.assertEqual(duckdb.sql("select sum(bytes_up) from tasks").fetchall(), [(expected,)])
        self.assertEqual(polars.DataFrame(tasks)["bytes_up"].sum(), expected)
        if hasattr(pandas.DataFrame, "from_arrow"):
            self.assertEqual(pandas.DataFrame.from_arrow(tasks)["bytes_up"].sum(), expected)

    def test_whole_numbers_of_pandas_may_be_missing(self):
        types = self.run_.tasks.pandas().dtypes
        self.assertEqual([str(types[name]) for name in ("task", "client", "upload_done_at_ns")], ["UInt64", "UInt32", "Int64"])

    def test_columns_have_their_units(self):
        self.assertEqual(self.run_.tasks.units["bytes_up"], "B")
        self.assertEqual(self.run_.tasks.units["loss_last"], "nats/token or nats/pair")

    def test_length_and_columns_read_no_rows(self):
        shutil.copytree("run", "hollow")
        for file in Path("hollow/ledger/events").glob("*.parquet"):
            content = bytearray(file.read_bytes())
            footer = int.from_bytes(content[-8:-4], "little") + 8
            content[4:-footer] = bytes(len(content) - footer - 4)
            file.write_bytes(content)
        events = fedreplay.open("hollow").events
        self.assertEqual(len(events), len(self.run_.events))
        self.assertEqual(events.columns, self.run_.events.columns)
        with self.assertRaises(OSError):
            events.arrow()

    def test_an_adapter_is_a_peft_folder_and_tensors(self):
        adapter = self.run_.adapter(2)
        folder = adapter.peft("adapter")
        config = json.loads((folder / "adapter_config.json").read_text())
        self.assertEqual(config["r"], 8)
        tensors = adapter.tensors()
        # Two modules in each of four layers, two factors each.
        self.assertEqual(len(tensors), 16)
        name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
        self.assertEqual((tensors[name].shape, tensors[name].dtype), ((8, 128), numpy.float32))
        # The bytes of this tensor by the format's definition.
        content = (folder / "adapter_model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        begin, end = json.loads(content[8 : 8 + length])[name]["data_offsets"]
        self.assertEqual(tensors[name].tobytes(), content[8 + length + begin : 8 + length + end])
        self.assertTrue(numpy.abs(tensors[name]).max() > 0)
        with self.assertRaises(fedreplay.Refused):
            adapter.peft("adapter")

    def test_checks_find_what_was_changed(self):
        self.assertTrue(fedreplay.verify(self.run_))
        self.assertTrue(fedreplay.verify("run", digest=self.run_.digest))
        replayed = fedreplay.replay(self.run_, round=1)
        self.assertTrue(replayed and replayed.difference is None)
        shutil.copytree("run", "changed")
        (file,) = Path("changed/ledger/rounds").glob("*.parquet")
        file.write_bytes(file.read_bytes()[:-1])
        verification = fedreplay.verify("changed")
        self.assertFalse(verification)
        self.assertTrue(any("rounds" in difference for difference in verification.differences), verification)

    def test_an_evaluation_repeats_the_losses_of_the_run(self):
        figures = fedreplay.evaluate(self.run_).figures
        (loss,) = [row["loss"] for row in figures if row["part"] == "test" and row["client"] is None and row["subject"] == "global"]
        self.assertEqual(loss, self.run_.loss)

    def test_a_fork_differs_from_its_round_on(self):
        fork = fedreplay.fork(self.run_, 2, {"training.lr": 0.02}, out="fork")
        hashes = [run.rounds.arrow()["model_hash"].to_pylist() for run in (self.run_, fork)]
        self.assertEqual(hashes[0][0], hashes[1][0])
        self.assertNotEqual(hashes[0][1], hashes[1][1])

    def test_a_report_shows_itself_in_a_notebook(self):
        report = self.run_.report()
        self.assertEqual(Path(report), Path("run/report.html"))
        self.assertIn("srcdoc=\"&lt;!", report._repr_html_())
        compared = fedreplay.report(self.run_, "run", out="both.html")
        self.assertTrue(Path(compared).read_text().startswith("<!"))

    def test_html_of_a_run_and_a_table_is_escaped(self):
        self.assertIn(f"{self.run_.loss:.4f} after", self.run_._repr_html_())
        self.assertIn("bytes_up [B]", self.run_.tasks._repr_html_())
        from fedreplay._html import table

        self.assertNotIn("<script>", table(["a"], [["<script>"]]))

    def test_plots_draw_the_figures(self):
        line = self.run_.plot.loss("time").get_lines()[0]
        points = next(curve["points"] for curve in self.run_.summary["series"] if curve["name"] == "loss/test")
        self.assertEqual(list(line.get_ydata()), [point["value"] for point in points])
        self.assertEqual(list(line.get_xdata()), [point["at_ns"] / 3600e9 for point in points])
        moved = self.run_.plot.loss("bytes").get_lines()[0].get_xdata()
        self.assertEqual(moved[-1] * 1e6, self.run_.summary["bytes_down"] + self.run_.summary["bytes_up"])
        axes = self.run_.plot.timeline()
        # Of each fate the whole tasks, then their training.
        drawn = sum(len(lines.get_segments()) for lines in axes.collections[::2])
        self.assertEqual(drawn, len(self.run_.tasks))
        bars = sum(bar.get_height() for bar in self.run_.plot.participation().patches)
        self.assertEqual(bars, len(self.run_.tasks))

    def test_a_run_is_replaced_only_by_one_that_begins(self):
        shutil.copytree("run", "again")
        with self.assertRaises(fedreplay.Refused):
            fedreplay.run(QUICKSTART, set=SMALL, out="again")
        with self.assertRaises(fedreplay.Refused):
            fedreplay.run(QUICKSTART, set={"rounds": 0}, out="again", overwrite=True)
        self.assertEqual(fedreplay.open("again").digest, self.run_.digest)
        other = fedreplay.run(QUICKSTART, set={**SMALL, "rounds": 1}, out="again", overwrite=True)
        self.assertNotEqual(other.digest, self.run_.digest)
        self.assertEqual(list(Path().glob(".again*")), [])

    def test_an_interrupted_run_is_resumed_to_the_same_digest(self):
        def stop(step):
            if step.kind == "round":
                raise KeyboardInterrupt

        with self.assertRaises(fedreplay.Interrupted) as caught:
            fedreplay.run(QUICKSTART, set={**SMALL, "rounds": 3, "seed": 3}, out="stopped", store="store", progress=stop)
        self.assertEqual(caught.exception.folder, Path("stopped"))
        self.assertIn("fedreplay.resume('stopped')", str(caught.exception))
        self.assertFalse(fedreplay.open("stopped").is_done)
        resumed = fedreplay.resume("stopped", store="store")
        whole = fedreplay.run(QUICKSTART, set={**SMALL, "rounds": 3, "seed": 3}, out="whole", store="none")
        self.assertEqual(resumed.digest, whole.digest)


class Plans(World):
    def test_a_plan_has_the_tables_of_a_schedule(self):
        plan = fedreplay.plan(QUICKSTART, seed=5)
        self.assertEqual(len(plan.tasks), plan.figures["tasks"])
        self.assertEqual(len(plan.rounds), 12)
        self.assertIsNone(plan.loss)
        with self.assertRaises(ValueError):
            plan.plot.loss()
        folder = plan.folder
        del plan
        self.assertFalse(folder.exists(), "a plan without a folder of its own is temporary")

    def test_repeats_have_bands(self):
        plan = fedreplay.plan(QUICKSTART, repeat=2, out="repeated")
        self.assertEqual(plan.figures["bands"]["repeats"], 2)
        self.assertEqual(len(plan.repeats), 24)


class Sweeps(World):
    def test_cells_have_their_settings(self):
        sweep = fedreplay.sweep(
            QUICKSTART,
            variants={"FedAvg": {}, "FedProx": {"algorithm": {"FedProx": {"mu": 0.5}}}},
            axes={"training.lr": [1e-3]},
            set=SMALL,
            seeds=[1, 2],
            name="methods",
        )
        self.assertEqual(sweep.folder, Path("runs/methods"))
        self.assertEqual([(cell.variant, cell.seed) for cell in sweep.cells], [("FedAvg", 1), ("FedAvg", 2), ("FedProx", 1), ("FedProx", 2)])
        self.assertEqual(sweep[3].scenario["algorithm"]["FedProx"]["mu"], 0.5)
        self.assertEqual(sweep["FedProx"].folder, sweep[2].folder)
        self.assertTrue(all(run.scenario["training"]["lr"] == 1e-3 for run in sweep))
        table = sweep.pandas()
        self.assertEqual(list(table["digest"]), [run.digest for run in sweep])
        self.assertEqual(sweep.arrow().num_rows, 4)
        axes = sweep.plot.loss("time")
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        self.assertEqual(labels, list(dict.fromkeys(cell.label for cell in sweep.cells)))
        self.assertEqual(len(axes.get_lines()), 4)
        self.assertEqual(list(Path().glob(".fedreplay-*")), [])

    def test_a_sweep_file_is_run_as_it_is(self):
        text = f'(name: "text", scenario: "{QUICKSTART}", axes: [(path: "rounds", values: ["1", "2"])])'
        sweep = fedreplay.sweep(text, set={name: value for name, value in SMALL.items() if name != "rounds"}, out="by-text")
        self.assertEqual([len(run.rounds) for run in sweep], [1, 2])


class Errors(World):
    def check(self, scenario, error, **arguments):
        with self.assertRaises(error) as caught:
            fedreplay.plan(scenario, **arguments)
        return caught.exception

    def test_a_file_is_named_with_line_and_nearest_name(self):
        Path("wrong.ron").write_text(QUICKSTART.read_text().replace("batch_size:", "batchsize:"))
        error = self.check("wrong.ron", fedreplay.Refused)
        lines = Path("wrong.ron").read_text().splitlines()
        self.assertEqual((error.exit_code, error.file, error.suggestion), (2, Path("wrong.ron"), "batch_size"))
        self.assertIn("batchsize", lines[error.line - 1])
        self.assertGreater(error.column, 1)

    def test_text_has_a_line_and_no_file(self):
        error = self.check('(\n    nam: "x",\n)', fedreplay.Refused)
        self.assertEqual((error.file, error.line, error.suggestion), (None, 2, "name"))

    def test_a_field_of_a_dictionary_is_named(self):
        scenario = fedreplay.check(QUICKSTART)
        scenario["training"]["learning"] = scenario["training"].pop("lr")
        error = self.check(scenario, fedreplay.Refused)
        self.assertRegex(str(error), "^failed to set training: unknown field `learning`")
        del scenario["training"]
        self.assertIn("it has no training", str(self.check(scenario, fedreplay.Refused)))

    def test_a_change_is_named(self):
        error = self.check(QUICKSTART, fedreplay.Refused, set={"training.lrr": 1})
        self.assertEqual(error.suggestion, "lr")
        with self.assertRaises(TypeError):
            fedreplay.plan(QUICKSTART, set="training.lr=1")

    def test_what_is_no_run_is_refused(self):
        with self.assertRaises(fedreplay.Refused):
            fedreplay.open("nothing")

    def test_a_machine_that_fails_is_no_refusal(self):
        run = fedreplay.plan(QUICKSTART, out="plan").folder
        (file,) = (run / "ledger/rounds").glob("*.parquet")
        file.write_bytes(b"PAR1")
        with self.assertRaises(fedreplay.Failed) as caught:
            fedreplay.open(run).summary
        self.assertEqual(caught.exception.exit_code, 1)

    def test_warnings_of_the_program_are_warnings_of_python(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fedreplay.check(QUICKSTART, set={"algorithm": "Scaffold", "training.optimizer": "AdamW"})
        self.assertTrue(any("SCAFFOLD" in str(warning.message) for warning in caught), caught)


class Scenarios(World):
    def test_ron_dictionaries_and_the_program_agree(self):
        names = ["quickstart", "compression/slow-uplink", "privacy/user-level", "robust/rare-data", "system/edges"]
        for name in [*names, "federated-lora/two-kinds-of-devices", "system/diurnal-phones"]:
            with self.subTest(name), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.check_round_trip(ROOT / "scenarios" / f"{name}.ron")

    def check_round_trip(self, file):
        checked = fedreplay.plan(file, detail="rounds")
        scenario = fedreplay.check(file)
        self.assertEqual(checked.scenario, scenario)
        # Paths of a dictionary start from the current folder.
        for section in ("model", "data"):
            for field, value in scenario[section].items():
                if field in ("folder", "file", "test_file", "tokenizer", "root_file") and value is not None:
                    scenario[section][field] = str(file.parent / value)
        self.assertEqual(fedreplay.check(scenario), scenario)

    def test_notation_that_the_program_does_not_write_is_read(self):
        text = """// A comment
        (a: r#"x"y"#, /* another */ b: -.5e1, c: [1_000, 0x1F, inf], d: {"k": A(1, 2), "l": Some(None)}, e: "\\u{e9}\\n\\x41", f: B(C()), g: ())"""
        expected = {"a": 'x"y', "b": -5.0, "c": [1000, 31, float("inf")], "d": {"k": {"A": [1, 2]}, "l": None}, "e": "é\nA", "f": {"B": "C"}, "g": []}
        self.assertEqual(_ron.loads(text), expected)
        for wrong in ("(a: )", "(a: 1", "[1 2]", "(a: 1) 2", "@"):
            with self.assertRaises(ValueError, msg=wrong):
                _ron.loads(wrong)
        for text in ('a"b\\', "line\nbreak\x1b", "é😀"):
            self.assertEqual(_ron.loads(_ron.text_of(text)), text)


if __name__ == "__main__":
    unittest.main()
