"""How far a run is, and how long the rest may take."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from vinet_bench.records import Cell
from vinet_bench.stored_run import CellState

# What makes two cells alike in time, the closest first. The first cell of a method and seed is
# longer than its neighbours, since it trains what they share; so is the same cell of another seed.
ALIKE: tuple[Callable[[Cell], Hashable], ...] = (
    lambda cell: replace(cell, seed=0),
    lambda cell: (cell.protocol, cell.row),
    lambda cell: cell.protocol,
    lambda cell: None,
)


@dataclass(frozen=True)
class Part:
    """The cells of one protocol. left: seconds that the rest may take, NaN if nothing is done that
    could tell."""

    protocol: str
    done: int
    failed: int
    running: int
    waiting: int
    left: float


def parts(states: Sequence[CellState]) -> list[Part]:
    """A part for each protocol, in the order of their names."""
    times = _times(states)
    protocols = sorted({state.cell.protocol for state in states})
    return [
        _part(name, [s for s in states if s.cell.protocol == name], times) for name in protocols
    ]


def _part(name: str, states: Sequence[CellState], times: Mapping[Hashable, float]) -> Part:
    count = Counter(state.state for state in states)
    left = math.fsum(_left(s, times) for s in states if s.state in ("running", "waiting"))
    return Part(name, count["done"], count["failed"], count["running"], count["waiting"], left)


def _times(states: Sequence[CellState]) -> dict[Hashable, float]:
    """The median seconds of finished cells, by what they have in common."""
    groups: dict[Hashable, list[float]] = {}
    for state in states:
        if state.state == "done":
            for level, alike in enumerate(ALIKE):
                groups.setdefault((level, alike(state.cell)), []).append(state.seconds)
    return {key: median(seconds) for key, seconds in groups.items()}


def _left(state: CellState, times: Mapping[Hashable, float]) -> float:
    keys = ((level, alike(state.cell)) for level, alike in enumerate(ALIKE))
    whole = next((times[key] for key in keys if key in times), math.nan)
    return max(whole - state.seconds, 0.0) if state.state == "running" else whole
