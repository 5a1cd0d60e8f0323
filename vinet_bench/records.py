"""The words that cross the rooms: a cell is asked for, a record comes back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vinet_bench import __version__


@dataclass(frozen=True)
class Cell:
    """One figure to be made: small, hashable, everything that tells it from its neighbours.

    budget: 'threshold' (Eq. 9), 'equal' (exactly as many pixels as VINet reserves) or 'everything'
    (the untouched picture, or the whole map).
    trained_on: 'pictures', 'masks' (the mask alone) or 'swapped' (another patient's mask).
    variant: the row where it is not the method's: another VINet than the plan's own, a pair of
    networks ('unet+resnet50') or a name of the protocol's ('single'), or what it is held against.
    """

    protocol: str
    method: str
    seed: int
    budget: str = "threshold"
    trained_on: str = "pictures"
    fill: str = "zero"
    network: str = "resnet18"
    variant: str = ""

    @property
    def row(self) -> str:
        """The row of a table in which the figure stands."""
        return self.variant or self.method

    @property
    def title(self) -> str:
        """What a progress bar or a log calls the cell."""
        extra = "" if self.trained_on == "pictures" else f" {self.trained_on}"
        return f"{self.protocol} {self.row}{extra} seed {self.seed}"

    def identity(self) -> dict[str, Any]:
        """What a key is made of; a column that is not used leaves older keys as they are."""
        return {k: v for k, v in asdict(self).items() if (k, v) != ("variant", "")}


@dataclass(frozen=True)
class Record:
    """A cell's figure: one metric, its value, the number of pictures, or why there is none."""

    cell: Cell
    metric: str
    value: float | None
    n: int = 0
    seconds: float = 0.0
    version: str = __version__
    error: str = ""


def key_of(parts: Mapping[str, Any]) -> str:
    """A hash of all that can change a value; the same parts give the same key on any machine."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
