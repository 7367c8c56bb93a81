"""What a scenario may be in Python, and how the program gets it: as a file with changes on its command line."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from fedreplay import _program, _ron
from fedreplay._dataset import Dataset
from fedreplay._errors import TEXT, Refused
from fedreplay._rule import Rule

ScenarioSource = Union[str, Path, Mapping[str, Any]]
"""A scenario: the name of one that this package has (``"quickstart"``), a path, RON text, or a dictionary.

A dictionary has the fields of a scenario file (docs/scenario.md). Structs are dictionaries, variants without fields are their names
(``"Scaffold"``), variants with fields are dictionaries of one entry (``{"FedProx": {"mu": 0.01}}``). Relative paths in RON text and
in dictionaries start from the current folder.
"""

Changes = Union[Mapping[str, Any], Sequence[str], None]
"""Changes of fields by their paths, such as ``{"training.lr": 1e-3}``, or in the program's own form, ``["training.lr=0.001"]``."""

# The least that the program reads as a scenario. Every field that it needs is set from the dictionary.
_BASE = """(
    name: "base",
    rounds: 1,
    model: (lora: (rank: 1, alpha: 1)),
    data: (max_seq_length: 1),
    training: (local_steps: 1, batch_size: 1, lr: 1),
    server: (protocol: Synchronous(clients_per_round: 1)),
    population: (devices: {}, links: {}, mix: []),
)
"""
_REQUIRED = ("name", "rounds", "model", "data", "training", "server", "population")


@dataclass
class Source:
    """A scenario as the program takes it."""

    file: Path
    sets: list[str]
    """Changes, each ``path=value``."""
    name: str | None
    """Name of the scenario; ``None`` if it cannot be told."""
    written: list[Path] = field(default_factory=list)
    """Files that were written for the program."""

    def arguments(self) -> list[str]:
        return [str(self.file), *set_arguments(self.sets)]

    def reword(self, message: str) -> str:
        """Puts a name in place of a file that the user did not write, and a field's path in place of its whole value."""
        for path in self.written:
            message = message.replace(str(path), TEXT)
        for argument in self.sets:
            message = message.replace(f"failed to set {argument}: ", f"failed to set {argument.split('=')[0]}: ")
        return message


@contextlib.contextmanager
def source_of(scenario: ScenarioSource, changes: Changes, seed: int | None = None) -> Iterator[Source]:
    """Makes a scenario a file for the program, which is removed at the end if it was not there before."""
    sets = sets_of(changes)
    if seed is not None:
        sets.append(f"seed={seed}")
    with contextlib.ExitStack() as stack:
        if isinstance(scenario, Mapping):
            missing = [name for name in _REQUIRED if name not in scenario]
            if missing:
                raise Refused(f"failed to read the scenario {TEXT}: it has no {', '.join(missing)}", 2)
            sets = sets_of(scenario) + sets
            file = stack.enter_context(_file_with(_BASE))
            written = [file]
        else:
            found = stack.enter_context(text_file(scenario))
            file, written = found.file, found.written
        yield Source(file, sets, _name(file, sets), written)


@contextlib.contextmanager
def text_file(scenario: str | Path) -> Iterator[Source]:
    """Makes a scenario or a sweep that is text a file, and finds the file of any other."""
    if not is_text(scenario):
        yield Source(path_of(scenario), [], None)
        return
    with _file_with(str(scenario)) as file:
        yield Source(file, [], None, [file])


def set_arguments(sets: Sequence[str]) -> list[str]:
    """Returns the options that change fields."""
    return [part for one in sets for part in ("--set", one)]


def sets_of(changes: Changes) -> list[str]:
    """Returns changes in the program's form, their values as JSON.

    >>> sets_of({"training.lr": 1e-3, "algorithm": {"FedProx": {"mu": 0.1}}, "server.protocol.deadline": None})
    ['training.lr=0.001', 'algorithm={"FedProx": {"mu": 0.1}}', 'server.protocol.deadline=None']
    """
    if changes is None:
        return []
    if isinstance(changes, str):
        raise TypeError(f"changes are a dictionary or a list, such as {{'training.lr': 1e-3}}, and not {changes!r}")
    if isinstance(changes, Mapping):
        return [f"{path}={value_of(value)}" for path, value in changes.items()]
    return [str(change) for change in changes]


def value_of(value: Any) -> str:
    """Returns a value in the form that the program reads in changes of fields."""
    return "None" if value is None else json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """Converts what JSON does not have: paths, and numbers and arrays of numpy."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (Dataset, Rule)):
        return value.as_field()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a scenario has no value of the type {type(value).__name__}: {value!r}")


def is_text(scenario: str | Path) -> bool:
    """Returns whether a scenario is RON text, which no path and no name looks like."""
    return isinstance(scenario, str) and ("\n" in scenario or scenario.lstrip().startswith(("(", "//", "/*", "#!")))


def path_of(scenario: str | Path) -> Path:
    """Returns the path of a scenario that is a path, or the name of one that this package has."""
    path = Path(scenario)
    if isinstance(scenario, str) and re.fullmatch(r"[\w-]+", scenario) and not path.is_file():
        return _program.scenario(scenario)
    return path


@contextlib.contextmanager
def _file_with(text: str) -> Iterator[Path]:
    """Writes a hidden file into the current folder, from which relative paths start, and removes it at the end."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=".", prefix=".fedreplay-", suffix=".ron", encoding="utf-8", delete=False) as file:
            file.write(text)
    except OSError as error:
        raise Refused(f"failed to write a scenario file into the current folder: {error.strerror}", 2) from error
    path = Path(Path(file.name).name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _name(file: Path, sets: Sequence[str]) -> str | None:
    for change in reversed(sets):
        path, _, value = change.partition("=")
        if path == "name":
            return value.strip('"')
    try:
        name = _ron.loads(file.read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        # The program says what is wrong with the file.
        return None
    return name if isinstance(name, str) else None
