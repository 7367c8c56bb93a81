"""Progress of a command: what the program logs, and bars for notebooks and terminals."""

from __future__ import annotations

import html
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Union


@dataclass(frozen=True)
class Progress:
    """A step of a command's progress."""

    message: str
    """What the program says of it."""
    share: float | None
    """Share of all work that is done, from 0 to 1, within rounds too; ``None`` while it is not known."""
    kind: Literal["step", "round", "cell"]
    """``round`` is the line of a finished round, ``cell`` that of a sweep's run that begins, ``step`` all else."""


ProgressOption = Union[bool, None, Callable[[Progress], None]]
"""``None`` shows a bar in notebooks and terminals, ``True`` everywhere, ``False`` nowhere; a function gets each step."""


class Display(Protocol):
    """Display of a command's progress."""

    def show(self, progress: Progress) -> None: ...

    def end(self) -> None: ...


def display_for(option: ProgressOption) -> Display:
    """Returns the display that an option asks for."""
    if callable(option):
        return _Callback(option)
    if option is False:
        return _Nothing()
    if is_notebook():
        return _NotebookBar()
    if option or sys.stderr.isatty():
        return _TerminalBar()
    return _Nothing()


def is_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    interactive = shell.get_ipython() if shell is not None else None
    return interactive is not None and hasattr(interactive, "kernel")


class _Nothing:
    def show(self, progress: Progress) -> None:
        pass

    def end(self) -> None:
        pass


class _Callback:
    def __init__(self, function: Callable[[Progress], None]) -> None:
        self._function = function

    def show(self, progress: Progress) -> None:
        self._function(progress)

    def end(self) -> None:
        pass


class _Bar:
    """State of a bar: the last known share, the line of the last round, and the last message."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.share = 0.0
        self.cell = ""
        self.round = ""
        self.message = ""

    def note(self, progress: Progress) -> None:
        if progress.share is not None:
            # Work that becomes known later makes the share smaller; a bar does not go back.
            self.share = max(self.share, progress.share)
        if progress.kind == "round":
            self.round = progress.message
        elif progress.kind == "cell":
            self.share = 0.0
            self.cell = f"{progress.message} "
        else:
            self.message = progress.message

    def text(self) -> str:
        return self.cell + self.message

    def seconds(self) -> float:
        return time.monotonic() - self.began


class _TerminalBar:
    """One line on stderr that is written over."""

    _WIDTH = 24

    def __init__(self) -> None:
        self._bar = _Bar()

    def show(self, progress: Progress) -> None:
        self._bar.note(progress)
        if progress.kind == "round":
            self._write(progress.message + "\n")
        filled = round(self._bar.share * self._WIDTH)
        line = f"{'#' * filled}{'.' * (self._WIDTH - filled)} {self._bar.share:4.0%} {self._bar.text()}"
        # A line that wraps could not be written over.
        self._write(line[: shutil.get_terminal_size().columns - 1])

    def end(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()


class _NotebookBar:
    """A bar in a cell's output, which the next step replaces. It is HTML, so that it needs no widgets."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html: Any = HTML
        self._bar = _Bar()
        self._handle: Any = display(HTML(""), display_id=True)

    def show(self, progress: Progress) -> None:
        self._bar.note(progress)
        self._update(
            f"<progress max='1' value='{self._bar.share:.4f}' style='width:20em;vertical-align:middle'></progress> "
            f"{self._bar.share:.0%} &middot; {self._bar.seconds():.0f} s"
            f"<br><span style='opacity:.7'>{html.escape(self._bar.text())}</span>"
        )

    def end(self) -> None:
        self._update("")

    def _update(self, line: str) -> None:
        last = f"<br>{html.escape(self._bar.round)}" if self._bar.round else ""
        self._handle.update(self._html(f"<div style='font-size:smaller'>{line}{last}</div>"))
