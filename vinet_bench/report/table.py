"""A finished table: plain text, ready for any printer."""

from dataclasses import dataclass, field
from itertools import groupby

from vinet_bench.report.audit.finding import Finding
from vinet_bench.report.layout import Layout
from vinet_bench.report.uncertainty import Uncertainty

_BLOCKS = {"reference": "References", "method": "Methods"}


@dataclass(frozen=True)
class Column:
    """A column of figures; the method's name is not one of them."""

    key: str
    heading: str


@dataclass(frozen=True)
class Row:
    """One method's row; its cells stand under the table's columns, one each."""

    name: str
    title: str
    kind: str
    cells: tuple[str, ...]
    block: str = ""


@dataclass(frozen=True)
class Sheet:
    """What is printed of a table, unescaped text throughout.

    label: its own in LaTeX. first: the heading over the rows.
    """

    name: str
    title: str
    label: str
    first: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    audit: list[Finding] = field(default_factory=list)

    def blocks(self) -> list[tuple[str, list[Row]]]:
        """The rows between two rules, with the block's heading."""
        found = groupby(self.rows, lambda r: r.block or _BLOCKS.get(r.kind, "Controls and oracle"))
        return [(heading, list(rows)) for heading, rows in found]


@dataclass(frozen=True)
class Table(Sheet):
    """A run's table, with what its figures are made of; unfinished: those of its notes that say
    what failed or is missing."""

    layout: Layout = field(kw_only=True)
    uncertainty: Uncertainty = field(kw_only=True)
    unfinished: list[str] = field(kw_only=True)
