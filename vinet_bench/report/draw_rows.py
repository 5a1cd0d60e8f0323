"""A table as a picture: a row a method, a panel a figure, each mean with its interval."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from vinet_bench.report.draw import SMALL, WIDTH
from vinet_bench.report.figures import PlanRow
from vinet_bench.report.layout import Figure
from vinet_bench.report.table import Table

PANELS = 3
# By kind: colour, mark, and whether it is filled, so that no kind is told by its colour alone.
_LOOKS = {
    "method": ("#0072B2", "o", True),
    "control": ("#D55E00", "s", False),
    "oracle": ("#009E73", "D", False),
    "reference": ("#777777", "x", True),
}


def rows_figure(table: Table) -> Drawing | None:
    """The first figures of the table that are tested, or have intervals; None if no row has any."""
    drawn = _drawn(table)
    if not drawn:
        return None
    rows = [r for r in table.uncertainty.rows if any(_mean(table, r, f) is not None for f in drawn)]
    figure = Drawing(figsize=(WIDTH, 0.19 * len(rows) + 0.7), layout="constrained")
    axes = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
    for ax, wanted in zip(axes, drawn, strict=True):
        _panel(ax, table, rows, wanted)
    titles = [row["title"] for row in rows]
    axes[0].set_yticks(range(len(rows)), titles, fontsize=SMALL, parse_math=False)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def _drawn(table: Table) -> list[Figure]:
    """In the table's order; those that rows are tested by come first where there are too many."""
    known = [
        f
        for f in table.layout.figures
        if f.heading and any(_mean(table, row, f) is not None for row in table.uncertainty.rows)
    ]
    best = sorted(known, key=lambda f: (not f.better, not f.interval, not f.core))[:PANELS]
    return [figure for figure in known if figure in best]


def _mean(table: Table, row: PlanRow, figure: Figure) -> float | None:
    return table.uncertainty.figures.mean(row, figure)


def _panel(ax: Axes, table: Table, rows: list[PlanRow], figure: Figure) -> None:
    scale = 100 if figure.percent else 1
    for place, row in enumerate(rows):
        mean = _mean(table, row, figure)
        if mean is None:
            continue
        colour, mark, filled = _LOOKS[row["kind"]]
        ends = table.uncertainty.interval(row, figure)
        if ends is not None:
            ax.hlines(place, scale * ends[0], scale * ends[1], color=colour, linewidth=1.2)
        face: dict[str, Any] = {} if filled else {"markerfacecolor": "none"}
        ax.plot(scale * mean, place, mark, color=colour, markersize=4, **face)
    ax.grid(axis="x", color="#BBBBBB", linewidth=0.4)
    ax.set_axisbelow(True)
    ax.set_title(_heading(figure), fontsize=SMALL)
    ax.tick_params(labelsize=SMALL - 1)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _heading(figure: Figure) -> str:
    better = {"high": " (more is better)", "low": " (less is better)"}
    return figure.heading + better.get(figure.better, "")
