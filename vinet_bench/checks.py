"""What every contribution must hold. Call these from a test of your own."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.masks import SCALINGS
from vinet_bench.methods import MethodFactory, MethodInfo

TOLERANCE = 1e-5  # what float32 leaves of a map's largest absolute value
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class CheckError(AssertionError):
    """A contribution breaks its contract: one line that says where, and by how much."""


def check_method(
    factory: MethodFactory,
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    data: SliceDataset,
    tolerance: float = TOLERANCE,
) -> None:
    """Fits a saliency method to a network and holds it to vinet_bench.methods.SaliencyMethod.

    model: of the kind that the method explains, in evaluation mode and frozen, as the suite hands
    it on. images (B, 1, H, W), B of 2 or more, and pictures of `data`. targets (B,). tolerance:
    how far a picture's map may lie from its map in a batch, as a share of the largest value.
    Raises CheckError.
    """
    before, pictures = dict(_state(model)), images.clone()
    method = factory().fit(model, data)
    _check_info(method.info)
    name = method.info.name
    maps = _whole(name, method.explain(images, targets), images)
    again = _whole(name, method.explain(images, targets), images)
    one_by_one = [slice(i, i + 1) for i in range(len(images))]
    singly = [
        _whole(name, method.explain(images[one], targets[one]), images[one]) for one in one_by_one
    ]
    _check_equal(f"{name}: explained again, a map", maps, again, tolerance)
    alone = torch.cat(singly)
    _check_equal(f"{name}: explained alone and not in a batch, a map", maps, alone, tolerance)
    if not torch.equal(images, pictures):
        raise CheckError(f"{name}: explain changed the pictures that it was given")
    _check_state(name, before, dict(_state(model)))


def _check_info(info: MethodInfo) -> None:
    if info.scaling not in SCALINGS:
        raise CheckError(f"{info.name}: scaling '{info.scaling}' is none of {', '.join(SCALINGS)}")


def _whole(name: str, maps: Tensor, images: Tensor) -> Tensor:
    wanted = (len(images), *images.shape[-2:])
    if tuple(maps.shape) != wanted:
        raise CheckError(f"{name}: maps of shape {tuple(maps.shape)}, not {wanted}")
    if not torch.isfinite(maps).all():
        raise CheckError(f"{name}: a map has values that are not finite")
    return maps.detach().clone()


def _check_equal(what: str, maps: Tensor, others: Tensor, tolerance: float) -> None:
    apart = (maps - others).abs().amax(dim=(1, 2))
    largest = maps.abs().amax(dim=(1, 2)).clamp(min=torch.finfo(maps.dtype).tiny)
    share = (apart / largest).max().item()
    if share > tolerance:
        raise CheckError(f"{what} differs by {share:.1g} of its largest value")


def _state(model: nn.Module) -> Iterator[tuple[str, object]]:
    for name, weight in model.state_dict().items():
        yield f"the weights {name}", weight.clone()
    for name, parameter in model.named_parameters():
        yield f"requires_grad of {name}", parameter.requires_grad
    for name, module in model.named_modules():
        where = name or "the network"
        yield f"the mode of {where}", module.training
        for kind in HOOKS:
            yield f"{kind} of {where}", len(getattr(module, kind))


def _check_state(name: str, before: dict[str, object], after: dict[str, object]) -> None:
    if before.keys() != after.keys():
        raise CheckError(f"{name}: the network has other modules or weights than before")
    for what, old in before.items():
        if not _same(old, after[what]):
            raise CheckError(f"{name}: {what} not left as found")


def _same(old: object, new: object) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return torch.equal(old, new)
    return old == new
