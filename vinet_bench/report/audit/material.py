"""What an audit looks at: one protocol's figures and scores, asked by row, and its pictures."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vinet_bench.records import Cell
from vinet_bench.report.figures import Figures, PlanRow
from vinet_bench.report.layout import Figure, Layout
from vinet_bench.report.rows import rows_of
from vinet_bench.stored_run import Run

Scores = NDArray[np.float64]


class Material:
    """The records of one table, without the words of its columns."""

    def __init__(self, run: Run, layout: Layout) -> None:
        self.run, self.protocol, self.plan = run, layout.protocol, run.plan
        self.rows = rows_of(run, layout)
        self.figures = Figures(run, layout.protocol)

    def of_kind(self, *kinds: str) -> list[PlanRow]:
        """The rows of some kinds: 'reference', 'method', 'control', 'oracle'."""
        return [row for row in self.rows if row["kind"] in kinds]

    def called(self, name: str) -> list[PlanRow]:
        """The row of this name, or none."""
        return [row for row in self.rows if row["name"] == name]

    @property
    def majority(self) -> float:
        """What the commonest class reaches on the test part; 0 if nobody knows."""
        return float(self.plan.get("data", {}).get("majority") or 0.0)

    @cached_property
    def patients(self) -> NDArray[np.int64] | None:
        """Whose each test picture is, (N,), or None if no facts were kept."""
        return test_patients(self.run)

    def mean(self, row: PlanRow, metric: str, trained_on: str = "pictures") -> float | None:
        """A row's figure, averaged over its seeds; None if there is none."""
        return self.figures.mean(row, Figure("", metric, trained_on=trained_on))

    def means(
        self, rows: list[PlanRow], metric: str, trained_on: str = "pictures"
    ) -> dict[str, float]:
        """By title the figure of every row that has it."""
        found = {row["title"]: self.mean(row, metric, trained_on) for row in rows}
        return {title: mean for title, mean in found.items() if mean is not None}

    def values(self, row: PlanRow, metric: str, trained_on: str = "pictures") -> dict[int, float]:
        """A row's figure by seed."""
        return self.figures.values(row, Figure("", metric, trained_on=trained_on))

    def scores(self, row: PlanRow, metric: str, trained_on: str = "pictures") -> dict[int, Scores]:
        """By seed the score of each test picture, (N,)."""
        return self.figures.scores(row, Figure("", metric, trained_on=trained_on))

    def failed(self) -> list[Cell]:
        """The cells that gave no figure."""
        every = (r for r in self.run.records if r.cell.protocol == self.protocol)
        return [record.cell for record in every if record.error]


def test_patients(run: Run) -> NDArray[np.int64] | None:
    """Whose each picture is that any seed tests, in the order of the scores, (N,); None if no facts
    were kept."""
    facts = run.pictures()
    return facts["patient"][run.tested()] if facts else None
