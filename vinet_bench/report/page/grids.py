"""Tables as the page shows them: cells that can be sorted and that link to what made them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vinet_bench.records import Cell
from vinet_bench.report import paper
from vinet_bench.report.figures import PlanRow
from vinet_bench.report.layout import ABSENT, Figure
from vinet_bench.report.table import Table
from vinet_bench.stored_run import Run

AS_PRINTED = {"None (classifier alone)": "None"}  # our titles that the paper has in other words


@dataclass(frozen=True)
class Entry:
    """A table's cell: its text, by what it is sorted, and the anchor of its details (or none)."""

    text: str
    order: float | None = None
    anchor: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Line:
    """A row of a table on the page."""

    title: str
    kind: str
    entries: list[Entry]


@dataclass(frozen=True)
class Grid:
    """A table on the page. theirs: how many of the last columns are the paper's own values."""

    first: str
    headings: list[str]
    lines: list[Line]
    theirs: int = 0


@dataclass
class Details:
    """What stands behind each figure, as JSON keeps it: cells once, figures by anchor."""

    run: Run
    cells: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._places: dict[Cell, int] = {}
        self._seconds = {r.cell: (r.seconds, r.n, r.version) for r in self.run.records}

    def place(self, cell: Cell) -> int:
        """The cell's place among `cells`; it is added if it is new."""
        if cell not in self._places:
            seconds, n, version = self._seconds[cell]
            told = {k: v for k, v in vars(cell).items() if v != ""}
            told |= {"pictures": n, "seconds": round(seconds, 2), "version": version}
            self._places[cell] = len(self.cells)
            self.cells.append(told | {"key": self.run.keys.get(cell, "")})
        return self._places[cell]

    def add(self, anchor: str, table: Table, row: PlanRow, figure: Figure) -> bool:
        """Notes a figure's seeds and failures; False if it has neither."""
        figures = table.uncertainty.figures
        cells, values = figures.cells(row, figure), figures.values(row, figure)
        scale, failed = 100 if figure.percent else 1, figures.failures(row, figure)
        if not values and not failed:
            return False
        self.figures[anchor] = {
            "title": f"{row['title']}: {figure.heading}",
            "seeds": [[s, round(scale * v, 4), self.place(cells[s])] for s, v in values.items()],
            "failures": [[f.seed, f.where, f.reason] for f in failed],
        }
        return True


def grid(number: int, table: Table, details: Details) -> Grid:
    """A table of the page, with the paper's own values where it printed some."""
    figures = {figure.key: figure for figure in table.layout.figures}
    plan_rows = {row["name"]: row for row in table.uncertainty.rows}
    theirs = _paper(table)
    lines = []
    for r, row in enumerate(table.rows):
        own = plan_rows[row.name]
        entries = [
            _entry(f"t{number}r{r}c{c}", text, table, own, figures[column.key], details)
            for c, (column, text) in enumerate(zip(table.columns, row.cells, strict=True))
        ]
        printed = AS_PRINTED.get(row.title, row.title)
        beside = [_number(text) for text in theirs.rows.get(printed, theirs.absent)]
        lines.append(Line(row.title, row.kind, entries + beside))
    headings = [*(column.heading for column in table.columns), *theirs.headings]
    return Grid(table.first, headings, lines, len(theirs.headings))


def _entry(
    anchor: str, text: str, table: Table, row: PlanRow, figure: Figure, details: Details
) -> Entry:
    known = details.add(anchor, table, row, figure)
    mean = table.uncertainty.figures.mean(row, figure)
    return Entry(text, mean, anchor if known else "", text.startswith("failed"))


@dataclass(frozen=True)
class _Theirs:
    """The paper's columns by the titles of its rows."""

    headings: list[str]
    rows: Mapping[str, tuple[str, ...]]

    @property
    def absent(self) -> tuple[str, ...]:
        return (ABSENT,) * len(self.headings)


def _paper(table: Table) -> _Theirs:
    if table.name not in paper.TABLES:
        return _Theirs([], {})
    _, (_, *headings), rows = paper.TABLES[table.name]
    return _Theirs([f"Paper: {h}" for h in headings], {title: tuple(rest) for title, *rest in rows})


def _number(text: str) -> Entry:
    return Entry(text, None if text == ABSENT else float(text))


def costs(run: Run, made: Mapping[str, Table]) -> Grid:
    """Seconds by row and protocol, of the cells as they were made: what several cells share, a
    network or a map, is in the time of the first one."""
    spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for cell, seconds in {r.cell: r.seconds for r in run.records}.items():
        spent[cell.row][cell.protocol] += seconds
    protocols = [table.layout.protocol for table in made.values()]
    rows = {r["name"]: r for table in made.values() for r in table.uncertainty.rows}
    lines = [
        Line(row["title"], row["kind"], [_seconds(sum(spent[name].values())), *own])
        for name, row in rows.items()
        if name in spent
        for own in [[_seconds(spent[name].get(p)) for p in protocols]]
    ]
    return Grid("Row", ["All, s", *(f"{p}, s" for p in protocols)], lines)


def _seconds(value: float | None) -> Entry:
    return Entry(ABSENT) if value is None else Entry(f"{value:.1f}", value)
