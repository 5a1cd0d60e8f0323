"""Two runs, or a run and the paper, side by side: a sheet for each figure that both have."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vinet_bench.errors import UserError
from vinet_bench.report.audit import Finding, audit
from vinet_bench.report.comparison_notes import (
    MARK,
    Compared,
    Pair,
    about,
    interval_notes,
    mark_notes,
    seed_notes,
)
from vinet_bench.report.difference import (
    Difference,
    Measured,
    Side,
    differences,
    paper_side,
    run_side,
    same_pictures,
)
from vinet_bench.report.layout import ABSENT, Figure, Layout, layouts_of
from vinet_bench.report.notes import all_warnings
from vinet_bench.report.table import Column, Row, Sheet
from vinet_bench.report.tables import bracketed, rounded
from vinet_bench.stored_run import Run, read_run


@dataclass(frozen=True)
class Comparison:
    """What two runs' tables of one layout have in common: name, of the files; a sheet a figure."""

    name: str
    layout: Layout
    sheets: tuple[Sheet, ...]
    differences: tuple[Difference, ...]


def compare(a: Path, b: Path | None) -> list[Comparison]:
    """The tables that two runs have in common, or a run and the paper (b: None).

    Raises UserError if a folder holds no run or no records, or nothing is in common.
    """
    one, other = _read(a), _read(b) if b else None
    pair = Pair(one, other, other is not None and same_pictures(one, other))
    tables = [table for table in _compared(pair) if table.figures()]
    if not tables:
        held = (f"{run.folder} holds {_held(run)}" for run in pair.runs.values())
        has = "" if other else "; the paper has Tables I to IV"
        raise UserError(f"nothing to compare, no row and figure is in both: {', '.join(held)}{has}")
    looked_at = [d for t in tables for d in t.differences if d.apart and d.apart.interval]
    findings = {mark: audit(run) for mark, run in pair.runs.items()}
    return [_comparison(table, looked_at, findings) for table in tables]


def _read(folder: Path) -> Run:
    run = read_run(folder)
    if not run.records:
        raise UserError(f"{folder} has no records for a table yet: run it to its end first")
    return run


def _held(run: Run) -> str:
    return ", ".join(sorted({record.cell.protocol for record in run.records}))


def _compared(pair: Pair) -> Iterator[Compared]:
    others = {x.name: x for x in layouts_of(pair.b.plan)} if pair.b else {}
    for layout in layouts_of(pair.a.plan):
        other = others.get(layout.name, layout)
        if other.protocol != layout.protocol:
            continue
        a = run_side(pair.a, layout)
        b = run_side(pair.b, layout) if pair.b else paper_side(layout, a.rows)
        yield Compared(pair, layout, a, b, differences(a, b, layout, pair.same))


# ---- sheets


def _comparison(
    table: Compared, looked_at: Sequence[Difference], findings: Mapping[str, Sequence[Finding]]
) -> Comparison:
    first, *others = (_sheet(table, figure, looked_at) for figure in table.figures())
    protocols = ("", table.layout.protocol)
    first = replace(
        first,
        notes=[*about(table), *first.notes],
        warnings=[
            f"{mark}: {warning}"
            for mark, run in table.pair.runs.items()
            for warning in all_warnings(run.plan.get("data", {}))
        ],
        audit=[
            replace(found, topic=f"{mark}, {found.topic}")
            for mark, every in findings.items()
            for found in every
            if found.verdict == "broken" and found.protocol in protocols
        ],
    )
    see = f"What A and B are, and what differs between them: see {first.title}."
    sheets = (first, *(replace(sheet, notes=[*sheet.notes, see]) for sheet in others))
    name = f"difference-{table.layout.name}"
    return Comparison(name, table.layout, sheets, tuple(table.differences))


def _sheet(table: Compared, figure: Figure, looked_at: Sequence[Difference]) -> Sheet:
    layout, own = table.layout, table.of(figure)
    a, b = table.pair.titles()
    headings = {"a": "A", "b": "B", "difference": "Difference"}
    return Sheet(
        f"difference-{layout.name}-{figure.key}",
        f"{layout.title}: {figure.heading}",
        f"difference-{layout.protocol}-{figure.key}".replace("_", "-"),
        layout.first,
        f"{figure.heading} ({layout.protocol}): A is {a}, B is {b}; the difference is A less B.",
        tuple(Column(key, heading) for key, heading in headings.items()),
        tuple(
            Row(
                d.row["name"],
                d.row["title"],
                d.row["kind"],
                _cells(table, d),
                d.row.get("block", ""),
            )
            for d in own
        ),
        [*interval_notes(table, own), *mark_notes(own, looked_at), *seed_notes(table, own)],
    )


def _cells(table: Compared, difference: Difference) -> tuple[str, ...]:
    figure, apart = difference.figure, difference.apart
    sides = ((table.a, difference.a), (table.b, difference.b))
    found = [_cell(side, difference, measured) for side, measured in sides]
    return (*found, _signed(figure, apart, MARK * difference.marked) if apart else ABSENT)


def _cell(side: Side, difference: Difference, measured: Measured | None) -> str:
    if measured is None:
        return "failed" if difference.place in side.failed else ABSENT
    figure = difference.figure
    mean = rounded((100 if figure.percent else 1) * measured.mean, figure.digits)
    if side.exact or measured.interval is None or not figure.interval:
        return mean
    return f"{mean} {bracketed(figure, measured.interval)}"


def _signed(figure: Figure, apart: Measured, mark: str) -> str:
    """A difference in the figure's own digits, its ends too: they may be close together."""
    scale = 100 if figure.percent else 1
    mean = rounded(scale * apart.mean, figure.digits)
    text = f"+{mean}" if float(mean) > 0 else mean
    if apart.interval is None:
        return text
    low, high = (rounded(scale * end, figure.digits) for end in apart.interval)
    return f"{text} [{low}, {high}]{mark}"
