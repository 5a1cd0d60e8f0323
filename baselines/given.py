"""A row whose maps were made elsewhere."""

from typing import Self

from torch import Tensor, nn

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.given_maps import WORD
from vinet_bench.methods import MethodInfo


class Given:
    """What is known of such a row by its name alone, TITLE@HASH; a run reads its maps.

    Raises UserError for a name without the content's hash.
    """

    def __init__(self, name: str) -> None:
        title, at, content = name.partition("@")
        if not at:
            raise UserError(f"{WORD}:{name}: give the folder of the maps, --maps {name}=DIR")
        self.info = MethodInfo(
            name=f"{WORD}:{name}",
            title=title,
            paper="made elsewhere",
            explains="nothing",
            variant=f"made elsewhere, content {content}",
            forwards=0,
        )

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        name = self.info.title
        raise UserError(f"{self.info.name}: give the folder of its maps again, --maps {name}=DIR")
