"""Which program and which libraries are taken, with a made-up PyTorch in place of the real one."""

import importlib.machinery
import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from fedreplay import _program

OWN = importlib.machinery.EXTENSION_SUFFIXES[0]


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.packages = Path(folder.name) / "site-packages"
        self.program = self.packages / "fedreplay/bin/fedreplay"
        self.program.parent.mkdir(parents=True)
        self.program.touch(0o755)
        others = [path for path in sys.path if not (Path(path) / "torch").exists() and not list(Path(path).glob("fedreplay-*.dist-info"))]
        environment = {name: value for name, value in os.environ.items() if name not in ("FEDREPLAY_PROGRAM", "LD_LIBRARY_PATH")}
        for patch in [
            mock.patch.object(_program, "_PROGRAM", self.program),
            mock.patch.object(sys, "path", [str(self.packages), *others]),
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.dict(sys.modules),
        ]:
            patch.start()
            self.addCleanup(patch.stop)
        sys.modules.pop("torch", None)

    def write_torch(self, folder, version="2.11.0+cu130", module=f"_C{OWN}", library="libtorch_cpu.so"):
        torch = Path(folder) / "torch"
        (torch / "lib").mkdir(parents=True)
        (torch / "__init__.py").touch()
        (torch / "version.py").write_text(f"__version__ = '{version}'\n")
        (torch / module).touch()
        (torch / "lib" / library).touch()
        return torch / "lib"

    def check_refused(self, *words):
        with self.assertRaises(_program.NotUsable) as caught:
            _program.command()
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))


class Libraries(WithFolder):
    def test_torch_of_the_same_folder_is_left_to_the_program(self):
        self.write_torch(self.packages)
        self.assertEqual(_program.command(), [str(self.program)])
        self.assertNotIn("LD_LIBRARY_PATH", _program.environment())

    def test_torch_of_another_folder_is_named(self):
        libraries = self.write_torch(self.packages.parent / "user")
        sys.path.append(str(self.packages.parent / "user"))
        with mock.patch.dict(os.environ, LD_LIBRARY_PATH="/opt/lib"):
            self.assertEqual(_program.environment()["LD_LIBRARY_PATH"], f"{libraries}:/opt/lib")

    def test_another_libtorch_of_the_environment_comes_after(self):
        libraries = self.write_torch(self.packages)
        other = self.write_torch(self.packages.parent / "other", version="2.4.0")
        with mock.patch.dict(os.environ, LD_LIBRARY_PATH=str(other)):
            self.assertEqual(_program.environment()["LD_LIBRARY_PATH"], f"{libraries}:{other}")

    def test_a_build_for_the_cpu_is_the_same_version(self):
        self.write_torch(self.packages, version="2.11.0+cpu")
        _program.command()


class Refusals(WithFolder):
    def test_no_torch(self):
        self.check_refused("has no PyTorch", "pip install torch==2.11.0")

    def test_another_torch(self):
        self.write_torch(self.packages, version="2.11.1")
        self.check_refused("is PyTorch 2.11.1", "pip install torch==2.11.0")

    def test_torch_of_another_python(self):
        self.write_torch(self.packages, module="_C.cpython-37m-x86_64-linux-gnu.so")
        self.check_refused("is for another Python", "_C.cpython-37m", "--force-reinstall")

    def test_torch_without_its_library(self):
        self.write_torch(self.packages, library="libc10.so")
        self.check_refused("incomplete", "libtorch_cpu.so")

    def test_other_machines(self):
        for system, machine in [("Linux", "aarch64"), ("Darwin", "arm64"), ("Darwin", "x86_64"), ("Windows", "AMD64")]:
            with (
                self.subTest(system=system, machine=machine),
                mock.patch("platform.system", return_value=system),
                mock.patch("platform.machine", return_value=machine),
            ):
                self.check_refused(f"{system} on {machine}", "AVX2")

    def test_two_versions_that_python_finds(self):
        self.write_torch(self.packages)
        for folder, version in [(self.packages, "9.1"), (self.packages.parent / "old", "9.0")]:
            metadata = folder / f"fedreplay-{version}.dist-info" / "METADATA"
            metadata.parent.mkdir(parents=True)
            metadata.write_text(f"Metadata-Version: 2.1\nName: fedreplay\nVersion: {version}\n")
        _program.command()
        sys.path.append(str(self.packages.parent / "old"))
        self.check_refused("two versions", "9.0", "9.1", "pip uninstall fedreplay")

    def test_no_program(self):
        self.program.unlink()
        self.check_refused("without its program", "make wheel")

    def test_a_program_that_may_not_be_executed(self):
        self.write_torch(self.packages)
        self.program.chmod(0o644)
        self.check_refused("may not be executed")


class Named(WithFolder):
    def test_another_program_needs_no_torch(self):
        with mock.patch.dict(os.environ, FEDREPLAY_PROGRAM=str(self.program)):
            self.assertEqual(_program.command(), [str(self.program)])
            self.assertNotIn("LD_LIBRARY_PATH", _program.environment())

    def test_it_must_be_a_program(self):
        with mock.patch.dict(os.environ, FEDREPLAY_PROGRAM=str(self.packages)):
            self.check_refused("FEDREPLAY_PROGRAM", "not a program")

    def test_an_unknown_scenario(self):
        with self.assertRaisesRegex(_program.NotUsable, "no scenario 'quickstrat'"):
            _program.scenario("quickstrat")


if __name__ == "__main__":
    unittest.main()
