"""What is fast, as ratios: ours and the peer in turn, in one process.

python -m benchmarks [ROW ...] [--rounds 5] [--csv FILE] [--list]
"""

import argparse
import csv
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.turns import Ratio, Row

MODULES = (
    "training",
    "network",
    "statistics",
    "startup",
    "explaining",
    "faithfulness",
    "peer",
)
ROWS: dict[str, Row] = {
    row.name: row for name in MODULES for row in import_module(f"benchmarks.{name}").BENCHMARKS
}
COLUMNS = ("name", "better", "goal", "met", "round", "ratio", "ours", "peer", "unit")


def main() -> None:
    """Measures the rows asked for, prints one table, and writes it to a file where asked."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("rows", nargs="*", metavar="ROW", help="all of them by default")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--csv", type=Path)
    options.add_argument("--list", action="store_true", help="the rows there are")
    asked = options.parse_args()
    if unknown := [name for name in asked.rows if name not in ROWS]:
        options.error(f"no row is called {', '.join(unknown)}: --list shows them")
    console = Console(width=None if sys.stdout.isatty() else 140)
    if asked.list:
        for row in ROWS.values():
            console.print(f"{row.name:16} {row.goal}")
        return
    found: list[Ratio] = []
    for name in asked.rows or ROWS:
        console.print(f"{name} ...", highlight=False)
        found += ROWS[name].measure(asked.rounds)
        if asked.csv:  # after every row: a run that is ended leaves what it has
            write(asked.csv, found)
    console.print(machine(), highlight=False)
    console.print(table(found))


def machine() -> str:
    """When and where this was measured."""
    day = datetime.now(UTC).date().isoformat()
    cores, load = os.cpu_count(), os.getloadavg()[0]
    parts = (f"{cores} cores (load {load:.1f})", f"{torch.get_num_threads()} threads")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{day}, {torch.backends.cpu.get_cpu_capability()}, {', '.join(parts)}, {versions}"


def table(ratios: list[Ratio]) -> Table:
    """Name, goal, ratio (minimum, median, maximum), and the medians of what was measured."""
    shown = Table("name", "goal", "minimum", "median", "maximum", "met", "ours", "peer")
    for one in ratios:
        sign = "≥" if one.better == "higher" else "≤"
        spread = (f"{which(one.ratios):.2f}" for which in (min, median, max))
        taken = (f"{median(values):.4g} {one.unit}" for values in (one.ours, one.peer))
        shown.add_row(one.name, f"{sign} {one.goal:g}", *spread, "yes" if one.met else "no", *taken)
    return shown


def write(path: Path, ratios: list[Ratio]) -> None:
    """Every round of every row."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(COLUMNS)
        for one in ratios:
            rounds = zip(one.ratios, one.ours, one.peer, strict=True)
            head = (one.name, one.better, one.goal, one.met)
            out.writerows((*head, n, *taken, one.unit) for n, taken in enumerate(rounds, start=1))


if __name__ == "__main__":
    main()
