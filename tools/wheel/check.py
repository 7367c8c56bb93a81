#!/usr/bin/env python3
"""Installs the wheel into empty virtual environments and uses it as somebody would who has neither the checkout nor a compiler.

    python3 tools/wheel/check.py dist/fedreplay-*.whl [TEST ...]

tools/wheel/test calls it. Commands run in a folder outside of the checkout, with the environment's own `bin` as the whole PATH. PyTorch is
not downloaded: the one of .libtorch is put where pip would put it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-wheel/bin"
LIBTORCH = ROOT / ".libtorch"
WHEEL = None
README_DIGEST = re.search(r"^digest\s+([0-9a-f]{64})$", (ROOT / "README.md").read_text(), re.MULTILINE).group(1)


class Place:
    """A virtual environment with the wheel, and an empty folder to work in."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        self.work = folder / "work"
        self.python = folder / "venv/bin/python"
        for path in [self.home, self.work]:
            path.mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        subprocess.run(
            [TOOLS / "pip", "--python", self.python, "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", WHEEL],
            check=True,
        )
        self.packages = next((folder / "venv/lib").glob("python*/site-packages"))

    def environment(self, **more):
        return {"PATH": str(self.python.parent), "HOME": str(self.home), "LANG": "C.UTF-8", **more}

    def run(self, *command, code=0, inside=None, more=None, **options):
        """Runs a command of the environment and returns what it printed; fails if it does not end with `code`."""
        command = [str(part) for part in command]
        answer = subprocess.run(
            command, cwd=inside or self.work, env=self.environment(**(more or {})), capture_output=True, text=True, timeout=500, **options
        )
        assert answer.returncode == code, f"{command} ended with {answer.returncode}, not {code}:\n{answer.stdout}\n{answer.stderr}"
        return answer.stdout if code == 0 else answer.stderr

    def fedreplay(self, *arguments, **options):
        return self.run(self.python.parent / "fedreplay", *arguments, **options)

    def refused(self, *arguments, more=None):
        """Returns the one sentence of a refusal."""
        message = self.fedreplay(*(arguments or ["--version"]), code=2, more=more)
        assert message.startswith("error: ") and message.count("\n") == 1, message
        return message

    def work_in(self, name):
        (self.work / name).mkdir()
        return self.work / name


def copy_torch(into):
    """Puts PyTorch into a folder of packages. The two libraries that the program is linked to get times of their own, as pip gives."""
    for name in ["torch", "torchgen", "functorch", "nvidia", "torch-2.11.0.dist-info"]:
        linked = subprocess.run(["cp", "-al", LIBTORCH / name, into], capture_output=True)
        if linked.returncode != 0:
            shutil.rmtree(into / name, ignore_errors=True)
            subprocess.run(["cp", "-a", LIBTORCH / name, into], check=True)
    for name in ["libtorch_cpu.so", "libc10.so"]:
        library = into / "torch/lib" / name
        library.unlink()
        shutil.copy(LIBTORCH / "torch/lib" / name, library)


def fake_torch(packages, version="2.11.0+cu130", suffix=None):
    """A PyTorch of which only the files are there that tell its version and its Python; its libraries are links to the real ones."""
    module = suffix or next((LIBTORCH / "torch").glob("_C.*.so")).name
    torch = packages / "torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").touch()
    (torch / "version.py").write_text(f"__version__ = '{version}'\n")
    (torch / module).touch()
    (torch / "lib").symlink_to(LIBTORCH / "torch/lib")
    metadata = packages / f"torch-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")


def digest_of(text):
    return re.search(r"^digest\s+([0-9a-f]{64})$", text, re.MULTILINE).group(1)


class File(unittest.TestCase):
    """The wheel itself."""

    def test_its_tag_is_true(self):
        audited = json.loads(subprocess.run([TOOLS / "auditwheel", "show", "--json", WHEEL], check=True, capture_output=True, text=True).stdout)
        self.assertIn(f"-py3-none-{audited['sym_tag']}.whl", WHEEL.name)
        self.assertFalse(audited["unsupported_isa"])

    def test_it_has_one_program_and_no_library(self):
        with zipfile.ZipFile(WHEEL) as wheel:
            machine_code = [name for name in wheel.namelist() if wheel.read(name)[:4] == b"\x7fELF"]
        self.assertEqual(machine_code, ["fedreplay/bin/fedreplay"])
        self.assertLess(WHEEL.stat().st_size, 40_000_000)

    def test_the_program_looks_beside_the_package_and_in_no_folder_of_the_build(self):
        with zipfile.ZipFile(WHEEL) as wheel, tempfile.TemporaryDirectory() as folder:
            program = wheel.extract("fedreplay/bin/fedreplay", folder)
            found = subprocess.run([TOOLS / "patchelf", "--print-rpath", program], check=True, capture_output=True, text=True).stdout
        self.assertEqual(found.strip(), "$ORIGIN/../../torch/lib")


class Installed(unittest.TestCase):
    """Tests of a wheel that is installed in an environment of their own."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="fedreplay-wheel-")
        cls.addClassCleanup(folder.cleanup)
        cls.place = Place(Path(folder.name))


class Used(Installed):
    """The wheel beside a whole PyTorch."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        copy_torch(cls.place.packages)

    def test_the_quickstart_has_the_digest_of_the_readme(self):
        # A home of its own, in which no results are stored.
        home = self.place.work_in("home")
        own = {"HOME": str(home)}
        began = time.monotonic()
        first = self.place.fedreplay("quickstart", more=own)
        print(f"the quickstart took {time.monotonic() - began:.0f} s", file=sys.stderr)
        self.assertEqual(digest_of(first), README_DIGEST)
        self.assertTrue((self.place.work / "runs/quickstart/report.html").is_file())
        self.place.fedreplay("quickstart", more=own)
        # Hashes of the two libraries, which have other times here than those that the program was linked to.
        self.assertGreaterEqual(len(list((home / ".cache/fedreplay/hashes").iterdir())), 2)

        module = self.place.work_in("module")
        second = self.place.run(self.place.python, "-m", "fedreplay", "quickstart", inside=module, more=own)
        self.assertEqual(digest_of(second), README_DIGEST)
        third = self.place.fedreplay("quickstart", "--set", "rounds=1", "--out", "short", inside=module, more=own)
        self.assertNotEqual(digest_of(third), README_DIGEST)

    def test_signals_and_exit_codes_are_the_programs(self):
        work = self.place.work_in("interrupted")
        command = [self.place.python.parent / "fedreplay", "quickstart", "--store", "none"]
        with subprocess.Popen(command, cwd=work, env=self.place.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            next(line for line in run.stdout if line.startswith("[ROUND 2/"))
            run.send_signal(signal.SIGINT)
            run.stdout.read()
            self.assertEqual(run.wait(), 130)
        self.assertEqual(digest_of(self.place.fedreplay("quickstart", inside=work)), README_DIGEST)
        self.place.fedreplay("run", "missing.ron", code=2)

    def test_libraries_are_those_of_pytorch_and_none_of_the_checkout(self):
        program = self.place.packages / "fedreplay/bin/fedreplay"
        loaded = self.place.run(program, more={"LD_TRACE_LOADED_OBJECTS": "1"})
        self.assertRegex(loaded, rf"libtorch_cpu\.so => {re.escape(str(self.place.packages))}/")
        self.assertNotIn("not found", loaded)
        self.assertNotIn(str(ROOT), loaded)

    def test_another_libtorch_on_the_librarys_path_is_not_loaded(self):
        other = self.place.work_in("other")
        (other / "libtorch_cpu.so").write_text("no library")
        self.place.fedreplay("--version", more={"LD_LIBRARY_PATH": str(other)})

    def test_packages_that_may_not_be_written_to(self):
        work = self.place.work_in("read-only")
        command = [self.place.python.parent / "fedreplay", "quickstart", "--set", "rounds=1"]
        if os.geteuid() == 0:
            # Permissions do not stop root: the folder is mounted so that nothing can be written to it.
            if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
                self.skipTest("namespaces are not allowed here")
            mounted = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ! touch "$0/file" 2>&1 && PATH="$1" && shift && exec "$@"'
            path = {"PATH": os.environ["PATH"]}
            command = ["unshare", "--mount", "sh", "-c", mounted, self.place.packages, self.place.python.parent, *command]
            self.place.run(*command, inside=work, more=path)
        else:
            self.place.packages.chmod(0o555)
            self.addCleanup(self.place.packages.chmod, 0o755)
            self.place.run(*command, inside=work)

    @unittest.skipIf(Path("/proc/driver/nvidia/version").exists(), "this machine has a driver")
    def test_a_missing_driver(self):
        message = self.place.fedreplay("quickstart", "--device", "cuda", "--out", "gpu", code=2)
        self.assertIn("no NVIDIA driver is loaded: install one", message)


class Refused(Installed):
    """What the first command says where it cannot work."""

    def setUp(self):
        self.addCleanup(self.remove_torch)

    def remove_torch(self):
        for path in [*self.place.packages.glob("torch*"), *self.place.packages.glob("*.pth")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def test_no_torch(self):
        message = self.place.refused("quickstart")
        self.assertIn("has no PyTorch: run `", message)
        self.assertIn("pip install torch==2.11.0", message)

    def test_another_torch(self):
        fake_torch(self.place.packages, version="2.10.0+cu128")
        self.assertIn("is PyTorch 2.10.0+cu128: run `", self.place.refused())

    def test_torch_of_another_python(self):
        fake_torch(self.place.packages, suffix="_C.cpython-39-x86_64-linux-gnu.so")
        self.assertIn("is for another Python (_C.cpython-39-", self.place.refused())

    def test_torch_in_another_folder_is_found(self):
        others = self.place.folder / "user"
        fake_torch(others)
        (self.place.packages / "others.pth").write_text(f"{others}\n")
        self.place.fedreplay("--version")

    def test_two_versions_that_python_finds(self):
        fake_torch(self.place.packages)
        metadata = self.place.folder / "old/fedreplay-0.1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fedreplay\nVersion: 0.1.0\n")
        message = self.place.refused(more={"PYTHONPATH": str(metadata.parent)})
        self.assertIn("two versions of fedreplay are side by side, 0.1.0 in ", message)

    def test_another_version_in_the_shell(self):
        fake_torch(self.place.packages)
        other = self.place.folder / "local/bin/fedreplay"
        other.parent.mkdir(parents=True)
        other.write_text("#!/bin/sh\necho fedreplay 0.1.0\n")
        other.chmod(0o755)
        path = f"{other.parent}:{self.place.python.parent}"
        message = self.place.run(self.place.python, "-m", "fedreplay", "--version", code=2, more={"PATH": path})
        self.assertRegex(message, rf"two versions of fedreplay are side by side: .* and fedreplay 0\.1\.0 as {other}")
        self.place.fedreplay("--version", more={"PATH": path})
        self.place.run(self.place.python, "-m", "fedreplay", "--version")

    def test_another_machine(self):
        fake_torch(self.place.packages)
        setarch = shutil.which("setarch")
        message = self.place.run(setarch, "i686", self.place.python.parent / "fedreplay", "--version", code=2)
        self.assertIn("and this is Linux on i686: the kernels", message)

    def test_the_source_distribution(self):
        name = WHEEL.name.split("-py3-")[0]
        shutil.unpack_archive(WHEEL.parent / f"{name}.tar.gz", self.place.work)
        backend = [TOOLS / "python", ROOT / "tools/wheel/backend.py", "build_wheel", self.place.work / name, self.place.work]
        self.assertIn("run `make wheel` in a checkout", self.place.run(*backend, code=1))
        self.assertIn("and this is Linux on i686: the kernels", self.place.run(shutil.which("setarch"), "i686", *backend, code=1))


if __name__ == "__main__":
    WHEEL = Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)
