"""What every data source gives: slices, labels, patients, and evidence where it is known."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class SliceDataset:
    """Labelled slices in memory, small until they are asked for.

    images (N, H, W): uint8 (0..255) or float16 (0..1), 0 is -1000 HU where the source is CT.
    labels (N,): int64, 0..K-1. patients (N,), ids (N,): str.
    evidence (N, H, W): bool, the pixels that make the class, or None where nobody knows.
    marker (N, H, W): bool, a planted confounder, or None.
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
    given_parts: NDArray[np.str_] | None = None
    patients_known: bool = True
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.dtype not in (np.uint8, np.float16) or self.images.ndim != 3:
            raise ValueError("images must be (N, H, W) of uint8 or float16")
        columns = (self.labels, self.patients, self.ids, self.evidence, self.marker)
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
        columns = ("images", "labels", "patients", "ids", "evidence", "marker", "given_parts")
        chosen: dict[str, Any] = {}
        for name in columns:
            column = getattr(self, name)
            chosen[name] = None if column is None else column[indices]
        return replace(self, **chosen)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the content: pictures, labels, patients, evidence and given parts."""
        digest = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        for column in (self.images, self.labels, self.evidence, self.marker):
            digest.update(b"-" if column is None else np.ascontiguousarray(column).tobytes())
        for text in (self.patients, self.given_parts):
            digest.update(b"-" if text is None else "\0".join(text.tolist()).encode())
        return digest.hexdigest()[:16]
