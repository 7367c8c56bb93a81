"""Errors of the program as exceptions, one class per exit code."""

from __future__ import annotations

import re
from pathlib import Path

# The forms in which the program names a place and the nearest known name.
_PLACE = re.compile(r"^failed to (?:read|accept) the scenario (?P<file>.+?)(?::(?P<line>\d+))?(?::(?P<column>\d+))?: ")
_SUGGESTION = re.compile(r"; did you mean `([^`]+)`\?")


class FedReplayError(Exception):
    """A command failed. ``str(error)`` is the program's message."""

    exit_code: int
    """Exit code of the program."""
    file: Path | None
    """Scenario file that the message names."""
    line: int | None
    """Line in the file or in the RON text, from 1."""
    column: int | None
    """Column in that line, from 1."""
    suggestion: str | None
    """Nearest known name, where one was misspelled."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        place = _PLACE.match(message)
        self.file = Path(place["file"]) if place and place["file"] != TEXT else None
        self.line = int(place["line"]) if place and place["line"] else None
        self.column = int(place["column"]) if place and place["column"] else None
        suggestion = _SUGGESTION.search(message)
        self.suggestion = suggestion[1] if suggestion else None


class Failed(FedReplayError):
    """The machine, a file, a service or the model failed (exit code 1)."""


class Refused(FedReplayError):
    """The arguments, the scenario, its data or its base model cannot be used (exit code 2)."""


class Interrupted(KeyboardInterrupt):
    """A command was interrupted. A run that had begun goes on with :func:`fedreplay.resume`.

    Like the ``KeyboardInterrupt`` that it is, ``except Exception`` does not catch it.
    """

    folder: Path | None
    """Folder of the run that was begun; ``None`` where there is none to go on with."""

    def __init__(self, folder: Path | None) -> None:
        advice = f"; fedreplay.resume({str(folder)!r}) goes on with the run" if folder else ""
        super().__init__(f"interrupted{advice}")
        self.folder = folder


TEXT = "<scenario>"
"""Name of a scenario that is no file, in messages."""


def error_of(exit_code: int, message: str) -> FedReplayError:
    """Returns the exception for an exit code other than 0, 3 and those of signals."""
    return Refused(message, exit_code) if exit_code == 2 else Failed(message, exit_code)
