"""The prepared data set: memory-mapped pictures, a table, masks, and a fingerprint of it all.

dataset.json   name, classes, notes, fingerprint, the recipe that made it
images.npy     (N, H, W) uint8; 0..255 is -1000..400 HU where the source is CT
readers.npy    (N, H, W) uint8, bit r set where reader r outlined; only where readers are known
masks.npy      (N, H, W) bool, the pixels of half of the readers or more; as above
slices.csv     a row for each picture: id, label, patient, part, and what else is known of it
"""

import csv
import errno
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from vinet_bench.data.cutting import consensus
from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.pictures import LARGEST
from vinet_bench.data.tables import check_bytes, read_rows, shown
from vinet_bench.errors import UserError

INDEX, TABLE, REPORT = "dataset.json", "slices.csv", "report.csv"
IMAGES, MASKS, READERS = "images.npy", "masks.npy", "readers.npy"
FORMAT = 1
COLUMNS = ("id", "label", "patient")


class Description(BaseModel):
    """What dataset.json says of the data set, beside its format and fingerprint."""

    model_config = ConfigDict(frozen=True)

    name: str
    class_names: tuple[str, ...]
    patients_known: bool
    notes: tuple[str, ...]
    recipe: dict[str, Any]


class _Format(BaseModel):
    format: int = FORMAT


class _Index(Description, _Format):
    fingerprint: str
    ids: str = ""  # a hash of them; older sets have none


@dataclass(frozen=True)
class Piece:
    """Some slices of a data set, whole enough to be written.

    images (n, H, W) uint8; readers (n, H, W) uint8 with a bit for each reader, or None; rows: a
    slice's cells by column: id, label (a class name), patient, readers (their number) and others.
    """

    images: NDArray[np.uint8]
    readers: NDArray[np.uint8] | None
    rows: Sequence[Mapping[str, str]]


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a prepared data set."""
    return (folder / INDEX).is_file()


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns what can befall a file that is written into one line for the user."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "make room and give the command again: it goes on where it was"
        raise UserError(
            f"cannot write {path} ({error.strerror}): "
            + (mend if full else "check its rights, or choose another --out")
        ) from None


def write_prepared(
    folder: Path, about: Description, count: int, pieces: Iterable[Piece], report: list[list[str]]
) -> SliceDataset:
    """Writes the data set piece by piece into a folder that must not exist; all of it or nothing.

    count: slices in all pieces. report: the rows of report.csv, its header first. Raises UserError.
    """
    part = folder.with_name(f"{folder.name}.writing")
    try:
        with write_errors(folder):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            _write_pieces(part, count, pieces)
            _write_csv(part / REPORT, report)
            made = _assembled(part, about)
            index = _Index(**about.model_dump(), fingerprint=made.fingerprint, ids=_ids_hash(made))
            (part / INDEX).write_text(index.model_dump_json(indent=2) + "\n", encoding="utf-8")
            part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _assembled(folder, about)


def _write_pieces(part: Path, count: int, pieces: Iterable[Piece]) -> None:
    rows: list[Mapping[str, str]] = []
    with ExitStack() as open_files:
        files: dict[str, BinaryIO] = {}
        for piece in pieces:
            rows += piece.rows
            for name, values in _stacks(piece).items():
                if name not in files:
                    files[name] = open_files.enter_context((part / name).open("wb"))
                    _write_header(files[name], values, count)
                # Not through a memory map: on a full disk that ends the process with SIGBUS.
                files[name].write(np.ascontiguousarray(values).tobytes())
    header = list(dict.fromkeys(column for row in rows for column in row))
    _write_csv(part / TABLE, [header, *([row.get(c, "") for c in header] for row in rows)])


def _write_header(file: BinaryIO, values: NDArray[Any], count: int) -> None:
    """The .npy header of `count` such pictures."""
    header = np.lib.format.header_data_from_array_1_0(values)
    header["shape"] = (count, *values.shape[1:])
    np.lib.format.write_array_header_1_0(file, header)


def _stacks(piece: Piece) -> dict[str, NDArray[Any]]:
    if piece.readers is None:
        return {IMAGES: piece.images}
    counts = np.array([int(row["readers"]) for row in piece.rows], dtype=np.int64)
    masks = consensus(piece.readers, counts[:, None, None])
    return {IMAGES: piece.images, READERS: piece.readers, MASKS: masks}


def _write_csv(path: Path, rows: Iterable[Iterable[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


# ---- reading


def _read_index(folder: Path) -> _Index:
    """Raises UserError if dataset.json is damaged or of a newer format."""
    path = folder / INDEX
    try:
        check_bytes(path)
        text = path.read_text(encoding="utf-8")
        found = _Format.model_validate_json(text).format
        if found > FORMAT:
            raise UserError(
                f"{path} has the format {found} of a newer vinet-bench: update this one"
            )
        return _Index.model_validate_json(text)
    except (OSError, ValueError):  # pydantic's ValidationError is a ValueError
        raise UserError(f"{path} cannot be read (damaged?): prepare the data again") from None


def load_prepared(folder: Path, size: int | None = None, patients: str = "column") -> SliceDataset:
    """A prepared data set, at its own size (then memory-mapped) or resampled to `size` pixels.

    patients: must be 'unknown' where the data set has none. Raises UserError for that, and for
    content that is not what the fingerprint says.
    """
    index = _read_index(folder)
    if not index.patients_known and patients != "unknown":
        raise UserError(f"{folder} has no patient ids: say --patients unknown")
    data = _assembled(folder, index)
    if data.fingerprint != index.fingerprint or index.ids not in ("", _ids_hash(data)):
        raise UserError(
            f"{folder}: its files are not those that were prepared (damaged, or changed by hand):"
            " prepare the data again"
        )
    if index.patients_known and patients == "unknown":
        data = data.without_patients()
    return data if size is None else data.resized(size)


def _ids_hash(data: SliceDataset) -> str:
    """Of the slices' ids, which a fingerprint leaves out: a run's keys have them from its split."""
    return hashlib.sha256("\0".join(data.ids.tolist()).encode()).hexdigest()[:16]


def _assembled(folder: Path, about: Description) -> SliceDataset:
    rows = [cells for _, cells in read_rows(folder / TABLE, COLUMNS)]
    names = about.class_names
    _check_printable(folder, about, rows)
    try:
        labels = np.array([names.index(row["label"]) for row in rows], dtype=np.int64)
    except ValueError:
        raise UserError(
            f"{folder / TABLE} has a label that {INDEX} lacks: prepare the data again"
        ) from None
    parts = np.array([row.get("part", "") for row in rows], dtype=np.str_)
    has_masks = (folder / MASKS).exists()
    images = _mapped(folder / IMAGES, len(rows), np.uint8)
    shape = images.shape
    if not 1 <= min(shape[1:]) <= max(shape[1:]) <= LARGEST:
        raise UserError(f"{folder / IMAGES} has no pictures of 1 to {LARGEST} pixels a side")
    return SliceDataset(
        name=about.name,
        images=images,
        labels=labels,
        patients=np.array([row["patient"] for row in rows], dtype=np.str_),
        ids=np.array([row["id"] for row in rows], dtype=np.str_),
        class_names=names,
        evidence=_mapped(folder / MASKS, len(rows), np.bool_, shape) if has_masks else None,
        readers=_mapped(folder / READERS, len(rows), np.uint8, shape) if has_masks else None,
        given_parts=parts if np.isin(parts, PARTS).all() else None,
        patients_known=about.patients_known,
        notes=about.notes,
    )


def _check_printable(folder: Path, about: Description, rows: Sequence[Mapping[str, str]]) -> None:
    """Raises UserError for names that would break a table's or a message's line."""
    for text in (about.name, *about.class_names, *about.notes):
        if not text.isprintable():
            raise UserError(f"{folder / INDEX} has the unprintable text {shown(text)}: remove it")
    for number, row in enumerate(rows, start=2):
        for name in COLUMNS:
            if not row[name].isprintable():
                found = f"the unprintable {name} {shown(row[name])}"
                raise UserError(f"{folder / TABLE} row {number} has {found}: prepare it again")


def _mapped(
    path: Path, count: int, kind: type[np.generic], shape: tuple[int, ...] = ()
) -> NDArray[Any]:
    """A stack of `count` pictures; of this shape, if one is given. Raises UserError."""
    try:
        stack: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # refuses pickled objects
    except Exception:  # a damaged header makes numpy raise almost anything
        raise UserError(f"{path} cannot be read (damaged?): prepare the data again") from None
    fits = stack.ndim == 3 and len(stack) == count and shape in ((), stack.shape)
    if not fits or stack.dtype != kind:
        raise UserError(f"{path} does not fit {TABLE}: prepare the data again")
    return stack
