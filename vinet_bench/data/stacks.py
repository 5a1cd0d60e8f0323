"""Pictures of a whole data set: in memory where that is small, else in a file that is mapped."""

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE = 2**28  # bytes, above which a stack lies in a file
CHUNK = 256  # pictures made at a time


def empty_stack(shape: Sequence[int], dtype: np.dtype[Any] | type[Any]) -> NDArray[Any]:
    """Zeros that can be written. A large stack has a file without a name in the folder for
    temporary files, which goes with it; in memory after all where there is no room for it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= LARGE:
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile() as file:
            # A full disk must show itself here: in a mapped page it would end the process.
            os.posix_fallocate(file.fileno(), 0, size)
            mapped: NDArray[Any] = np.memmap(file, dtype, "r+", shape=tuple(shape))
            return np.asarray(mapped)
    except (OSError, AttributeError):  # no room, or no such call (not Linux)
        return np.zeros(shape, dtype)


def made(count: int, make: Callable[[slice], NDArray[Any]]) -> NDArray[Any]:
    """A stack of so many pictures, of which `make` gives a few at a time: the pictures start to
    stop - 1, (stop - start, ...). -> (count, ...)."""
    first = make(slice(0, min(CHUNK, count)))
    found = empty_stack((count, *first.shape[1:]), first.dtype)
    found[: len(first)] = first
    for start in range(len(first), count, CHUNK):
        some = slice(start, min(start + CHUNK, count))
        found[some] = make(some)
    return found


def taken(stack: NDArray[Any], indices: NDArray[np.int64]) -> NDArray[Any]:
    """stack[indices], a few pictures at a time. (N, ...), (n,) -> (n, ...)."""
    return made(len(indices), lambda some: stack[indices[some]])
