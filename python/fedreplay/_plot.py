"""Figures of runs, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fedreplay._run import Run

Against = Literal["rounds", "time", "bytes"]
"""Horizontal axis: rounds of the server, virtual time [h], or bytes that moved down and up [MB]."""

_LABELS = {"rounds": "round", "time": "virtual time [h]", "bytes": "moved, down and up [MB]"}

# Colors that people with any color vision tell apart (Okabe and Ito 2008).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_FATES = {"counted": "#0072B2", "late": "#E69F00", "dropped": "#D55E00", "cancelled": "#A6A6A6"}
_GREY = "#8A8A8A"


class Plots:
    """Figures of a run. Each takes the axes to draw into, or makes a figure, and returns the axes."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def loss(self, against: Against = "rounds", *, ax: Axes | None = None, label: str | None = None, color: str | None = None) -> Axes:
        """Draws the loss of the server model on the test rows, or else on all held-out rows.

        Without a label it also draws the training loss, and the loss of clients that were trained alone where it was measured.

        Args:
            against: The horizontal axis.
            label: Name of the curve in the legend, to compare several runs in one figure.
            color: Color of the curve.
        """
        ax = _axes(ax)
        curves = {curve["name"]: curve for curve in self._run.summary["series"]}
        main = next((curves[name] for name in _MAIN if name in curves), None)
        if main is None:
            raise ValueError(f"the run in {self._run.folder} has no losses")
        moved = _moved(curves)
        line = ax.plot(*_points(main, against, moved), label=label or _name(main), color=color, linewidth=2, marker="o", markersize=3.5)[0]
        if label is None:
            if "loss/train" in curves:
                x, y = _points(curves["loss/train"], against, moved)
                ax.plot(x, y, label="training rows", color=line.get_color(), linewidth=1.2, alpha=0.5, linestyle="--")
            alone = curves.get(main["name"].replace("loss/", "loss/alone_"))
            if alone:
                ax.axhline(alone["points"][-1]["value"], color=_GREY, linewidth=1.2, linestyle=":", label="clients alone")
        ax.set_xlabel(_LABELS[against])
        ax.set_ylabel(f"loss [{main['unit']}]")
        _style(ax)
        ax.legend(frameon=False)
        return ax

    def timeline(self, *, hours: tuple[float, float] | None = None, clients_max: int = 60, ax: Axes | None = None) -> Axes:
        """Draws each task in virtual time, one line per client, ordered by device; vertical lines are ends of rounds.

        A task is thick while its client trains and thin while it receives or sends. Its color says whether the update counted.

        Args:
            hours: Part of virtual time to draw [h]; ``None`` draws all of it.
            clients_max: Most clients to draw, those with the most tasks.
        """
        ax = _axes(ax, height=5.2)
        begin, end = hours or (0.0, float("inf"))
        client_rows = self._run.population.arrow(["client", "device"]).to_pylist()
        device = {row["client"]: row["device"] for row in client_rows}
        columns = ["client", "dispatched_at_ns", "download_done_at_ns", "training_done_at_ns", "ended_at_ns", "fate"]
        tasks = [
            task
            for task in self._run.tasks.arrow(columns).to_pylist()
            if task["ended_at_ns"] / 3600e9 >= begin and task["dispatched_at_ns"] / 3600e9 <= end
        ]
        lines = _lines_of(tasks, device, clients_max)
        for fate, color in _FATES.items():
            chosen = [task for task in tasks if task["fate"] == fate and task["client"] in lines]
            _draw_tasks(ax, chosen, lines, fate, color)
        for row in self._run.rounds.arrow(["closed_at_ns"]).to_pylist():
            if begin <= row["closed_at_ns"] / 3600e9 <= end:
                ax.axvline(row["closed_at_ns"] / 3600e9, color=_GREY, linewidth=0.6, zorder=0)
        _name_devices(ax, lines, device)
        ax.set_xlabel(_LABELS["time"])
        ax.set_ylim(-1, len(lines))
        if hours:
            ax.set_xlim(*hours)
        _style(ax, grid=False)
        ax.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
        return ax

    def participation(self, *, ax: Axes | None = None) -> Axes:
        """Draws how the tasks of each round ended: counted, late, dropped or cancelled."""
        ax = _axes(ax)
        rounds = self._run.rounds.arrow(["round", *_FATES]).to_pydict()
        bottom = [0] * len(rounds["round"])
        for fate, color in _FATES.items():
            ax.bar(rounds["round"], rounds[fate], bottom=bottom, color=color, label=fate, width=0.8)
            bottom = [low + count for low, count in zip(bottom, rounds[fate])]
        ax.set_xlabel(_LABELS["rounds"])
        ax.set_ylabel("tasks")
        _style(ax)
        ax.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
        return ax


_MAIN = ("loss/test", "loss/held_out", "loss/personal_test", "loss/personal_held_out")


def losses(runs: Sequence[tuple[str, Run]], against: Against, ax: Axes | None) -> Axes:
    """Draws the losses of several runs into one figure. Runs of one label have one color and one entry in the legend."""
    ax = _axes(ax)
    labels = list(dict.fromkeys(label for label, _ in runs))
    seen = set()
    for label, run in runs:
        run.plot.loss(against, ax=ax, label=f"_{label}" if label in seen else label, color=COLORS[labels.index(label) % len(COLORS)])
        seen.add(label)
    return ax


def _axes(ax: Axes | None, height: float = 3.8) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(7.5, height), layout="constrained")[1]


def _style(ax: Axes, *, grid: bool = True) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(axis="y", alpha=0.25)
        ax.set_axisbelow(True)


def _name(curve: dict[str, Any]) -> str:
    return {"test": "test rows", "held_out": "held-out rows"}.get(curve["name"].removeprefix("loss/"), "clients' own models")


def _moved(curves: dict[str, Any]) -> dict[int, float]:
    """Returns the bytes that moved until the end of each round."""
    moved = {0: 0.0}
    for name in ("traffic/down_total", "traffic/up_total"):
        for point in curves.get(name, {"points": []})["points"]:
            moved[point["round"]] = moved.get(point["round"], 0.0) + point["value"]
    return moved


def _points(curve: dict[str, Any], against: Against, moved: dict[int, float]) -> tuple[list[float], list[float]]:
    points = curve["points"]
    return [_place(point, against, moved) for point in points], [point["value"] for point in points]


def _place(point: dict[str, Any], against: Against, moved: dict[int, float]) -> float:
    if against == "rounds":
        return float(point["round"])
    if against == "time":
        return float(point["at_ns"]) / 3600e9
    if against == "bytes":
        return moved[point["round"]] / 1e6
    raise ValueError(f"a loss is drawn against rounds, time or bytes, and not against {against!r}")


def _lines_of(tasks: list[dict[str, Any]], device: dict[int, str], clients_max: int) -> dict[int, int]:
    """Returns the line of each client that is drawn: clients of one device are next to each other."""
    counts: dict[int, int] = {}
    for task in tasks:
        counts[task["client"]] = counts.get(task["client"], 0) + 1
    most = sorted(counts, key=lambda client: (-counts[client], client))[:clients_max]
    return {client: line for line, client in enumerate(sorted(most, key=lambda client: (device[client], client)))}


def _draw_tasks(ax: Axes, tasks: list[dict[str, Any]], lines: dict[int, int], fate: str, color: str) -> None:
    """Draws tasks of one fate: a thin line from dispatch to end, and a thick one while the client trains."""
    y = [lines[task["client"]] for task in tasks]
    hour = 3600e9
    ax.hlines(y, [task["dispatched_at_ns"] / hour for task in tasks], [task["ended_at_ns"] / hour for task in tasks], color=color, linewidth=1)
    training = [task for task in tasks if task["download_done_at_ns"] is not None]
    ax.hlines(
        [lines[task["client"]] for task in training],
        [task["download_done_at_ns"] / hour for task in training],
        # A task that ended while its client trained has no end of training.
        [min(filter(None, (task["training_done_at_ns"], task["ended_at_ns"]))) / hour for task in training],
        color=color,
        linewidth=5,
        label=fate if tasks else "_none",
    )


def _name_devices(ax: Axes, lines: dict[int, int], device: dict[int, str]) -> None:
    """Writes the name of each device at the middle of its clients' lines, and a line between devices."""
    places: dict[str, list[int]] = {}
    for client, line in lines.items():
        places.setdefault(device[client], []).append(line)
    ax.set_yticks([sum(at) / len(at) for at in places.values()], list(places))
    ax.tick_params(axis="y", length=0)
    for at in places.values():
        if min(at) > 0:
            ax.axhline(min(at) - 0.5, color=_GREY, linewidth=0.6, linestyle=":")
