"""What an audit must know of every picture once the data itself is gone: whose it is, where it
stands, and what it is like."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.splits import Split

Facts = dict[str, NDArray[Any]]
HASH_SIDE = 16


def picture_facts(data: SliceDataset, split: Split) -> Facts:
    """Of each of the N pictures, all of them arrays: part (N,), its place in PARTS, or (K, N), that
    in each of K folds; label (N,); patient (N,), its place in patient_names; content (N, 8), a hash
    of the pixels; looks (N, 32), a perceptual hash in which pictures that look alike have few
    different bits. Names are JSON.
    """
    names, patients = np.unique(data.patients, return_inverse=True)
    return {
        "part": np.stack([_parts(one, len(data)) for one in split.folds])
        if split.folds
        else _parts(split, len(data)),
        "label": data.labels,
        "patient": patients.astype(np.int64),
        "content": np.stack([_content(picture) for picture in data.images]),
        "looks": np.stack([_looks(data.pictures(slice(i, i + 1))[0, 0]) for i in range(len(data))]),
        "patient_names": _as_bytes(names.tolist()),
        "ids": _as_bytes(data.ids.tolist()),
    }


def _parts(split: Split, count: int) -> NDArray[np.uint8]:
    parts = np.full(count, len(PARTS), np.uint8)
    for place, name in enumerate(PARTS):
        parts[split.part(name)] = place
    return parts


def folds_of(facts: Facts) -> NDArray[np.uint8]:
    """Each picture's place in PARTS in each fold, (K, N); one fold without cross-validation."""
    return np.atleast_2d(facts["part"])


def places_tested(facts: Facts, seeds: Iterable[int]) -> NDArray[np.int64]:
    """The pictures that any of the seeds tests, sorted: those of one seed are in the order of its
    scores. (C,)."""
    folds = folds_of(facts)
    chosen = [seed % len(folds) for seed in seeds]
    return np.flatnonzero((folds[chosen] == PARTS.index("test")).any(axis=0))


def names_of(facts: Facts, column: str) -> list[str]:
    """The texts of 'patient_names' or 'ids'."""
    found: list[str] = json.loads(facts[column].tobytes().decode())
    return found


def _as_bytes(names: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(list(names)).encode(), np.uint8)


def _content(picture: NDArray[Any]) -> NDArray[np.uint8]:
    digest = hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=8).digest()
    return np.frombuffer(digest, np.uint8)


def _looks(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The 256 lowest frequencies of the picture, each above or below their median (pHash)."""
    import imagehash
    from PIL import Image

    grey = Image.fromarray(np.round(picture * 255).astype(np.uint8))
    return np.packbits(imagehash.phash(grey, hash_size=HASH_SIDE).hash)
