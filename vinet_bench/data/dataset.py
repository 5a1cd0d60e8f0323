"""What every data source gives: slices, labels, patients, and evidence where it is known."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.pictures import resize_mask, resize_picture
from vinet_bench.data.stacks import taken

PARTS = ("train", "validation", "test")
READER_BITS = 8  # of a pixel of `readers`
UNKNOWN_PATIENTS = "patients are unknown: every slice counts as its own patient"


@dataclass(frozen=True)
class SliceDataset:
    """Labelled slices in memory or in a mapped file, small until they are asked for.

    images (N, H, W): uint8 (0..255) or float16 (0..1), 0 is -1000 HU where the source is CT.
    labels (N,): int64, 0..K-1. patients (N,), ids (N,): str.
    evidence (N, H, W): bool, the pixels that make the class, or None where nobody knows.
    marker (N, H, W): bool, a planted confounder, or None.
    readers (N, H, W): uint8, bit r set where reader r outlined the evidence, or None.
    given_parts (N,): 'train', 'validation' or 'test' where the source fixes the split, or None.
    """

    name: str
    images: NDArray[np.uint8] | NDArray[np.float16]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    evidence: NDArray[np.bool_] | None = None
    marker: NDArray[np.bool_] | None = None
    readers: NDArray[np.uint8] | None = None
    given_parts: NDArray[np.str_] | None = None
    patients_known: bool = True
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.dtype not in (np.uint8, np.float16) or self.images.ndim != 3:
            raise ValueError("images must be (N, H, W) of uint8 or float16")
        stacks = (self.evidence, self.marker, self.readers)
        columns = (self.labels, self.patients, self.ids, *stacks)
        if any(column is not None and len(column) != n for column in columns):
            raise ValueError(f"every column must have {n} entries")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def pictures(self, indices: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """The slices as (B, 1, H, W) float32 in [0, 1]."""
        chosen = self.images[indices][:, None]
        scale = np.float32(255 if chosen.dtype == np.uint8 else 1)
        return chosen.astype(np.float32) / scale

    def subset(self, indices: NDArray[np.int64]) -> "SliceDataset":
        """The same data set with only these slices, in this order."""
        stacks = ("images", "evidence", "marker", "readers")
        columns = ("labels", "patients", "ids", "given_parts", *stacks)
        chosen: dict[str, Any] = {}
        for name in columns:
            column = getattr(self, name)
            chosen[name] = None if column is None else taken(column, indices)
        return replace(self, **chosen)

    def without_patients(self) -> "SliceDataset":
        """The same slices where nobody knows whose they are: every one is its own patient."""
        return replace(
            self, patients=self.ids, patients_known=False, notes=(*self.notes, UNKNOWN_PATIENTS)
        )

    def resized(self, side: int) -> "SliceDataset":
        """The same slices at side x side pixels; bilinear, masks where half covered."""
        if self.size == (side, side):
            return self
        chosen: dict[str, Any] = {"images": _resized_pictures(self.images, side)}
        for name in ("evidence", "marker"):
            stack = getattr(self, name)
            if stack is not None:
                chosen[name] = np.stack([resize_mask(mask, side) for mask in stack])
        if self.readers is not None:
            chosen["readers"] = np.stack([_resized_bits(bits, side) for bits in self.readers])
        return replace(self, **chosen)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the content: pictures, labels, patients, evidence and given parts."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        for column in (self.images, self.labels, self.evidence, self.marker, self.readers):
            digest.update(b"-" if column is None else np.ascontiguousarray(column).data)
        for text in (self.patients, self.given_parts):
            digest.update(b"-" if text is None else "\0".join(text.tolist()).encode())
        return digest.hexdigest()[:16]


def reader_masks(bits: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
    """Each reader's outlines, bit r set where reader r outlined. (...) -> (...), 8 times."""
    return [(bits >> reader & 1).astype(np.bool_) for reader in range(READER_BITS)]


def _resized_pictures(
    images: NDArray[np.uint8] | NDArray[np.float16], side: int
) -> NDArray[np.uint8] | NDArray[np.float16]:
    if images.dtype == np.uint8:
        return np.stack([resize_picture(picture, side) for picture in images]).astype(np.uint8)
    # Pillow has no float16.
    resized = [resize_picture(picture.astype(np.float32), side) for picture in images]
    return np.stack(resized).astype(np.float16)


def _resized_bits(bits: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Each reader's mask resized by itself. (H, W) -> (side, side)."""
    masks = [resize_mask(mask, side) for mask in reader_masks(bits)]
    packed: NDArray[np.uint8] = np.packbits(masks, axis=0, bitorder="little")[0]
    return packed
