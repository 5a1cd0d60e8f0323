"""The user's own data: a folder with labels.csv and pictures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.dataset import PARTS, UNKNOWN_PATIENTS, SliceDataset
from vinet_bench.data.pictures import (
    LARGEST,
    Picture,
    PictureError,
    Pixels,
    read_mask,
    read_picture,
    resize_mask,
    resize_picture,
)
from vinet_bench.data.stacks import empty_stack
from vinet_bench.data.tables import check_width, read_records, shown
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


def load_folder(
    folder: Path,
    size: int | None = None,
    default_size: int | None = 64,
    patients: Patients = "column",
) -> SliceDataset:
    """The slices that folder/labels.csv lists, resampled to one square size in pixels.

    size: what all pictures become; without it they must share one size and become default_size, or
    keep their own (the longer side's) where that is None.
    patients: 'unknown' takes every slice for its own patient. Raises UserError, which names the
    file and the row, for whatever a user can get wrong.
    """
    side = default_size if size is None else size
    if side is not None and not 1 <= side <= LARGEST:
        raise UserError(f"--size {side} is no size for pictures: use 1 to {LARGEST} pixels")
    root = _root(folder)
    rows = _rows(root, patients)
    labels, class_names = _labels(rows)
    owners = _owners(rows, patients)
    parts = _given_parts(rows, owners)
    image_paths = _image_paths(root, rows)
    mask_paths = [_path(root, row, row.mask, "mask") if row.mask else None for row in rows]
    side = side or max(_picture(rows[0], image_paths[0]).pixels.shape)
    images, shapes, notes = _images(rows, image_paths, side, one_size=size is None)
    if patients == "unknown":
        notes += (UNKNOWN_PATIENTS,)
    return SliceDataset(
        name=root.name,
        images=images,
        labels=labels,
        patients=np.array(owners, dtype=np.str_),
        ids=np.array([row.image for row in rows], dtype=np.str_),
        class_names=class_names,
        evidence=_evidence(rows, mask_paths, shapes, side),
        given_parts=parts,
        patients_known=patients == "column",
        notes=notes,
    )


# ---- the table


def _root(folder: Path) -> Path:
    root = folder.resolve()
    if not root.is_dir():
        raise UserError(f"folder {shown(str(folder))} does not exist: give a folder with {TABLE}")
    if not (root / TABLE).is_file():
        raise UserError(
            f"folder {shown(str(folder))} has no {TABLE}: "
            "write one with the columns image, label, patient"
        )
    return root


def _rows(root: Path, patients: Patients) -> list[Row]:
    """The table's rows that are not blank, each as wide as the header."""
    records = read_records(root / TABLE)
    if not records:
        raise UserError(f"{TABLE} is empty: write the columns image, label, patient")
    header = [cell.strip() for cell in records[0]]
    _check_header(header, patients)
    rows = []
    for number, record in enumerate(records[1:], start=2):
        if not any(cell.strip() for cell in record):
            continue  # a blank line, as spreadsheets leave at the end
        check_width(TABLE, number, record, header)
        cells = dict(zip(header, record, strict=True))
        rows.append(Row(number, **{name: cells.get(name, "").strip() for name in COLUMNS}))
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


# ---- labels, patients, parts


def _labels(rows: Sequence[Row]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels (N,) as 0..K-1 and their names, ordered by number or by alphabet."""
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


def _owners(rows: Sequence[Row], patients: Patients) -> list[str]:
    """Each row's patient; where patients are unknown, the slice itself."""
    if patients == "unknown":
        return [row.image for row in rows]
    for row in rows:
        if not row.patient:
            raise row.error("the patient is empty: fill it in, or say --patients unknown")
    return [row.patient for row in rows]


def _given_parts(rows: Sequence[Row], owners: Sequence[str]) -> NDArray[np.str_] | None:
    """The split column (N,), or None where it is missing or all empty."""
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


# ---- files


def _image_paths(root: Path, rows: Sequence[Row]) -> list[Path]:
    seen: dict[Path, int] = {}
    for row in rows:
        if not row.image:
            raise row.error("the image is empty: name a picture, or remove the row")
        path = _path(root, row, row.image, "picture")
        if not row.image.isprintable():  # it is the slice's id, which stands in tables
            raise row.error(f"picture {shown(row.image)} has an unprintable name: rename the file")
        if path in seen:
            raise row.error(
                f"picture {shown(row.image)} stands in row {seen[path]} too: remove one of them"
            )
        seen[path] = row.number
    return list(seen)


def _path(root: Path, row: Row, text: str, what: str) -> Path:
    """The file that a cell names. Raises UserError if it leaves the folder or does not exist."""
    name = f"{what} {shown(text)}"
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute():
        raise row.error(f"{name} is an absolute path: write it relative to the folder")
    try:
        path = (root / text).resolve()
        inside, found = path.is_relative_to(root), path.is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, a null byte, a circle of links
        raise row.error(f"{name} is no usable path: rename the file") from None
    if not inside:
        raise row.error(f"{name} leaves the folder: copy the file into it")
    if not found:
        hint = ": write / for \\" if "\\" in text else ": add the file, or remove the row"
        raise row.error(f"{name} does not exist{hint}")
    return path


def _images(
    rows: Sequence[Row], paths: Sequence[Path], side: int, one_size: bool
) -> tuple[NDArray[np.uint8] | NDArray[np.float16], list[tuple[int, int]], tuple[str, ...]]:
    """Pictures (N, side, side), their own (height, width), and notes on what was changed."""
    resized: list[Pixels] = []
    shapes: list[tuple[int, int]] = []
    colours = 0
    for row, path in zip(rows, paths, strict=True):
        picture = _picture(row, path)
        height, width = picture.pixels.shape
        shapes.append((height, width))
        if one_size and shapes[-1] != shapes[0]:
            raise row.error(
                f"pictures have two sizes ({_by(shapes[0])} in {shown(rows[0].image)}, "
                f"{_by(shapes[-1])} in {shown(row.image)}): say --size N to resample them all"
            )
        # Shrunk at once, so that a large data set never lies in memory at its own size.
        resized.append(resize_picture(picture.pixels, side))
        colours += picture.had_colour
    return _stacked(resized), shapes, _notes(shapes, colours, side)


def _picture(row: Row, path: Path) -> Picture:
    try:
        return read_picture(path)
    except PictureError as problem:
        raise row.error(f"picture {shown(row.image)} {problem}") from None


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _stacked(pictures: Sequence[Pixels]) -> NDArray[np.uint8] | NDArray[np.float16]:
    """uint8 if all are, else float16 in 0..1."""
    shape = (len(pictures), *pictures[0].shape)
    if all(pixels.dtype == np.uint8 for pixels in pictures):
        return np.stack(pictures, out=empty_stack(shape, np.uint8))
    stack = empty_stack(shape, np.float16)
    for place, pixels in enumerate(pictures):
        scale = np.float32(255 if pixels.dtype == np.uint8 else 1)
        stack[place] = pixels.astype(np.float32) / scale
    return stack


def _notes(shapes: Sequence[tuple[int, int]], colours: int, side: int) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if colours:
        notes += (f"{colours} of {len(shapes)} pictures had colours: turned into luminance",)
    oblong = [shape for shape in shapes if shape[0] != shape[1]]
    if oblong:
        notes += (
            f"{len(oblong)} of {len(shapes)} pictures were not square (the first {_by(oblong[0])}, "
            f"height x width): resampled to {side} x {side}, which changes their proportions",
        )
    return notes


def _evidence(
    rows: Sequence[Row],
    paths: Sequence[Path | None],
    shapes: Sequence[tuple[int, int]],
    side: int,
) -> NDArray[np.bool_] | None:
    """Masks (N, side, side), all false where a row names none; None if no row does."""
    if not any(paths):
        return None
    evidence = empty_stack((len(rows), side, side), np.bool_)
    for place, (row, path, shape) in enumerate(zip(rows, paths, shapes, strict=True)):
        if path is None:
            continue
        try:
            mask = read_mask(path)
        except PictureError as problem:
            raise row.error(f"mask {shown(row.mask)} {problem}") from None
        if mask.shape != shape:
            found = " x ".join(map(str, mask.shape))
            raise row.error(
                f"mask {shown(row.mask)} is {found} and its picture {_by(shape)}: make them equal"
            )
        evidence[place] = resize_mask(mask, side)
    return evidence
