"""How far two runs' figures are apart, or a run's and the paper's: numbers, no words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.facts import names_of
from vinet_bench.report import paper
from vinet_bench.report.audit.material import test_patients
from vinet_bench.report.figures import Figures, PlanRow, mean_of
from vinet_bench.report.layout import ABSENT, Figure, Layout
from vinet_bench.report.rows import rows_of
from vinet_bench.report.uncertainty import Interval, Place, Scores, intervals_of, scores_of
from vinet_bench.stored_run import Run

_Found = dict[Place, dict[int, Scores]]


@dataclass(frozen=True)
class Side:
    """One of the two in one table: figures and scores by place and seed, reasons of failures.

    patients: whose each test picture is, (N,), or None if nobody knows. variants: fill and
    retrained network. exact: its figures have no interval, and are taken as they are. folds: each
    seed tested other pictures, so that means are over all pictures.
    """

    rows: Sequence[PlanRow]
    values: Mapping[Place, dict[int, float]]
    failed: Mapping[Place, str] = field(default_factory=dict)
    scores: Mapping[Place, dict[int, Scores]] = field(default_factory=dict)
    patients: NDArray[np.int64] | None = None
    variants: Sequence[tuple[str, str]] = ()
    exact: bool = False
    folds: bool = False


@dataclass(frozen=True)
class Measured:
    """A figure, or a difference of two, with its 95 % interval and the seeds it is the mean of."""

    mean: float
    interval: Interval | None
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Difference:
    """A figure of one row on both sides, and a less b where both have it."""

    row: PlanRow
    figure: Figure
    a: Measured | None
    b: Measured | None
    apart: Measured | None
    paired: bool

    @property
    def place(self) -> Place:
        return self.row["name"], self.figure.key

    @property
    def marked(self) -> bool:
        """True if the interval leaves out 0."""
        interval = self.apart.interval if self.apart else None
        return interval is not None and (interval[0] > 0 or interval[1] < 0)


def mover(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """The interval of a - b from those of two independent estimates: the method of variance
    estimates recovery (Zou and Donner 2008, Statistics in Medicine 27, 1693-1702).

    >>> mover(0.5, (0.2, 0.9), 0.25, (-0.05, 0.65))  # triangles of sides 0.3, 0.4 and 0.5
    (-0.25, 0.75)
    """
    below = math.hypot(a - of_a[0], of_b[1] - b)
    above = math.hypot(of_a[1] - a, b - of_b[0])
    return a - b - below, a - b + above


# ---- the sides


def compared(layout: Layout) -> list[Figure]:
    """The figures that are set side by side: the printed ones with an interval, and the core."""
    return [f for f in layout.figures if f.heading and (f.interval or f.core)]


def run_side(run: Run, layout: Layout) -> Side:
    """A run in one table."""
    figures, rows, wanted = Figures(run, layout.protocol), rows_of(run, layout), compared(layout)
    patients = test_patients(run)
    places = [(row, figure) for row in rows for figure in wanted]
    failures = {(r["name"], f.key): figures.failures(r, f) for r, f in places}
    values = {(r["name"], f.key): figures.values(r, f) for r, f in places}
    return Side(
        rows,
        {place: seeds for place, seeds in values.items() if seeds},
        {place: found[0].reason for place, found in failures.items() if found},
        scores_of(figures, wanted, rows, patients),
        patients,
        figures.variants,
        folds=run.folds > 1,
    )


def paper_side(layout: Layout, rows: Sequence[PlanRow]) -> Side:
    """What the paper printed in the table; a row that a run has too takes its name."""
    if layout.name not in paper.TABLES:
        return Side([], {}, exact=True)
    _, headings, lines = paper.TABLES[layout.name]
    keys = {figure.heading: figure.key for figure in compared(layout)}
    own = [next((r for r in rows if _same_row(r, line[0])), _new_row(line[0])) for line in lines]
    values = {
        (row["name"], keys[heading]): {0: float(value) / 100}
        for row, line in zip(own, lines, strict=True)
        for heading, value in zip(headings[1:], line[1:], strict=True)
        if heading in keys and value != ABSENT
    }
    return Side(own, values, exact=True)


def _same_row(row: PlanRow, title: str) -> bool:
    """The paper's 'None' is the classifier alone."""
    alone: bool = title == "None" and row["name"].startswith("none+")
    return alone or title == row["title"]


def _new_row(title: str) -> PlanRow:
    kind = "reference" if title in ("Original", "None") else "method"
    return {"name": title.lower(), "title": title, "kind": kind}


def same_pictures(a: Run, b: Run) -> bool:
    """True if both tested the very same pictures of the same patients, in the same order."""
    one = _tested(a)
    return bool(one) and one == _tested(b)


def _tested(run: Run) -> list[tuple[str, bytes, str]]:
    """Name, hash of the pixels and patient of each test picture."""
    facts = run.pictures()
    if not facts:
        return []
    ids, patients = names_of(facts, "ids"), names_of(facts, "patient_names")
    return [
        (ids[i], facts["content"][i].tobytes(), patients[facts["patient"][i]])
        for i in run.tested().tolist()
    ]


# ---- the differences


def differences(a: Side, b: Side, layout: Layout, same: bool) -> list[Difference]:
    """Every compared figure of every row that either side has, figure by figure.

    same: both tested the same pictures, so that scores are paired, by the seeds that both have.
    """
    seeds = _paired_seeds(a, b) if same else {}
    of_a, of_b = (_kept(side, seeds) for side in (a, b))
    apart = {p: {s: of_a[p][s] - of_b[p][s] for s in seeds[p]} for p in seeds}
    ends = [intervals_of(of_a, a.patients), intervals_of(of_b, b.patients)]
    between = intervals_of(apart, a.patients)
    found = []
    for figure in compared(layout):
        for row in _rows_of_both(a, b):
            place = row["name"], figure.key
            if any(place in known for s in (a, b) for known in (s.values, s.failed)):
                one, other = (
                    _measured(side, place, own, seeds.get(place))
                    for side, own in zip((a, b), ends, strict=True)
                )
                difference = _apart(one, other, between.get(place))
                found.append(Difference(row, figure, one, other, difference, place in seeds))
    return found


def _rows_of_both(a: Side, b: Side) -> list[PlanRow]:
    """a's rows, each kind and block followed by those that b alone has."""
    names = {row["name"] for row in a.rows}
    rows = [*a.rows, *(row for row in b.rows if row["name"] not in names)]
    blocks = list(dict.fromkeys(map(_block, rows)))
    return sorted(rows, key=lambda row: blocks.index(_block(row)))


def _block(row: PlanRow) -> tuple[str, str]:
    return row.get("block", ""), row["kind"]


def _paired_seeds(a: Side, b: Side) -> dict[Place, list[int]]:
    """The seeds that both have, where they scored the same pictures in each."""
    found = {}
    for place, one in a.scores.items():
        other = b.scores.get(place, {})
        measured = a.values.get(place, {}).keys() & b.values.get(place, {}).keys()
        seeds = [seed for seed in one if seed in other and seed in measured]
        alike = (np.array_equal(np.isnan(one[s]), np.isnan(other[s])) for s in seeds)
        if seeds and all(alike):
            found[place] = seeds
    return found


def _kept(side: Side, seeds: Mapping[Place, list[int]]) -> _Found:
    """A side's scores, of paired places those of the paired seeds."""
    return {p: {s: own[s] for s in seeds.get(p, own)} for p, own in side.scores.items()}


def _measured(
    side: Side, place: Place, intervals: Mapping[Place, Interval], seeds: list[int] | None
) -> Measured | None:
    values = side.values.get(place)
    if not values:
        return None
    used = tuple(values if seeds is None else seeds)
    scores = side.scores.get(place, {}) if side.folds else {}
    mean = mean_of({s: values[s] for s in used}, {s: scores[s] for s in used if s in scores})
    return Measured(mean, (mean, mean) if side.exact else intervals.get(place), used)


def _apart(a: Measured | None, b: Measured | None, paired: Interval | None) -> Measured | None:
    if a is None or b is None:
        return None
    interval = paired
    if interval is None and a.interval and b.interval:
        interval = mover(a.mean, a.interval, b.mean, b.interval)
    return Measured(a.mean - b.mean, interval)
