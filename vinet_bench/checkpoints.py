"""A training that was killed goes on where it was."""

import hashlib
import io
import time
from pathlib import Path
from typing import Any

import torch

from vinet_bench.writing import replacing, writing

EVERY = 240.0  # seconds: a killed run loses less than five minutes of a training
State = dict[str, Any]
_DIGEST = 32  # bytes of SHA-256 before the state's own


class Checkpoint:
    """One training's state in a file, written whole every `every` seconds and at no other time."""

    def __init__(self, path: Path, every: float = EVERY) -> None:
        self.path, self.every = path, every
        self._last = time.monotonic()

    def load(self) -> State | None:
        """The state, or None if there is none or the file is damaged."""
        if not self.path.is_file():
            return None
        with self.path.open("rb") as file:
            digest = file.read(_DIGEST)
            if hashlib.file_digest(file, "sha256").digest() != digest:
                return None
            file.seek(_DIGEST)
            state: State = torch.load(io.BytesIO(file.read()), weights_only=True)
        return state

    def due(self) -> bool:
        """True if the last one is `every` seconds old."""
        return time.monotonic() - self._last >= self.every

    def save(self, state: State) -> None:
        """Raises StoreError if the file cannot be written."""
        folder = self.path.parent
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as part, part.open("w+b") as file:
                _write(file, state)
        self._last = time.monotonic()

    def remove(self) -> None:
        """The training is over: its network is kept elsewhere."""
        self.path.unlink(missing_ok=True)


def _write(file: io.BufferedRandom, state: State) -> None:
    """Not in memory first: with Adam's moments a state is several times as large as its network."""
    file.write(bytes(_DIGEST))
    torch.save(state, file)
    file.seek(_DIGEST)
    digest = hashlib.file_digest(file, "sha256").digest()
    file.seek(0)
    file.write(digest)
