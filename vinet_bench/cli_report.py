"""`vinet-bench report`: a run's tables as files, or two runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table as Grid

from vinet_bench.cli_audit import print_findings
from vinet_bench.consoles import out_console
from vinet_bench.errors import UserError

if TYPE_CHECKING:
    from vinet_bench.report import Sheet

PAPER = "paper"


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [RUN|paper]",
            help="A run's folder (default: the newest); with a second one, or the word paper, the"
            " two side by side.",
        ),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated: tex, csv, md, html, figures.")
    ] = "tex,csv,md,html,figures",
    out: Annotated[
        Path | None, typer.Option(help="Where to write (default: the first run).")
    ] = None,
) -> None:
    """Write a run's tables, figures and page from its records, or compare two runs."""
    from vinet_bench.report import newest_run, write_report

    named = runs or [str(newest_run())]
    chosen = [f.strip() for f in formats.split(",")]
    if len(named) > 2:
        raise UserError(f"report: {len(named)} runs are named, and no more than two are compared")
    if len(named) == 2:
        written = _compare(named[0], named[1], out, chosen)
    else:
        written = write_report(Path(named[0]), out, chosen)
    for path in written:
        out_console.print(str(path), soft_wrap=True)


def _compare(a: str, b: str, out: Path | None, formats: list[str]) -> list[Path]:
    """Prints two runs side by side; b may be the word 'paper' (a folder of that name: ./paper)."""
    from vinet_bench.report import write_comparison

    if a == PAPER and not Path(a).exists():
        raise UserError(f"report: the paper stands second: vinet-bench report {b} {PAPER}")
    made, written = write_comparison(Path(a), None if b == PAPER else Path(b), out, formats)
    for comparison in made:
        for sheet in comparison.sheets:
            _print_sheet(sheet)
            for note in sheet.notes:
                out_console.print(f"- {note}", soft_wrap=True)
            out_console.print()
    return written


def print_tables(folder: Path) -> None:
    """The tables of a run, each with what its audit does not find fine."""
    from vinet_bench.report import tables
    from vinet_bench.stored_run import read_run

    for table in tables(read_run(folder)).values():
        _print_sheet(table)


def _print_sheet(sheet: "Sheet") -> None:
    grid = Grid(title=sheet.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column(sheet.first, no_wrap=True)
    for column in sheet.columns:
        grid.add_column(column.heading, justify="right", overflow="fold")
    for _, rows in sheet.blocks():
        for row in rows:
            grid.add_row(row.title, *row.cells)
        grid.add_section()
    out_console.print(grid)
    for warning in sheet.warnings:
        out_console.print(f"WARNING {warning}", style="red", soft_wrap=True)
    if sheet.audit:
        said = [found for found in sheet.audit if found.verdict != "fine"]
        fine = len(sheet.audit) - len(said)
        counted = f": {fine} of {len(sheet.audit)} points are fine" if fine else ""
        print_findings(f"Audit{counted}", said)
