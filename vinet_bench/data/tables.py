"""CSV files from outside, read as untrusted text: every fault is named in one line."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vinet_bench.errors import UserError

LONGEST_SHOWN = 200
SHOWN_NAMES = 3
LARGEST_BYTES = 2**28  # a million rows of 256 characters


def shown(text: str) -> str:
    """Text from outside for a one-line message: printable, and not endless."""
    safe = text if text.isprintable() else ascii(text)
    return safe if len(safe) <= LONGEST_SHOWN else safe[: LONGEST_SHOWN - 3] + "..."


def named(names: Sequence[str], most: int = SHOWN_NAMES, between: str = ", ") -> str:
    """The first names, and how many more there are.

    >>> named(["a", "b", "c", "d", "e"])
    'a, b, c, 2 more'
    """
    rest = len(names) - most
    return between.join([*names[:most], *([f"{rest} more"] if rest > 0 else [])])


def printable(text: str) -> str:
    """The text itself. Raises ValueError for one that would break a table's or a message's line."""
    if not text.isprintable():
        raise ValueError(f"the unprintable text {shown(text)}")
    return text


def read_records(path: Path) -> list[list[str]]:
    """The records of a CSV file, header first. Raises UserError that names the file."""
    name = shown(path.name)
    try:
        check_bytes(path)
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{name} is not UTF-8 text: save it as 'CSV UTF-8'") from None
    except OSError as problem:
        raise UserError(f"{name} cannot be opened ({problem.strerror}): check its rights") from None
    if "\0" in text:
        raise UserError(f"{name} is not text: save it as 'CSV UTF-8'")
    records: list[list[str]] = []
    try:
        for record in csv.reader(io.StringIO(text, newline=""), strict=True):
            records.append(record)  # noqa: PERF402 (its length is needed when it fails)
    except csv.Error as problem:
        raise UserError(
            f"{name} row {len(records) + 1} is no CSV ({problem}): mend its quotes"
        ) from None
    return records


def check_bytes(path: Path, most: int = LARGEST_BYTES) -> None:
    """Raises UserError for what is no file or too large to be read whole; OSError as `stat`."""
    if path.exists() and not path.is_file():
        raise UserError(f"{shown(path.name)} is no file: put the file itself there")
    if path.stat().st_size > most:
        raise UserError(f"{shown(path.name)} is larger than {most >> 20} MiB: split or shrink it")


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows that are not blank, each with its number (the header is row 1) and its cells.

    columns: those that must be there, each once. Raises UserError that names file, row or column.
    """
    name = shown(path.name)
    records = read_records(path)
    wanted = ", ".join(columns)
    if not records:
        raise UserError(f"{name} is empty: write the columns {wanted}")
    header = [cell.strip() for cell in records[0]]
    for column in columns:
        if header.count(column) != 1:
            many = "two columns" if column in header else "no column"
            raise UserError(f"{name} has {many} '{column}': it needs {wanted}, each once")
    rows = list(rows_below(name, header, records[1:]))
    if not rows:
        raise UserError(f"{name} has no rows below its header")
    return rows


def rows_below(
    name: str, header: Sequence[str], records: Iterable[Sequence[str]]
) -> Iterator[tuple[int, dict[str, str]]]:
    """The records below a table's header that are not blank, as `read_rows` gives them.

    Raises UserError where one is not as wide as the header.
    """
    for number, record in enumerate(records, start=2):
        if not any(cell.strip() for cell in record):
            continue  # a blank line, as spreadsheets leave at the end
        _check_width(name, number, record, header)
        cells = zip(header, (cell.strip() for cell in record), strict=True)
        yield number, dict(cells)


def _check_width(name: str, number: int, record: Sequence[str], header: Sequence[str]) -> None:
    """Raises UserError where a row has more or fewer cells than the header."""
    if len(record) != len(header):
        raise UserError(
            f"{name} row {number} has {len(record)} cells and the header {len(header)}: "
            "fill them in, or quote a text that has commas"
        )
