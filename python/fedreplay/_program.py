"""The program that this package carries: where it is, which libraries it loads, and why it cannot be used here.

The program is linked to LibTorch, whose libraries are those of the user's own PyTorch. Nothing here imports torch, which takes
seconds: it is only looked for.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

TORCH = "2.11.0"
"""Version of PyTorch whose libraries the program is linked to."""

_HERE = Path(__file__).resolve().parent
_PROGRAM = _HERE / "bin" / "fedreplay"
_DATA = _HERE / "data"

_VARIABLE = "FEDREPLAY_PROGRAM"
_LIBRARY = "libtorch_cpu.so"


class NotUsable(RuntimeError):
    """The program cannot be used; the text is one sentence that says why and what to do."""


def command() -> list[str]:
    """Returns the beginning of the command line that starts the program.

    The environment variable ``FEDREPLAY_PROGRAM`` names another program, for development.

    Raises:
        NotUsable: if the program or the PyTorch that it needs cannot be used.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        if not os.access(named, os.X_OK) or os.path.isdir(named):
            raise NotUsable(f"{_VARIABLE} names {named}, which is not a program")
        return [named]
    _check_platform()
    _check_installations()
    if not _PROGRAM.is_file():
        raise NotUsable(
            f"this copy of fedreplay is without its program ({_PROGRAM}): install a wheel, which `make wheel` makes in a checkout"
        )
    if not os.access(_PROGRAM, os.X_OK):
        raise NotUsable(f"{_PROGRAM} may not be executed: install fedreplay again, on a file system that allows programs")
    _torch_libraries()
    return [str(_PROGRAM)]


def environment() -> dict[str, str]:
    """Returns the environment in which the program is to be started.

    The program finds PyTorch by itself in the folder that it was installed into. Where PyTorch is in another one, or a folder of
    ``LD_LIBRARY_PATH`` has another LibTorch, which the loader would prefer, that variable begins with the right folder.

    Raises:
        NotUsable: as :func:`command`.
    """
    variables = dict(os.environ)
    if variables.get(_VARIABLE):
        return variables
    libraries = _torch_libraries()
    given = variables.get("LD_LIBRARY_PATH", "")
    is_hidden = any((Path(folder) / _LIBRARY).exists() for folder in given.split(os.pathsep) if folder)
    if is_hidden or not _is_same(_PROGRAM.parent / "../../torch/lib", libraries):
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(libraries), given]))
    return variables


def scenario(name: str) -> Path:
    """Returns the path of a scenario of this package: ``quickstart``.

    Raises:
        NotUsable: if there is none of this name.
    """
    folder = _DATA / "scenarios"
    path = folder / f"{name}.ron"
    if not path.is_file():
        names = ", ".join(sorted(path.stem for path in folder.glob("*.ron"))) or "none"
        raise NotUsable(f"this package has no scenario {name!r}; it has: {names}")
    return path


def check_path() -> None:
    """Refuses if ``fedreplay`` in the shell is another version than this package.

    Raises:
        NotUsable: if it is.
    """
    found = shutil.which("fedreplay")
    if found is None or os.environ.get(_VARIABLE) or _is_own_script(found):
        return
    own = _version_of(command(), environment())
    other = _version_of([found], dict(os.environ))
    if other is not None and own is not None and own != other:
        raise NotUsable(
            f"two versions of fedreplay are side by side: {own} for {sys.executable}, and {other} as {found}, which comes first on "
            f"PATH: activate the environment that you mean, or remove one of them"
        )


def _check_platform() -> None:
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise NotUsable(
            f"fedreplay runs on Linux with an x86-64 processor, and this is {system} on {machine}: the kernels that give everybody "
            f"the same bits are written for AVX2"
        )


def _check_installations() -> None:
    """Refuses if Python finds this package in two versions, of which an import and a script may take different ones."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(name="fedreplay"):
        found.setdefault(distribution.version, str(distribution.locate_file("")))
    if len(found) > 1:
        listed = " and ".join(f"{version} in {folder}" for version, folder in sorted(found.items()))
        raise NotUsable(f"two versions of fedreplay are side by side, {listed}: run `{_pip('uninstall fedreplay')}` until one is left")


def _torch_libraries() -> Path:
    """Returns the folder with LibTorch's libraries, of the PyTorch that this Python would import."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise NotUsable(
            f"fedreplay computes with the libraries of PyTorch {TORCH}, and {sys.executable} has no PyTorch: "
            f"run `{_pip(f'install torch=={TORCH}')}`"
        )
    folder = Path(spec.origin).parent
    version = _torch_version(folder)
    if version.split("+")[0] != TORCH:
        raise NotUsable(
            f"fedreplay computes with the libraries of PyTorch {TORCH}, and {folder} is PyTorch {version}: "
            f"run `{_pip(f'install torch=={TORCH}')}`, in an environment of its own if something else needs {version}"
        )
    _check_python_of(folder)
    libraries = folder / "lib"
    if not (libraries / _LIBRARY).is_file():
        raise NotUsable(f"PyTorch in {folder} is incomplete, without lib/{_LIBRARY}: run `{_reinstall()}`")
    return libraries


def _torch_version(folder: Path) -> str:
    """Returns the version that PyTorch's files state. The metadata of a package may be those of another copy."""
    try:
        text = (folder / "version.py").read_text(encoding="utf-8")
    except OSError:
        text = ""
    stated = re.search(r"^__version__ = ['\"](.+)['\"]", text, re.MULTILINE)
    if stated is None:
        raise NotUsable(f"PyTorch in {folder} is incomplete, without its version: run `{_reinstall()}`")
    return stated.group(1)


def _check_python_of(folder: Path) -> None:
    """Refuses a PyTorch that this Python could not import, although the program itself would start."""
    if any((folder / f"_C{suffix}").is_file() for suffix in importlib.machinery.EXTENSION_SUFFIXES):
        return
    modules = sorted(path.name for path in folder.glob("_C.*.so"))
    if not modules:
        raise NotUsable(f"PyTorch in {folder} is incomplete, without its compiled module: run `{_reinstall()}`")
    own = importlib.machinery.EXTENSION_SUFFIXES[0]
    raise NotUsable(
        f"PyTorch in {folder} is for another Python ({modules[0]}, and {sys.executable} loads _C{own}): "
        f"run `{_reinstall()}`, and see that PYTHONPATH names no other Python's packages"
    )


def _is_own_script(path: str) -> bool:
    """Returns whether a console script was installed with this package."""
    try:
        files = importlib.metadata.distribution("fedreplay").files or []
    except importlib.metadata.PackageNotFoundError:
        return False
    return any(file.name == "fedreplay" and _is_same(Path(str(file.locate())), Path(path)) for file in files)


def _version_of(command: list[str], environment: dict[str, str]) -> str | None:
    """Returns what a program answers to ``--version``. ``None`` if it does not answer."""
    try:
        answer = subprocess.run([*command, "--version"], env=environment, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _is_same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _pip(arguments: str) -> str:
    return f"{sys.executable} -m pip {arguments}"


def _reinstall() -> str:
    return _pip(f"install --force-reinstall torch=={TORCH}")
