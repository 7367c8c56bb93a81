"""Datasets of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from fedreplay._source import cache_folder, digest, write_whole

Row = Mapping[str, Any]
Clients = Union[Mapping[str, Iterable[Row]], Iterable[tuple[str, Row]]]


@dataclass(frozen=True)
class Dataset:
    """A dataset that was written to a file, in the form of FedLLM-Bench: a JSON object of lists of rows by client. It is the value of a
    scenario's field ``data.file``."""

    file: Path
    """The file, under the hash of its content."""
    rows: dict[str, int]
    """Number of rows by client."""

    def as_field(self) -> str:
        """Returns the value of the scenario's field."""
        return str(self.file)


def dataset(clients: Clients, *, folder: str | Path | None = None) -> Dataset:
    """Writes rows by client, to train on.

    Args:
        clients: Rows by client, or pairs of a client and a row in any order. A row is a dictionary such as ``{"instruction": ..., "response": ...}``
            or ``{"messages": [...]}`` (docs/data.md of the project has all forms).
        folder: Folder to write to; ``None`` is the user's cache folder. Runs name the file, so it is not removed.

    Raises:
        TypeError: if a row is no dictionary, or has a value that JSON does not have.
    """
    by_client: dict[str, list[Row]] = {}
    for client, row in _pairs(clients):
        if not isinstance(row, Mapping):
            raise TypeError(f"a row is a dictionary such as {{'instruction': ..., 'response': ...}}; client {client!r} has {row!r:.100}")
        by_client.setdefault(str(client), []).append(dict(row))
    try:
        content = json.dumps(by_client, ensure_ascii=False, allow_nan=False, indent=1).encode()
    except ValueError as error:
        raise TypeError(f"a row has a number that JSON does not have: {error}") from None
    file = Path(folder or cache_folder() / "datasets").absolute() / f"{digest(content)}.json"
    if not file.exists():
        write_whole(file, content)
    return Dataset(file, {client: len(rows) for client, rows in by_client.items()})


def _pairs(clients: Clients) -> Iterator[tuple[str, Row]]:
    if not isinstance(clients, Mapping):
        yield from clients
        return
    for client, rows in clients.items():
        for row in rows:
            yield client, row
