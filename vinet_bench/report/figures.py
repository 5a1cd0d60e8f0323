"""The figures of one table: records looked up by row and column, over the seeds."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import Figure
from vinet_bench.stored_run import Run

_BUDGETS = {
    "reference": ("everything", "threshold", "equal"),
    "method": ("threshold", "everything"),
    "oracle": ("threshold", "everything"),
    "control": ("equal", "everything"),
}
_WHERE = {"masks": "masks alone", "swapped": "swapped masks"}
PlanRow = Mapping[str, Any]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and the half width of its 95 % t interval (None for one seed)."""

    mean: float
    half: float | None


@dataclass(frozen=True)
class Failure:
    """A cell that gave no figure, and why."""

    budget: str
    trained_on: str
    seed: int
    reason: str

    @property
    def where(self) -> str:
        budget = "equal budget" if self.budget == "equal" else ""
        return _WHERE.get(self.trained_on, "") or budget or "pictures"


def estimate(values: Sequence[float]) -> Estimate:
    """Student's interval of a mean.

    >>> estimate([0.5])
    Estimate(mean=0.5, half=None)
    >>> round(estimate([0.4, 0.6]).half, 3)  # t(0.975, 1) * 0.1414 / sqrt(2)
    1.271
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return Estimate(mean, float(stats.t.ppf(0.975, n - 1)) * deviation / math.sqrt(n))


def mean_of(values: Mapping[int, float], scores: Mapping[int, Scores]) -> float:
    """The mean of the values by seed; of all scores if each seed has those of its pictures."""
    if scores.keys() >= values.keys():
        return float(np.nanmean(np.concatenate([scores[seed] for seed in values])))
    return math.fsum(values.values()) / len(values)


def _variant(record: Record) -> tuple[str, str]:
    return record.cell.fill, record.cell.network


def _preference(variant: tuple[str, str]) -> tuple[bool, bool, tuple[str, str]]:
    """The paper's fill and network first."""
    return variant[0] != "zero", variant[1] != "resnet18", variant


def _one_variant(records: Iterable[Record]) -> list[Record]:
    """Each row's records with one fill and one network: a row never mixes two."""
    found = list(records)
    kept: dict[str, tuple[str, str]] = {}
    for record in found:
        name, own = record.cell.row, _variant(record)
        kept[name] = min(kept.get(name, own), own, key=_preference)
    return [r for r in found if _variant(r) == kept[r.cell.row]]


class Figures:
    """One protocol's records, asked by a row of the plan and a figure of the layout."""

    def __init__(self, run: Run, protocol: str) -> None:
        self.run, self.protocol = run, protocol
        every = [r for r in run.records if r.cell.protocol == protocol]
        own = _one_variant(every)
        self._values: dict[tuple[str, str, str, str], dict[int, float]] = defaultdict(dict)
        self._cells: dict[tuple[str, str, str], dict[int, Cell]] = defaultdict(dict)
        self._failures: dict[str, list[Failure]] = defaultdict(list)
        self._budgets: dict[str, set[str]] = defaultdict(set)
        self._pictures: dict[str, dict[int, int]] = defaultdict(dict)
        self.variants = sorted({_variant(r) for r in own}, key=_preference)
        self.left_out = sorted({_variant(r) for r in every} - set(self.variants))
        for record in own:
            self._take(record)

    def __bool__(self) -> bool:
        return bool(self._budgets)

    def _take(self, record: Record) -> None:
        cell = record.cell
        self._budgets[cell.row].add(cell.budget)
        if record.error:
            reason = " ".join(record.error.split())
            failure = Failure(cell.budget, cell.trained_on, cell.seed, reason)
            self._failures[cell.row].append(failure)
        elif record.value is not None and math.isfinite(record.value):
            place = (cell.row, cell.budget, cell.trained_on, record.metric)
            self._values[place][cell.seed] = record.value
            self._cells[place[:3]][cell.seed] = cell
            fold, counts = cell.seed % self.run.folds, self._pictures[cell.row]
            counts[fold] = max(record.n, counts.get(fold, 0))

    def _budget(self, row: PlanRow, figure: Figure) -> str:
        if figure.equal:
            return "equal"
        wanted = _BUDGETS.get(row["kind"], ("threshold",))
        return next((b for b in wanted if b in self._budgets.get(row["name"], ())), wanted[0])

    @property
    def whole_maps(self) -> bool:
        """True if no cell chose pixels by a budget."""
        return all(found <= {"everything"} for found in self._budgets.values())

    def has(self, row: PlanRow) -> bool:
        """True if the row has any record, failed ones included."""
        return row["name"] in self._budgets

    def seeds(self, row: PlanRow) -> set[int]:
        """The seeds for which the row has any figure."""
        own = (cells for place, cells in self._cells.items() if place[0] == row["name"])
        return {seed for cells in own for seed in cells}

    def pictures(self, row: PlanRow) -> int:
        """The number of test pictures behind the row."""
        return sum(self._pictures.get(row["name"], {}).values())

    def values(self, row: PlanRow, figure: Figure) -> dict[int, float]:
        """A figure by seed, in the order of the seeds."""
        place = (row["name"], self._budget(row, figure), figure.trained_on, figure.metric)
        return dict(sorted(self._values.get(place, {}).items()))

    def cells(self, row: PlanRow, figure: Figure) -> dict[int, Cell]:
        """By seed the cells that a figure comes from."""
        return self._cells.get((row["name"], self._budget(row, figure), figure.trained_on), {})

    def scores(self, row: PlanRow, figure: Figure) -> dict[int, Scores]:
        """By seed the scores of which a figure is the mean: (N,), NaN where a picture has none, as
        those have with cross-validation that the seed does not test."""
        place = (row["name"], self._budget(row, figure), figure.trained_on)
        stored = {seed: self.run.scores(cell) for seed, cell in sorted(self._cells[place].items())}
        found = {
            seed: arrays[figure.metric].astype(np.float64)
            for seed, arrays in stored.items()
            if figure.metric in arrays
        }
        return found if self.run.folds == 1 else self._spread(found)

    def _spread(self, found: Mapping[int, Scores]) -> dict[int, Scores]:
        """Each seed's scores among the pictures that any seed tests. What does not fit its fold is
        left out."""
        every = self.run.tested()
        spread = {}
        for seed, own in found.items():
            places = self.run.tested([seed])
            if own.shape == places.shape:
                wide = np.full(len(self.run.pictures()["label"]), np.nan)
                wide[places] = own
                spread[seed] = wide[every]
        return spread

    def estimate(self, row: PlanRow, figure: Figure) -> Estimate | None:
        """A figure averaged over its seeds, or None; with cross-validation, where each seed tests
        other pictures, over all pictures."""
        values = self.values(row, figure)
        if not values:
            return None
        found = estimate(list(values.values()))
        if self.run.folds == 1:
            return found
        return replace(found, mean=mean_of(values, self.scores(row, figure)))

    def mean(self, row: PlanRow, figure: Figure) -> float | None:
        """The mean of `estimate`, or None."""
        found = self.estimate(row, figure)
        return found.mean if found else None

    def merit(self, row: PlanRow, figure: Figure) -> float:
        """The mean, higher where it is better; NaN where there is none."""
        mean = self.mean(row, figure)
        return math.nan if mean is None else -mean if figure.better == "low" else mean

    def best(self, rows: Iterable[PlanRow], kind: str, figure: Figure) -> PlanRow | None:
        """The first of a kind's rows with the highest merit, or None where no row has any."""
        merits = [(self.merit(row, figure), row) for row in rows if row["kind"] == kind]
        known = [(merit, row) for merit, row in merits if not math.isnan(merit)]
        return max(known, key=lambda pair: pair[0])[1] if known else None

    def failures(self, row: PlanRow, figure: Figure | None = None) -> list[Failure]:
        """The row's failed cells: all of them, or those that a figure would have come from."""
        found = sorted(
            set(self._failures.get(row["name"], ())),
            key=lambda f: (f.seed, f.trained_on, f.budget, f.reason),
        )
        if figure is None:
            return found
        if row["kind"] not in figure.kinds:
            return []
        place = (self._budget(row, figure), figure.trained_on)
        return [f for f in found if (f.budget, f.trained_on) == place]
