"""The notebook of docs/ runs from beginning to end, and says what its text says."""

import json
import os
import sys
import unittest
from pathlib import Path
from unittest import mock

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from world import ROOT, World

import fedreplay

NOTEBOOK = ROOT / "docs/notebooks/first-federation.ipynb"

# A checkout has the scenario in another place than the package.
SETUP = f"""
from pathlib import Path
from fedreplay import _program
if not (_program._DATA / "scenarios").exists():
    _program._DATA = Path({str(ROOT)!r})
"""


class Notebook(World):
    def test_it_runs_and_shows_what_it_promises(self):
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(SETUP))
        # The kernel is this Python, whatever kernels are installed.
        kernels = self.folder / "kernels" / "kernels" / "python3"
        kernels.mkdir(parents=True)
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (kernels / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
        # The package is the one that this test imports.
        package = str(Path(fedreplay.__file__).parents[1])
        variables = {"JUPYTER_PATH": str(self.folder / "kernels"), "PYTHONPATH": package, "IPYTHONDIR": str(self.folder / "ipython")}
        # Of matplotlib the notebook's own backend.
        with mock.patch.dict(os.environ, variables):
            os.environ.pop("MPLBACKEND")
            manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
            NotebookClient(notebook, km=manager, timeout=1200, resources={"metadata": {"path": str(self.folder)}}).execute()
        if "FEDREPLAY_KEEP_NOTEBOOK" in os.environ:
            nbformat.write(notebook, os.environ["FEDREPLAY_KEEP_NOTEBOOK"])
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        self.assertEqual([output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"], [])
        pictures = sum("image/png" in output.get("data", {}) for output in outputs)
        self.assertEqual(pictures, 5)
        self.check_claims()

    def check_claims(self):
        folders = {Path(run).parent.name: fedreplay.open(Path(run).parent) for run in Path("runs/stragglers").rglob("manifest.json")}
        self.assertEqual(len(folders), 3)
        deadline, prox, buffered = (next(run for name, run in folders.items() if key in name) for key in ("FedAvg", "FedProx", "FedBuff"))
        self.assertGreater(prox.hours, 2 * deadline.hours)
        self.assertGreater(prox.hours, 2 * buffered.hours)
        phones = "select count(*) from tasks join population using (client) where fate = 'counted' and device = 'phone'"
        counted = {run: run.sql(phones).fetchall()[0][0] for run in (deadline, prox, buffered)}
        self.assertLess(counted[deadline], counted[prox] / 4)
        self.assertLess(counted[deadline], counted[buffered] / 2)
        for run in folders.values():
            self.assertLess(run.loss, run.summary["loss_before"] - 0.5)
        lost = deadline.summary["outcomes"]
        self.assertGreater(lost["late"], 20)

    def test_it_is_committed_without_outputs(self):
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                self.assertEqual((cell.outputs, cell.execution_count), ([], None))


if __name__ == "__main__":
    unittest.main()
