"""HTML for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table with a head."""
    head = "".join(f"<th style='text-align:left'>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<div style='overflow-x:auto'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def pairs(rows: Iterable[tuple[str, Any]]) -> str:
    """Returns a table of names and values."""
    body = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td style='text-align:left'>{cell(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table><tbody>{body}</tbody></table>"


def cell(value: Any) -> str:
    """Returns a value as text."""
    if value is None:
        return "<span style='opacity:.5'>null</span>"
    if isinstance(value, float):
        return f"{value:.5g}"
    text = str(value)
    return html.escape(text if len(text) <= 60 else text[:57] + "...")


def bytes_text(count: float) -> str:
    """Returns a number of bytes with a unit of a fitting size.

    >>> bytes_text(655360)
    '655.4 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.1f} TB"
