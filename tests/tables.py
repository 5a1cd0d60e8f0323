"""A run's tables as a reader of their CSV files sees them."""

import csv
from pathlib import Path

from vinet_bench.report import write_report

Lines = dict[str, dict[str, str]]


def read_lines(folder: Path, table: str) -> Lines:
    """A written table by method."""
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return {line["method"]: line for line in csv.DictReader(file)}


def lines(folder: Path, table: str) -> Lines:
    """Writes the run's report; one of its tables by method."""
    write_report(folder)
    return read_lines(folder, table)
