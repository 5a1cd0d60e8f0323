"""labels.csv: its rows, and the labels, patients and parts that they give."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.dataset import PARTS
from vinet_bench.data.tables import read_records, rows_below, shown
from vinet_bench.errors import UserError

Patients = Literal["column", "unknown"]

TABLE = "labels.csv"
COLUMNS = ("image", "label", "patient", "mask", "split")
LARGEST_LABEL = 99
PART_WORDS = {part: part for part in PARTS} | {"val": "validation"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
WHOLE_NUMBER = re.compile(r"[+-]?\d+(\.0*)?", re.ASCII)  # pandas writes 3 as 3.0 beside gaps


@dataclass(frozen=True)
class Row:
    """One row of labels.csv; number counts as a spreadsheet does, the header being row 1."""

    number: int
    image: str = ""
    label: str = ""
    patient: str = ""
    mask: str = ""
    split: str = ""

    def error(self, text: str) -> UserError:
        """A UserError that names this row."""
        return UserError(f"{TABLE} row {self.number}: {text}")


def read_rows(root: Path, patients: Patients) -> list[Row]:
    """The table's rows that are not blank, each as wide as the header. Raises UserError."""
    records = read_records(root / TABLE)
    if not records:
        raise UserError(f"{TABLE} is empty: write the columns image, label, patient")
    header = [cell.strip() for cell in records[0]]
    _check_header(header, patients)
    rows = []
    for number, cells in rows_below(TABLE, header, records[1:]):
        rows.append(Row(number, **{name: cells.get(name, "") for name in COLUMNS}))
        _check_printable(rows[-1])
    if not rows:
        raise UserError(f"{TABLE} has no rows below its header: add one for each picture")
    return rows


def _check_printable(row: Row) -> None:
    """Raises UserError for names that would break a table's or a message's line."""
    for name, text in (("label", row.label), ("patient", row.patient)):
        if not text.isprintable():
            raise row.error(
                f"the {name} {shown(text)} has a line break or another unprintable "
                "character: remove it"
            )


def _check_header(header: Sequence[str], patients: Patients) -> None:
    hint = "add it (the columns are separated by commas)"
    hints = {"image": hint, "label": hint, "patient": "add it, or say --patients unknown"}
    for name, mend in hints.items():
        if name not in header and not (name == "patient" and patients == "unknown"):
            raise UserError(f"{TABLE} has no column '{name}': {mend}")
    for name in COLUMNS:
        if header.count(name) > 1:
            raise UserError(f"{TABLE} has two columns '{name}': remove or rename one")


def labels_of(rows: Sequence[Row]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels (N,) as 0..K-1 and their names, ordered by number or by alphabet.

    Raises UserError for empty or mixed labels, and for one class alone.
    """
    _check_labels(rows)
    names = [row.label for row in rows]
    if NUMBER.fullmatch(rows[0].label):
        numbers = [_number(row) for row in rows]
        names = [str(number) for number in numbers]
        classes = [str(number) for number in sorted(set(numbers))]
    else:
        classes = sorted(set(names))
    if len(classes) < 2:
        raise UserError(
            f"{TABLE} has one class only ('{shown(classes[0])}'): a benchmark needs two or more"
        )
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places[name] for name in names], dtype=np.int64), tuple(classes)


def _check_labels(rows: Sequence[Row]) -> None:
    """Raises UserError at the first empty label and where numbers and names are mixed."""
    first = rows[0]
    kinds = {True: "number", False: "name"}
    expected = NUMBER.fullmatch(first.label) is not None
    for row in rows:
        if not row.label:
            raise row.error("the label is empty: fill it in, or remove the row")
        found = NUMBER.fullmatch(row.label) is not None
        if found != expected:
            raise row.error(
                f"label '{shown(row.label)}' is a {kinds[found]}, but row {first.number} has the "
                f"{kinds[expected]} '{shown(first.label)}': use only numbers or only names"
            )


def _number(row: Row) -> int:
    if not WHOLE_NUMBER.fullmatch(row.label):
        raise row.error(f"label {shown(row.label)} is not a whole number: use 0 to {LARGEST_LABEL}")
    if not 0 <= float(row.label) <= LARGEST_LABEL:
        raise row.error(
            f"label {shown(row.label)} is out of range: use whole numbers from 0 "
            f"to {LARGEST_LABEL}, or names"
        )
    return int(float(row.label))


def owners_of(rows: Sequence[Row], patients: Patients) -> list[str]:
    """Each row's patient; where patients are unknown, the slice itself. Raises UserError."""
    if patients == "unknown":
        return [row.image for row in rows]
    for row in rows:
        if not row.patient:
            raise row.error("the patient is empty: fill it in, or say --patients unknown")
    return [row.patient for row in rows]


def given_parts(rows: Sequence[Row], owners: Sequence[str]) -> NDArray[np.str_] | None:
    """The split column (N,), or None where it is missing or all empty.

    Raises UserError for an unknown part, one without a row, and a patient in two.
    """
    if not any(row.split for row in rows):
        return None
    parts = [_part(row) for row in rows]
    for part in PARTS:
        if part not in parts:
            raise UserError(
                f"{TABLE} has no row with the split '{part}': add some, or remove the column"
            )
    homes: dict[str, tuple[str, int]] = {}
    for row, owner, part in zip(rows, owners, parts, strict=True):
        home, number = homes.setdefault(owner, (part, row.number))
        if home != part:
            raise row.error(
                f"patient {shown(owner)} is in {part} here and in {home} in row {number}: "
                "keep all slices of a patient in one part"
            )
    return np.array(parts, dtype=np.str_)


def _part(row: Row) -> str:
    part = PART_WORDS.get(row.split.lower())
    if part is None:
        found = f"'{shown(row.split)}' is unknown" if row.split else "is empty"
        raise row.error(f"the split {found}: write train, validation or test")
    return part
