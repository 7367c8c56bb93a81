"""Sweeps: runs of one scenario under many settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedreplay import _plot
from fedreplay._html import bytes_text, table
from fedreplay._ron import text_of
from fedreplay._run import Run
from fedreplay._scenario import Changes, sets_of, value_of

if TYPE_CHECKING:
    # By other names, since methods have those of the packages.
    import pyarrow
    from matplotlib.axes import Axes
    from pandas import DataFrame as PandasFrame
    from polars import DataFrame as PolarsFrame


class Cell(NamedTuple):
    """One run of a sweep."""

    scenario: str
    """Name of the scenario that it is based on; empty if there is only one."""
    variant: str
    """Name of the variant; empty if there are none."""
    setting: str
    """Variant and values of axes that distinguish the cell."""
    seed: int
    run: Run

    @property
    def label(self) -> str:
        """Scenario and setting."""
        return ", ".join(filter(None, (self.scenario, self.setting))) or self.run.name


class Sweep(Sequence[Run]):
    """The runs of a sweep, in the order of its cells."""

    folder: Path
    """Folder that contains the runs' folders, and ``sweep.json``."""
    cells: list[Cell]
    """The runs with their settings."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.folder = Path(answer["sweep"])
        self.cells = []
        self._rows: list[dict[str, Any]] = []
        for entry in answer["runs"]:
            summary = entry["summary"]
            cell = Cell(entry["scenario"], entry["variant"], entry["setting"], entry["seed"], Run(summary["run"]))
            self.cells.append(cell)
            figures = {name: summary[name] for name in _FIGURES}
            self._rows.append({"scenario": cell.scenario, "variant": cell.variant, "setting": cell.setting, "seed": cell.seed, **figures})

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, index: Any) -> Any:
        """Returns a run by its place, or the run of the first seed by the label of its cell."""
        if isinstance(index, str):
            found = next((cell.run for cell in self.cells if index in (cell.label, cell.variant)), None)
            if found is None:
                labels = ", ".join(dict.fromkeys(cell.label for cell in self.cells))
                raise KeyError(f"{index!r} is no cell of the sweep; there are: {labels}")
            return found
        return [cell.run for cell in self.cells][index]

    def __iter__(self) -> Iterator[Run]:
        return (cell.run for cell in self.cells)

    def arrow(self) -> pyarrow.Table:
        """Returns the cells with their figures: losses [nat/token], ``simulated_ns`` [ns], bytes [B], numbers of tasks."""
        import pyarrow

        return pyarrow.Table.from_pylist(self._rows)

    def pandas(self) -> PandasFrame:
        """Returns the cells with their figures as a data frame of pandas."""
        return self.arrow().to_pandas()

    def polars(self) -> PolarsFrame:
        """Returns the cells with their figures as a data frame of Polars."""
        import polars

        return polars.DataFrame(self._rows)

    @property
    def plot(self) -> SweepPlots:
        """Figures of the sweep: ``sweep.plot.loss("time")``."""
        return SweepPlots(self)

    def __repr__(self) -> str:
        return f"<Sweep {self.folder}: {len(self)} runs>"

    def _repr_html_(self) -> str:
        columns = ["setting", "seed", "loss before", "loss after", "virtual hours", "tasks counted", "late", "dropped", "cancelled", "moved up"]
        rows = [
            [
                cell.label,
                cell.seed,
                row["loss_before"],
                row["loss_after"],
                row["simulated_ns"] / 3600e9,
                row["tasks_trained"],
                row["tasks_late"],
                row["tasks_dropped"],
                row["tasks_cancelled"],
                bytes_text(row["bytes_up"]),
            ]
            for cell, row in zip(self.cells, self._rows)
        ]
        return table(columns, rows)


class SweepPlots:
    """Figures of a sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def loss(self, against: _plot.Against = "rounds", *, ax: Axes | None = None) -> Axes:
        """Draws the loss of every run, one color per setting.

        Args:
            against: The horizontal axis.
        """
        return _plot.losses([(cell.label, cell.run) for cell in self._sweep.cells], against, ax)


_FIGURES = (
    "rounds",
    "loss_before",
    "loss_after",
    "loss_local",
    "simulated_ns",
    "bytes_down",
    "bytes_up",
    "tasks_dispatched",
    "tasks_trained",
    "tasks_late",
    "tasks_dropped",
    "tasks_cancelled",
    "digest",
)


def sweep_text(
    name: str,
    scenario: Path,
    sets: Sequence[str],
    variants: Mapping[str, Changes],
    axes: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
) -> str:
    """Returns the RON text of a sweep file."""
    lines = [f"    name: {text_of(name)},", f"    scenario: {text_of(str(scenario.absolute()))},", f"    set: {_texts(sets)},"]
    variant_texts = [f"(name: {text_of(variant)}, set: {_texts(sets_of(changes))})" for variant, changes in variants.items()]
    axis_texts = [f"(path: {text_of(path)}, values: {_texts([_axis_value(value) for value in values])})" for path, values in axes.items()]
    lines += [f"    variants: [{', '.join(variant_texts)}],", f"    axes: [{', '.join(axis_texts)}],", f"    seeds: {list(seeds)},"]
    return "(\n" + "\n".join(lines) + "\n)\n"


def _texts(values: Sequence[str]) -> str:
    return f"[{', '.join(map(text_of, values))}]"


def _axis_value(value: Any) -> str:
    # A text as it is names the cell and its folder better than one in quotes.
    return value if isinstance(value, str) else value_of(value)
