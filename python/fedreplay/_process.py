"""Starts the program as a child process, follows what it logs, and returns what it prints."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from fedreplay import _program
from fedreplay._errors import Interrupted, error_of
from fedreplay._progress import Progress, ProgressOption, display_for

_DIFFERENT = 3
_PROGRESS = "fedreplay::progress"
_ROUND = "[ROUND "
_CELL = "[CELL "


class Answer(NamedTuple):
    """What a command printed."""

    data: dict[str, Any]
    """The last line, which is one JSON object."""
    text: str
    """The lines before it."""
    is_different: bool
    """Whether the command is a check that found a difference."""


def call(
    arguments: Sequence[str | Path],
    *,
    progress: ProgressOption = False,
    folder: Path | None = None,
    reword: Callable[[str], str] = lambda message: message,
) -> Answer:
    """Runs a command of the program with ``--json`` and returns its answer.

    A warning of the program becomes a Python warning.

    Args:
        arguments: The command and its arguments.
        progress: How progress is shown.
        folder: Folder that the command writes a run to, which an interruption names if it has begun.
        reword: Makes a message out of the program's.

    Raises:
        Refused: on exit code 2.
        Failed: on any other exit code but 0, 3, and those of signals.
        Interrupted: if Python or the program was interrupted.
        NotUsable: if the program cannot be started.
    """
    command = [*_program.command(), "--log-format", "json", *map(str, arguments), "--json"]
    # In a session of its own, so that the terminal's Ctrl-C reaches the program once, from here: a second one would end it without
    # the time to finish what it writes.
    process = subprocess.Popen(
        command,
        env=_program.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    stdout = _Collector(process.stdout)
    log = _Log(progress)
    is_interrupted = False
    try:
        try:
            log.follow(process.stderr)
            process.wait()
        except KeyboardInterrupt:
            is_interrupted = True
            process.send_signal(signal.SIGINT)
            log.follow(process.stderr)
            process.wait()
    finally:
        # Something else went wrong here, or a second interruption came.
        if process.poll() is None:
            process.kill()
            process.wait()
        log.end()
        printed = stdout.text()
        process.stderr.close()
    code = process.returncode
    for message in log.warnings:
        warnings.warn(reword(message), stacklevel=3)
    if is_interrupted or code in (130, 143, 129, -signal.SIGINT, -signal.SIGTERM):
        is_begun = folder is not None and (folder / "manifest.json").exists()
        raise Interrupted(folder if is_begun else None)
    if code not in (0, _DIFFERENT):
        message = "\n".join(log.errors) or f"the program ended with exit code {code}"
        raise error_of(code, reword(message))
    lines = printed.rstrip("\n").split("\n")
    return Answer(json.loads(lines[-1]), "\n".join(lines[:-1]), code == _DIFFERENT)


class _Collector:
    """Reads a stream to its end in a thread, so that the program never waits for a reader."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        self._text = self._stream.read()

    def text(self) -> str:
        self._thread.join()
        self._stream.close()
        return self._text


class _Log:
    """Lines of the program's log: progress is shown, warnings and errors are kept."""

    def __init__(self, progress: ProgressOption) -> None:
        self._display = display_for(progress)
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def follow(self, stream: IO[str]) -> None:
        """Reads the stream to its end."""
        for line in stream:
            try:
                entry = json.loads(line)
                level, target, fields = entry["level"], entry["target"], entry["fields"]
                message = str(fields["message"])
            except (ValueError, KeyError, TypeError):
                # Written before the log is set up, by the loader or LibTorch.
                self.errors.append(line.rstrip("\n"))
                continue
            if level == "ERROR":
                self.errors.append(message.removeprefix("error: "))
            elif message.startswith(_CELL):
                self._display.show(Progress(message, None, "cell"))
            elif level == "WARN":
                self._warn(message)
            elif target == _PROGRESS:
                kind: Literal["round", "step"] = "round" if message.startswith(_ROUND) else "step"
                self._display.show(Progress(message.removeprefix("progress: "), fields.get("share"), kind))

    def _warn(self, message: str) -> None:
        # The program indents what belongs to the line before.
        if message.startswith("  ") and self.warnings:
            self.warnings[-1] += f"\n{message}"
        else:
            self.warnings.append(message.removeprefix("warning: "))

    def end(self) -> None:
        self._display.end()
