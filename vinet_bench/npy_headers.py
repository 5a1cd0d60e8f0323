"""What a .npy or .npz file from a stranger says of its arrays, before any of them is in memory."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO
from zipfile import ZipFile

import numpy as np

LARGEST_BYTES = 2**31  # of one array


@dataclass(frozen=True)
class Header:
    """Shape and type of an array that is still in its file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def npy_header(path: Path) -> Header:
    """Of a .npy file. Raises OSError, and ValueError for what is none, is pickled or too large."""
    with path.open("rb") as file:
        return _header(file)


def npz_header(path: Path, name: str) -> Header:
    """Of an array in a .npz file. Raises as npy_header; KeyError if it is not there, BadZipFile."""
    with ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            raise KeyError(name)
        with archive.open(f"{name}.npy") as file:
            return _header(file)


def _header(file: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"a .npy file of version {version}")
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("pickled objects")
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize > LARGEST_BYTES:
        raise ValueError(f"an array of more than {LARGEST_BYTES >> 20} MiB")
    return Header(shape, dtype)
