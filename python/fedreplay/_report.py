"""The HTML report of runs."""

from __future__ import annotations

import html
import os
from pathlib import Path

_HEIGHT = 640


class Report(os.PathLike[str]):
    """An HTML page that shows a run or compares several. A notebook shows it in a frame; elsewhere it is a path."""

    path: Path
    """File of the page, which needs no other file and no network."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"<Report {self.path}>"

    def _repr_html_(self) -> str:
        # The page is in the output itself, so that a notebook that is sent to somebody still has it.
        page = html.escape(self.path.read_text(encoding="utf-8"))
        return f"<iframe sandbox='allow-scripts allow-downloads' style='width:100%;height:{_HEIGHT}px;border:0' srcdoc=\"{page}\"></iframe>"
