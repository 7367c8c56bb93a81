"""Runs: their folder, their figures and their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedreplay import _ron
from fedreplay._adapter import Adapter
from fedreplay._errors import Refused
from fedreplay._html import bytes_text, pairs
from fedreplay._plot import Plots
from fedreplay._process import call
from fedreplay._report import Report
from fedreplay._tables import Table, database, tables_in

if TYPE_CHECKING:
    import duckdb


class Run:
    """A run, or a plan, in its folder. Finished or not: what it shows is what is there when it is asked.

    Opening it reads its manifest only. Tables are read when their rows are asked for.
    """

    folder: Path
    """Folder of the run."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise Refused(f"there is no run in {self.folder}", 2)
        self._manifest: dict[str, Any] | None = None
        self._summary: dict[str, Any] | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        """The run's ``manifest.json``: hashes of all that it depends on and of its files, numerics, digest."""
        if self._manifest is None:
            manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            if manifest["state"] != "done":
                return dict(manifest)
            self._manifest = manifest
        return self._manifest

    @property
    def is_done(self) -> bool:
        """Whether the run is finished."""
        return bool(self.manifest["state"] == "done")

    @property
    def digest(self) -> str | None:
        """Digest of the finished run: 64 hexadecimal digits. ``None`` before its end."""
        digest = self.manifest["digest"]
        return None if digest is None else str(digest)

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return str(self.manifest["name"])

    @property
    def scenario_text(self) -> str:
        """The scenario as RON, with every default written out."""
        return (self.folder / "scenario.ron").read_text(encoding="utf-8")

    @property
    def scenario(self) -> dict[str, Any]:
        """The scenario as a dictionary, with every default written out."""
        return dict(_ron.loads(self.scenario_text))

    @property
    def summary(self) -> dict[str, Any]:
        """The run's figures, as ``fedreplay show --json`` has them: losses [nat/token], curves over the rounds, outcomes of tasks, bytes,
        energy, devices and stragglers. docs/figures.md has their formulas."""
        if self._summary is not None:
            return self._summary
        summary = call(["show", self.folder]).data
        if summary["state"] == "done":
            self._summary = summary
        return summary

    @property
    def loss(self) -> float | None:
        """Last measured loss [nat/token] of the server model on the test rows, or else on all held-out rows."""
        loss = self.summary["loss_after"]
        return None if loss is None else float(loss)

    @property
    def hours(self) -> float:
        """Virtual time of the run [h]."""
        return float(self.summary["simulated_ns"]) / 3600e9

    @property
    def tables(self) -> dict[str, Table]:
        """The tables that the run has, by name."""
        return tables_in(self.folder)

    @property
    def population(self) -> Table:
        """One row per client: its data, device and link."""
        return self._table("population")

    @property
    def events(self) -> Table:
        """One row per event of virtual time."""
        return self._table("events")

    @property
    def tasks(self) -> Table:
        """One row per task: the times of its phases [ns], its losses, and whether it counted."""
        return self._table("tasks")

    @property
    def rounds(self) -> Table:
        """One row per round of the server, of a tier or of an edge."""
        return self._table("rounds")

    @property
    def evaluations(self) -> Table:
        """One row per measured loss or metric of a benchmark."""
        return self._table("evaluations")

    @property
    def generations(self) -> Table:
        """One row per answer of a model to a benchmark's question."""
        return self._table("generations")

    @property
    def lineage(self) -> Table:
        """One row per order: what was computed from what."""
        return self._table("lineage")

    @property
    def aggregation(self) -> Table:
        """One row per adapted module of each round whose aggregation has an error."""
        return self._table("aggregation")

    @property
    def repeats(self) -> Table:
        """One row per round of each repeat of a plan."""
        return self._table("repeats")

    @property
    def orders(self) -> Table:
        """One row per executed order, with wall-clock times [s]; in no hash."""
        return self._table("orders")

    def _table(self, name: str) -> Table:
        tables = self.tables
        if name not in tables:
            raise AttributeError(f"the run in {self.folder} has no table {name}, only {', '.join(tables) or 'none yet'}")
        return tables[name]

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Answers a query of DuckDB, in which each of the run's tables has its name.

        The answer has ``.df()``, ``.pl()``, ``.arrow()`` and ``.fetchall()``.
        """
        return database(self.tables).sql(query)

    @property
    def plot(self) -> Plots:
        """Figures of the run: ``run.plot.loss()``, ``run.plot.timeline()``, ``run.plot.participation()``."""
        return Plots(self)

    def adapter(self, round: int | None = None, *, client: int | None = None, store: str | Path | None = None) -> Adapter:
        """Returns the adapter after a round, to be written as a PEFT folder or read as tensors.

        Args:
            round: The round; ``None`` is the last.
            client: The client, in runs whose clients have models of their own.
            store: Folder of stored results, for rounds that the run did not save; ``None`` is the user's cache folder.
        """
        return Adapter(self.folder, round, client, store)

    def report(self) -> Report:
        """Returns the run's report, which a notebook shows. It is written if it is not there or the run goes on."""
        path = self.folder / "report.html"
        if not (self.is_done and path.is_file()):
            call(["report", self.folder])
        return Report(path)

    def __repr__(self) -> str:
        manifest = self.manifest
        digest = f", digest {str(manifest['digest'])[:12]}..." if manifest["digest"] else ""
        return f"<{type(self).__name__} {self.folder}: {manifest['state']}{digest}>"

    def _repr_html_(self) -> str:
        summary = self.summary
        unit = next((curve["unit"] for curve in summary["series"] if curve["name"].startswith("loss/")), "")
        rows: list[tuple[str, Any]] = [
            ("run", f"{self.folder} ({summary['state']})"),
            ("rounds", f"{summary['rounds']} of {summary['rounds_planned']}"),
        ]
        if summary["loss_after"] is not None:
            rows.append(("loss", f"{summary['loss_before']:.4f} before, {summary['loss_after']:.4f} after [{unit}]"))
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in summary["outcomes"].items())
        rows += [
            ("virtual time", f"{self.hours:.2f} h"),
            ("tasks", outcomes),
            ("moved", f"{bytes_text(summary['bytes_down'])} down, {bytes_text(summary['bytes_up'])} up"),
            ("digest", (summary["digest"] or "none yet")[:32]),
        ]
        return pairs(rows)


class Plan(Run):
    """A schedule without training. It has the tables that need none, and the figures of ``fedreplay plan``."""

    figures: dict[str, Any]
    """Figures of the schedule, as ``fedreplay plan --json`` has them."""

    def __init__(self, folder: str | Path, figures: dict[str, Any]) -> None:
        super().__init__(folder)
        self.figures = figures
