"""`vinet-bench audit`: how a run's figures were won, as an exit code too."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as Grid
from rich.text import Text

from vinet_bench.consoles import BROKEN, out_console

if TYPE_CHECKING:
    from vinet_bench.report import Finding

STYLES = {"fine": "green", "look": "yellow", "broken": "bold red"}


def audit(
    run: Annotated[
        Path | None, typer.Argument(help="A run's folder (default: the newest).")
    ] = None,
) -> None:
    """Say what could make a run's figures mislead; exit code 1 if something is broken."""
    from vinet_bench.report import audit_run, newest_run

    found = audit_run(run or newest_run())
    for title, findings in found.items():
        print_findings(title, findings)
    if any(f.verdict == "broken" for findings in found.values() for f in findings):
        raise typer.Exit(BROKEN)


def print_findings(title: str, findings: Sequence["Finding"]) -> None:
    """A line for each finding, under a title."""
    grid = Grid(box=None, show_header=False, title=title, title_justify="left", title_style="bold")
    for column in ("verdict", "topic"):
        grid.add_column(column, no_wrap=True)
    grid.add_column("reason", overflow="fold")
    for found in findings:
        grid.add_row(Text(found.verdict, STYLES[found.verdict]), found.topic, found.reason)
    out_console.print(grid)
