"""One picture or CT slice from a file, as a network is shown it: read as untrusted input."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.headers import MOST_VOXELS, ScanError, check_mha
from vinet_bench.data.hounsfield import windowed
from vinet_bench.data.pictures import (
    LARGEST,
    PictureError,
    Pixels,
    read_picture,
    resize_picture,
)
from vinet_bench.data.readings import Box
from vinet_bench.data.scans import extract, open_mhd, read_information, tag
from vinet_bench.data.tables import shown
from vinet_bench.errors import UserError

PICTURES = (".png", ".jpg", ".jpeg", ".npy")
SCANS = (".dcm", ".dicom", ".ima", ".mhd", ".mha")
_MODALITY = "0008|0060"


@dataclass(frozen=True)
class Slice:
    """Grey pixels (H, W), uint8 (0..255) or float32 (0..1), and what a user must be told of it."""

    pixels: Pixels
    note: str = ""


def read_slice(path: Path, side: int, number: int | None = None) -> Slice:
    """A PNG, JPG, .npy, DICOM, .mhd or .mha slice, resampled to side x side.

    number: which slice of a volume, from 0; its middle one if None. Scans are in Hounsfield units,
    of which -1000 to 400 are kept. Raises UserError.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a picture or a CT slice")
    try:
        if path.suffix.lower() in PICTURES:
            found = Slice(read_picture(path).pixels)
        elif path.suffix.lower() in SCANS or _is_dicom(path):
            found = _read_scan(path, number)
        else:
            known = ", ".join(PICTURES + SCANS)
            raise PictureError(f"is of an unknown kind: use {known}, or DICOM of any name")
    except PictureError as error:
        raise UserError(f"{path} {error}") from None
    return Slice(resize_picture(found.pixels, side), found.note)


def _is_dicom(path: Path) -> bool:
    """Scanners often name their files without an ending."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_scan(path: Path, number: int | None) -> Slice:
    """One slice alone. Raises UserError."""
    if path.suffix.lower() == ".mhd":
        return _read_mhd(path, number)
    try:
        across, down, count = _checked_size(path)
        chosen, note = _chosen(path, count, number)
        hu = extract(path, (0, 0, chosen), Box(0, 0, across, down))
    except ScanError as error:
        raise UserError(str(error)) from None
    return Slice(_checked_window(hu), note)


def _read_mhd(path: Path, number: int | None) -> Slice:
    """One slice alone, once its header has shown that it names a data file of its own folder."""
    try:
        scan = open_mhd(path)
        across, down, count = scan.size
        chosen, note = _chosen(path, count, number)
        return Slice(_checked_window(scan.region(Box(0, 0, across, down), chosen)), note)
    except ScanError as error:
        raise UserError(str(error)) from None


def _chosen(path: Path, count: int, number: int | None) -> tuple[int, str]:
    """Which of `count` slices, and what a user must be told of it."""
    if number is not None and not 0 <= number < count:
        raise UserError(f"--slice {number}: {path} has the slices 0 to {count - 1}")
    chosen = count // 2 if number is None else number
    guessed = number is None and count > 1
    note = f"{path} has {count} slices: took the middle one, --slice {chosen}" if guessed else ""
    return chosen, note


def _checked_size(path: Path) -> tuple[int, int, int]:
    """Pixels across and down, and slices, of a DICOM or .mha file that its header shows to be grey,
    CT, and no larger than can be read. Raises ScanError, PictureError."""
    if path.suffix.lower() == ".mha":
        check_mha(path)
    header = read_information(path)
    if header.HasMetaDataKey(_MODALITY) and (found := tag(header, _MODALITY)) != "CT":
        raise PictureError(f"is of modality {shown(found)}: only CT has Hounsfield units")
    if header.GetNumberOfComponents() != 1 or header.GetDimension() not in (2, 3):
        raise PictureError("is no grey picture or volume")
    across, down, count = (*header.GetSize(), 1)[:3]
    if max(across, down) > LARGEST:
        raise PictureError(f"is larger than {LARGEST} x {LARGEST}: crop or shrink it first")
    if across * down * count > MOST_VOXELS:
        raise PictureError(f"has {count} slices, too many to be read: export the one you want")
    return across, down, count


def _checked_window(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`windowed`. Raises PictureError for what is no number."""
    if not np.isfinite(values).all():
        raise PictureError("has NaN or infinite values: replace them")
    return windowed(values)
