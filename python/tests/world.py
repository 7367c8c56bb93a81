"""What the tests share: a folder of their own with a store, and a small federation."""

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "scenarios" / "quickstart.ron"

# Two rounds of two clients: the least that has late rounds, several clients and several files.
SMALL = {
    "rounds": 2,
    "server.protocol.Synchronous.clients_per_round": 2,
    "server.protocol.Synchronous.over_selection": 1,
    "evaluation.local_baseline": False,
}


class World(unittest.TestCase):
    """Tests in a folder of their own, which is the current one."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        variables = {"XDG_CACHE_HOME": str(cls.folder / "cache"), "MPLBACKEND": "Agg", "MPLCONFIGDIR": str(cls.folder / "matplotlib")}
        if "FEDREPLAY_PROGRAM" not in os.environ and (ROOT / "target/release/fedreplay").exists():
            variables["FEDREPLAY_PROGRAM"] = str(ROOT / "target/release/fedreplay")
        cls.enterClassContext(mock.patch.dict(os.environ, variables))
        before = Path.cwd()
        os.chdir(cls.folder)
        cls.addClassCleanup(os.chdir, before)
