"""What notes speak of: a table's plan, rows, figures and failures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vinet_bench.report.figures import Figures, PlanRow
from vinet_bench.report.layout import Figure, Layout
from vinet_bench.report.uncertainty import Uncertainty


@dataclass(frozen=True)
class Context:
    """All that a note may speak of."""

    plan: dict[str, Any]
    rows: Sequence[PlanRow]
    layout: Layout
    figures: Figures
    reasons: dict[str, int]
    uncertainty: Uncertainty

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plan.get("data", {})
        return found

    @property
    def seeds(self) -> list[int]:
        """The table's own; a run's folder may hold others with more."""
        return planned_seeds(self.plan, self.layout)

    def shares(self, figure: Figure, above: float, but: str = "") -> str:
        """'CAM 97.00 %, LRP 81.25 %': the rows (but one) whose figure lies above a bound."""
        rows = (row for row in self.rows if row["name"] != but)
        means = ((row["title"], self.figures.mean(row, figure)) for row in rows)
        return ", ".join(f"{t} {100 * m:.2f} %" for t, m in means if m is not None and m > above)


def planned_seeds(plan: Mapping[str, Any], layout: Layout) -> list[int]:
    """The seeds that a table ought to have."""
    return list(plan.get("protocol_seeds", {}).get(layout.protocol, plan.get("seeds", [])))


def reasons(figures: Figures, rows: Iterable[PlanRow]) -> dict[str, int]:
    """Every reason of a failure with its number, counted in the order of the rows."""
    found = dict.fromkeys(f.reason for row in rows for f in figures.failures(row))
    return {reason: number for number, reason in enumerate(found, 1)}


def named_seeds(seeds: Iterable[int]) -> str:
    """
    >>> named_seeds([1, 0])
    'seeds 0, 1'
    """
    found = sorted(set(seeds))
    return f"seed{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
