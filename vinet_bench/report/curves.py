"""Whole curves from the scores that a run stored, averaged over pictures and seeds."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vinet_bench.stored_run import Run

FIRST = {"morf": "most relevant first", "lerf": "least relevant first"}
# By protocol, the stored curves and what the replaced pixels become.
_STORED = {
    "deletion": {"air": "air", "blur": "the blurred picture"},
    "road": {"imputed": "neighbours (ROAD)"},
}
# By protocol a score that every picture has which the row explained, and no other.
_SCORED = {"deletion": "gap_air", "road": "gap"}


@dataclass(frozen=True)
class Curve:
    """One row's line in one panel: shares of the pixels that are replaced, and the probability.

    first, filled: what goes first, and what it becomes. kind: of the row ('method', 'control'...).
    """

    first: str
    filled: str
    title: str
    kind: str
    fractions: NDArray[np.floating[Any]]
    heights: NDArray[np.floating[Any]]


def curves(run: Run) -> list[Curve]:
    """Every curve of the protocols `deletion` and `road`, in the order of the plan's rows."""
    found: dict[tuple[str, str], list[dict[str, NDArray[Any]]]] = defaultdict(list)
    for cell in run.keys:
        if cell.protocol in _STORED and (scores := run.scores(cell)):
            found[cell.protocol, cell.row].append(scores)
    return [
        Curve(words, filled, row["title"], row["kind"], several[0]["fractions"], heights)
        for protocol, fills in _STORED.items()
        for way, words in FIRST.items()
        for fill, filled in fills.items()
        for row in run.plan.get("rows", [])
        if (several := found.get((protocol, row["name"])))
        for heights in [_heights(several, f"{way}_{fill}", _SCORED[protocol])]
    ]


def _heights(
    several: list[dict[str, NDArray[Any]]], curve: str, scored: str
) -> NDArray[np.floating[Any]]:
    """The mean over each seed's explained pictures, then over seeds: what stands in for the map of
    another picture is an order that no map gave."""
    means = [scores[curve][~np.isnan(scores[scored])].mean(axis=0) for scores in several]
    heights: NDArray[np.floating[Any]] = np.mean(means, axis=0)
    return heights
