"""`vinet-bench status`: what of a run is done, running, failed, and how long the rest may take."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table as Grid

from vinet_bench.consoles import out_console

if TYPE_CHECKING:
    from vinet_bench.status import Part
    from vinet_bench.stored_run import CellState

SHOWN_FAILURES = 10
_COUNTED = ("done", "failed", "running", "waiting")


def status(
    run: Annotated[
        Path | None, typer.Argument(help="A run's folder (default: the newest).")
    ] = None,
) -> None:
    """Show what of a run is done, running, waiting and failed, and the time left."""
    from vinet_bench.report import newest_run
    from vinet_bench.status import parts
    from vinet_bench.stored_run import read_states

    folder = run or newest_run()
    states, known = read_states(folder)
    _print_parts(str(folder), parts(states))
    if not known:
        out_console.print(
            "An older version made this run: it did not note what waits.", soft_wrap=True
        )
    elif states and all(state.state == "done" for state in states):
        out_console.print("All is done.")
    _print_running([state for state in states if state.state == "running"])
    _print_failed([state for state in states if state.state == "failed"])


def _print_parts(title: str, found: Sequence["Part"]) -> None:
    grid = Grid(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("Protocol", no_wrap=True)
    for heading in (*_COUNTED, "time left"):
        grid.add_column(heading, justify="right")
    for part in found:
        counts = [str(getattr(part, name)) for name in _COUNTED]
        grid.add_row(part.protocol, *counts, duration(part.left))
    grid.add_section()
    sums = [str(sum(getattr(part, name) for part in found)) for name in _COUNTED]
    grid.add_row("all", *sums, duration(math.fsum(part.left for part in found)))
    out_console.print(grid)


def duration(seconds: float) -> str:
    """
    >>> duration(0), duration(42), duration(600), duration(9000), duration(math.nan)
    ('–', 'about 42 s', 'about 10 min', 'about 2.5 h', '?')
    """
    if math.isnan(seconds):
        return "?"
    if seconds < 1:
        return "–"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _print_running(states: Sequence["CellState"]) -> None:
    for state in states:
        where = f" on {state.host}" if state.host else ""
        took = duration(max(state.seconds, 1)).removeprefix("about ")
        out_console.print(f"running for {took}{where}: {state.cell.title}", soft_wrap=True)


def _print_failed(states: Sequence["CellState"]) -> None:
    for state in states[:SHOWN_FAILURES]:
        reason = " ".join(state.reason.split())
        out_console.print(f"failed: {state.cell.title}: {reason}", style="red", soft_wrap=True)
    if len(states) > SHOWN_FAILURES:
        more = len(states) - SHOWN_FAILURES
        out_console.print(f"failed: {more} more; the CSV files name each with its reason")
