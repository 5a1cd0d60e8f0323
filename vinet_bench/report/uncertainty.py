"""How sure the figures of a table are: intervals over patients and seeds, and paired tests."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vinet_bench.report.audit.material import test_patients
from vinet_bench.report.figures import Figures, PlanRow
from vinet_bench.report.layout import Figure, Layout
from vinet_bench.stats import LEVEL, clustered_intervals, clustered_test, holm, smallest_difference

Scores = NDArray[np.float64]
Interval = tuple[float, float]
FROM_VINET, FROM_BEST = "†", "‡"
Place = tuple[str, str]  # a row's name and a figure's key


@dataclass(frozen=True)
class PairedTests:
    """A figure's rows against one of them: adjusted p by row, and the smallest difference that
    could have been shown."""

    against: PlanRow
    p: Mapping[str, float]
    smallest: float


class Uncertainty:
    """Of one table; all of it is computed together, when it is first asked for."""

    def __init__(self, figures: Figures, layout: Layout, rows: Sequence[PlanRow]) -> None:
        self.figures, self.layout, self.rows = figures, layout, rows

    def interval(self, row: PlanRow, figure: Figure) -> Interval | None:
        """The 95 % interval of a figure, or None without scores of its pictures."""
        return self._intervals.get((row["name"], figure.key))

    def marks(self, row: PlanRow, figure: Figure) -> str:
        """Which of VINet and the best method the row differs from."""
        pairs = zip((FROM_VINET, FROM_BEST), self.comparisons(figure), strict=True)
        return "".join(
            mark
            for mark, found in pairs
            if found is not None and found.p.get(row["name"], 1.0) < LEVEL
        )

    def comparisons(self, figure: Figure) -> tuple[PairedTests | None, PairedTests | None]:
        """With VINet, and with the best method."""
        return self._comparisons.get(figure.key, (None, None))

    # -- all at once

    @cached_property
    def _patients(self) -> NDArray[np.int64] | None:
        return test_patients(self.figures.run)

    @cached_property
    def _scores(self) -> dict[Place, dict[int, Scores]]:
        return scores_of(self.figures, self.layout.figures, self.rows, self._patients)

    @cached_property
    def _intervals(self) -> dict[Place, Interval]:
        found = intervals_of(self._scores, self._patients)
        # Each resample counts its classes anew: weighted hits know those of the test part only.
        balanced = [f for f in self.layout.figures if f.metric == "balanced_accuracy"]
        if balanced and self._patients is not None:
            hits = [replace(figure, metric="accuracy") for figure in balanced]
            labels = self.figures.run.pictures()["label"][self.figures.run.tested()]
            own = scores_of(self.figures, hits, self.rows, self._patients)
            found |= intervals_of(own, self._patients, labels)
        return found

    @property
    def _known_patients(self) -> NDArray[np.int64]:
        if self._patients is None:
            raise ValueError("there are no scores without patients")
        return self._patients

    @cached_property
    def _comparisons(self) -> dict[str, tuple[PairedTests | None, PairedTests | None]]:
        tested = [figure for figure in self.layout.figures if figure.better]
        return {
            f.key: (self.against(self._vinet(), f), self.against(self._best(f), f)) for f in tested
        }

    def _vinet(self) -> PlanRow | None:
        return next((row for row in self.rows if row["name"] == "vinet"), None)

    def _best(self, figure: Figure) -> PlanRow | None:
        """The method, not a control, with the best figure."""
        return self.figures.best(self.rows, "method", figure)

    def against(self, base: PlanRow | None, figure: Figure) -> PairedTests | None:
        """Every other row with this one; None without scores."""
        own = self._scores.get((base["name"], figure.key), {}) if base else {}
        if base is None or not own:
            return None
        differences = {}
        for row in self.rows:
            if row["name"] == base["name"] or row["kind"] not in figure.kinds - {"reference"}:
                continue
            theirs = self._scores.get((row["name"], figure.key), {})
            common = {seed: theirs[seed] - own[seed] for seed in own.keys() & theirs.keys()}
            if common:
                differences[row["name"], figure.key] = dict(sorted(common.items()))
        return self._tested(base, differences)

    def _tested(
        self, base: PlanRow, differences: dict[Place, dict[int, Scores]]
    ) -> PairedTests | None:
        p: dict[str, float] = {}
        smallest: list[float] = []
        for places, stack in _alike(differences.items()):
            found = clustered_test(stack, self._known_patients)
            p |= {name: float(value) for (name, _), value in zip(places, found, strict=True)}
            smallest += smallest_difference(stack, self._known_patients).tolist()
        if not p:
            return None
        adjusted = dict(zip(p, holm(list(p.values())).tolist(), strict=True))
        return PairedTests(base, adjusted, float(np.nanmedian(smallest)))


def scores_of(
    figures: Figures,
    wanted: Iterable[Figure],
    rows: Iterable[PlanRow],
    patients: NDArray[np.int64] | None,
) -> dict[Place, dict[int, Scores]]:
    """The scores behind the wanted figures by seed, where they fit the test part's patients."""
    if patients is None:
        return {}
    found = {}
    for row, figure in product(rows, wanted):
        seeds = figures.scores(row, figure)
        fitting = {seed: own for seed, own in seeds.items() if own.shape == patients.shape}
        if fitting:
            found[row["name"], figure.key] = fitting
    return found


def intervals_of(
    scores: Mapping[Place, dict[int, Scores]],
    patients: NDArray[np.int64] | None,
    classes: NDArray[np.int64] | None = None,
) -> dict[Place, Interval]:
    """The 95 % intervals of the means of scores, or with classes (N,) of the classes' mean means;
    one patient alone has none."""
    found: dict[Place, Interval] = {}
    if patients is None:
        return found
    for places, stack in _alike(scores.items()):
        made = clustered_intervals(stack, patients, classes)
        ends = zip(made.low.tolist(), made.high.tolist(), strict=True)
        found |= {p: e for p, e in zip(places, ends, strict=True) if not np.isnan(e).any()}
    return found


def _alike(
    scores: Iterable[tuple[Place, dict[int, Scores]]],
) -> Iterable[tuple[list[Place], Scores]]:
    """Scores of as many seeds in one array, (M, S, N): one computation serves them all."""
    groups: dict[int, list[tuple[Place, Scores]]] = defaultdict(list)
    for place, seeds in scores:
        groups[len(seeds)].append((place, np.stack(list(seeds.values()))))
    for group in groups.values():
        yield [place for place, _ in group], np.stack([stack for _, stack in group])
