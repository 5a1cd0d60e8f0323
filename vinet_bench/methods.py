"""What a saliency method is, and where methods are found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, Protocol, Self

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class MethodInfo:
    """What the suite must know of a method.

    explains: the network whose decision is explained: 'vgg16', 'vinet', or 'nothing' for a control.
    kind: 'method'; 'control', which reserves as many pixels as VINet; 'oracle', which knows.
    variant: which of the published variants this is, where there are several; stands under a table.
    scaling: a policy of vinet_bench.masks.SCALINGS that brings the raw maps to [0, 1] for Eq. 9.
    """

    name: str
    title: str
    paper: str
    explains: Literal["vgg16", "vinet", "nothing"] = "vgg16"
    kind: Literal["method", "control", "oracle"] = "method"
    scaling: str = "positive"
    variant: str = ""


class SaliencyMethod(Protocol):
    """Gives every pixel its importance for one network's decision."""

    info: MethodInfo

    def fit(self, model: "nn.Module", data: SliceDataset) -> Self:
        """Takes the trained network to be explained (in evaluation mode) and the training part."""
        ...

    def explain(self, images: "Tensor", targets: "Tensor") -> "Tensor":
        """(B, 1, H, W) float32 in [0, 1], (B,) -> (B, H, W) raw map, higher is more important.

        Targets are the explained network's predictions; a method that draws random numbers seeds
        them from each picture's content (vinet_bench.seeds.picture_generators).
        """
        ...


MethodFactory = Callable[[], SaliencyMethod]


def methods() -> Mapping[str, MethodFactory]:
    """Every method by name: the built-in ones and those of the entry point vinet_bench.methods.

    Raises UserError if another package stands where `baselines` should.
    """
    import baselines

    built_in: Mapping[str, MethodFactory] | None = getattr(baselines, "METHODS", None)
    if built_in is None:
        raise UserError(
            f"another package named 'baselines' hides vinet-bench's own ({baselines.__path__[0]}): "
            "uninstall it, or run from another folder"
        )
    outside = {e.name: e.load() for e in entry_points(group="vinet_bench.methods")}
    return {**built_in, **outside}


def method(name: str) -> SaliencyMethod:
    """A fresh instance. Raises UserError for an unknown name."""
    known = methods()
    if name not in known:
        raise unknown_name("method", name, known)
    return known[name]()
