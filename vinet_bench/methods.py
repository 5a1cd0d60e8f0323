"""What a saliency method is, and where methods are found."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol, Self

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError, unknown_name
from vinet_bench.outside import entry_points

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class MethodInfo:
    """What the suite must know of a method.

    explains: the network whose decision is explained: 'classifier' (the one that methods share, a
    VGG-16 unless --explain names another), 'vinet', 'sealed' (a VINet trained as docs/sealed.md
    says), or 'nothing' for a control.
    kind: 'method'; 'control', which reserves as many pixels as VINet; 'oracle', which knows.
    sign: what the raw maps hold: 'signed', where negative values speak against the class, or
    'unsigned', where there are none.
    scaling: a policy of vinet_bench.masks.SCALINGS that brings the raw maps to [0, 1] for Eq. 9.
    variant: which of the published variants this is, where there are several; stands under a table.
    forwards, backwards: passes through the explained network that one picture's map takes (for one
    that explains itself, or brings its own network, through that).
    costly: takes a hundred passes or more, so that it is not retrained unless asked.
    class_specific: another target gives another map.
    needs: the field of SliceDataset without which it has nothing to show.
    """

    name: str
    title: str
    paper: str
    explains: Literal["classifier", "vinet", "sealed", "nothing"] = "classifier"
    kind: Literal["method", "control", "oracle"] = "method"
    scaling: str = "positive"
    variant: str = ""
    sign: Literal["signed", "unsigned"] = "signed"
    forwards: int = 1
    backwards: int = 0
    costly: bool = False
    class_specific: bool = True
    needs: Literal["", "evidence", "readers"] = ""


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
Wrapper = Callable[[SaliencyMethod], SaliencyMethod]


def methods() -> Mapping[str, MethodFactory]:
    """Every method by name: the built-in ones and those of the entry point vinet_bench.methods.

    Raises UserError if another package stands where `baselines` should.
    """
    outside = {e.name: e.load() for e in entry_points(group="vinet_bench.methods")}
    return {**_built_in().METHODS, **outside}


def wrappers() -> Mapping[str, Wrapper]:
    """What turns a method into another, by the word before the colon of `word:method`."""
    found: Mapping[str, Wrapper] = _built_in().WRAPPERS
    return found


def _built_in() -> ModuleType:
    import baselines

    if not hasattr(baselines, "METHODS"):
        raise UserError(
            f"another package named 'baselines' hides vinet-bench's own ({baselines.__path__[0]}): "
            "uninstall it, or run from another folder"
        )
    return baselines


def method(name: str) -> SaliencyMethod:
    """A fresh instance; `blurred:NAME` wraps another, `maps:NAME@HASH` was made elsewhere.

    Raises UserError for an unknown name.
    """
    word, colon, inner = name.partition(":")
    if colon and word in _built_in().BY_WORD:
        made: SaliencyMethod = _built_in().BY_WORD[word](inner)
        return made
    if colon and word in wrappers():
        return wrappers()[word](method(inner))
    known = methods()
    if name not in known:
        raise unknown_name("method", name, known)
    return known[name]()


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The names in the registry's order, each once, then those with a word before a colon; what is
    no method is left out."""
    wanted = dict.fromkeys(names)
    words = {*wrappers(), *_built_in().BY_WORD}
    wrapped = [name for name in wanted if name.partition(":")[0] in words]
    return (*(name for name in methods() if name in wanted), *wrapped)
