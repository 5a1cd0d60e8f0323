"""The user's own data: a folder with labels.csv and pictures."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.dataset import UNKNOWN_PATIENTS, SliceDataset
from vinet_bench.data.labels_table import (
    TABLE,
    Patients,
    Row,
    given_parts,
    labels_of,
    owners_of,
    read_rows,
)
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
from vinet_bench.data.tables import shown
from vinet_bench.errors import UserError

Narrow = NDArray[np.uint8] | NDArray[np.float16]


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
    rows = read_rows(root, patients)
    labels, class_names = labels_of(rows)
    owners = owners_of(rows, patients)
    parts = given_parts(rows, owners)
    image_paths = _image_paths(root, rows)
    mask_paths = [_path(root, row, row.mask, "mask") if row.mask else None for row in rows]
    side = side or max(_picture(rows[0], image_paths[0]).pixels.shape)
    _check_memory(len(rows), side, any(mask_paths))
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


def _check_memory(count: int, side: int, masks: bool) -> None:
    """Raises UserError before anything is read, if all pictures together have no place."""
    needed = count * side**2 * (2 + masks)  # the pictures one by one, then as a stack
    there = memory()
    if needed > there:
        raise UserError(
            f"{count} pictures of {side} x {side} pixels need {needed / 2**30:.1f} GiB, and this"
            f" machine has {there / 2**30:.1f} GiB: say a smaller --size"
        )


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _images(
    rows: Sequence[Row], paths: Sequence[Path], side: int, one_size: bool
) -> tuple[Narrow, list[tuple[int, int]], tuple[str, ...]]:
    """Pictures (N, side, side), their own (height, width), and notes on what was changed."""
    resized: list[Narrow] = []
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
        # Shrunk and narrowed at once: a large data set never lies in memory at its own size.
        resized.append(_narrow(resize_picture(picture.pixels, side)))
        colours += picture.had_colour
    return _stacked(resized), shapes, _notes(shapes, colours, side)


def _picture(row: Row, path: Path) -> Picture:
    try:
        return read_picture(path)
    except PictureError as problem:
        raise row.error(f"picture {shown(row.image)} {problem}") from None


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _narrow(pixels: Pixels) -> Narrow:
    """As a data set keeps it: two bytes a pixel at most."""
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float16)  # type: ignore[return-value]


def _stacked(pictures: Sequence[Narrow]) -> Narrow:
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
