"""What every contribution must hold. Call these from a test of your own."""

import copy
import gc
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError, fault
from vinet_bench.masks import SCALINGS
from vinet_bench.methods import MethodFactory, MethodInfo, SaliencyMethod

TOLERANCE = 1e-5  # what float32 leaves of a map's largest absolute value
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
BATCHES = (3, 8)
CALLS, COSTLY_CALLS = 50, 6
SLACK = 2**15  # bytes by which an interpreter at work may grow


class CheckError(AssertionError):
    """A contribution breaks its contract: one line that says where, by how much, and where to
    look."""


@dataclass(frozen=True)
class MethodCase:
    """A method, and what it is tried on.

    model: of the kind that the method explains, in evaluation mode and frozen, as the suite hands
    it on. images (B, 1, H, W), B of 2 or more, and pictures of `data`. targets (B,). tolerance:
    how far a picture's map may lie from its map in a batch, as a share of the largest value.
    """

    factory: MethodFactory
    model: nn.Module
    images: Tensor
    targets: Tensor
    data: SliceDataset
    tolerance: float = TOLERANCE

    @cached_property
    def info(self) -> MethodInfo:
        return self.factory().info

    @cached_property
    def method(self) -> SaliencyMethod:
        """Fitted once for all checks."""
        return self.factory().fit(self.model, self.data)

    @cached_property
    def alone(self) -> Tensor:
        """Every picture explained by itself, (B, H, W)."""
        return torch.cat([self.maps([row]) for row in range(len(self.images))])

    def maps(self, rows: list[int]) -> Tensor:
        """The maps of these pictures as one batch."""
        return self.explain(self.images[rows], self.targets[rows])

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        """The maps, after their shape, type and values have been looked at."""
        return _whole(self.method.explain(images, targets), images)

    def same(self, what: str, maps: Tensor, others: Tensor, look: str) -> None:
        """Raises CheckError if maps differ by more than the tolerance."""
        apart = _apart(maps, others)
        if apart > self.tolerance:
            raise CheckError(f"{what} differs by {apart:.1g} of its largest value: {look}")


def check_method(
    factory: MethodFactory,
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    data: SliceDataset,
    tolerance: float = TOLERANCE,
) -> None:
    """Fits a saliency method to a network and holds it to vinet_bench.methods.SaliencyMethod.

    The arguments are those of MethodCase. Raises CheckError for the first check that fails.
    """
    case = MethodCase(factory, model, images, targets, data, tolerance)
    for _, failure in method_checks(case):
        if failure:
            raise CheckError(f"{case.info.name}: {failure}")


def method_checks(case: MethodCase) -> Iterator[tuple[str, str]]:
    """Every check in turn: what it holds, and why it does not ('' where it does)."""
    for what, check in METHOD_CHECKS.items():
        yield what, _failure(check, case)


def _failure(check: Callable[[MethodCase], None], case: MethodCase) -> str:
    try:
        check(case)
    except (CheckError, UserError) as error:
        return str(error)
    except Exception as error:
        return fault(error)
    return ""


# -- one function a check


def _check_info(case: MethodCase) -> None:
    info = case.info
    if not (info.name and info.title and info.paper):
        raise CheckError("info lacks a name, a title or a paper")
    if info.scaling not in SCALINGS:
        raise CheckError(f"scaling '{info.scaling}' is none of {', '.join(SCALINGS)}")


def _check_untouched(case: MethodCase) -> None:
    """First of those that explain: another might find what this method has left behind."""
    before, drawn, pictures = dict(_state(case.model)), _random_state(), case.images.clone()
    case.explain(pictures, case.targets)
    if not torch.equal(case.images, pictures):
        raise CheckError("explain changed the pictures that it was given: clone them first")
    _check_state(before, dict(_state(case.model)))
    if drawn != _random_state():
        raise CheckError(
            "the global random state has moved: draw from vinet_bench.seeds.picture_generators"
        )


def _check_map(case: MethodCase) -> None:
    low = case.alone.min().item()
    if case.info.sign == "unsigned" and low < 0:
        raise CheckError(f"declared unsigned, but a map holds {low:.3g}: say sign='signed'")


def _check_again(case: MethodCase) -> None:
    rows = list(range(len(case.images)))
    look = "seed what is random from each picture (vinet_bench.seeds.picture_generators)"
    case.same("explained again, a map", case.maps(rows), case.maps(rows), look)


def _check_batches(case: MethodCase) -> None:
    look = "look for sums, maxima or random numbers that a whole batch shares"
    for size in BATCHES:
        rows = [row % len(case.images) for row in range(size)]
        what = f"explained in a batch of {size} and not alone, a map"
        case.same(what, case.alone[rows], case.maps(rows), look)


def _check_order(case: MethodCase) -> None:
    rows = list(reversed(range(len(case.images))))
    look = "look for one generator that the pictures of a batch share"
    case.same("in another order of the batch, a map", case.alone[rows], case.maps(rows), look)


def _check_constant(case: MethodCase) -> None:
    if case.info.kind != "oracle":  # which knows the data's own pictures alone
        grey = torch.stack([torch.zeros_like(case.images[0]), 0.5 + 0 * case.images[1]])
        try:
            case.explain(grey, case.targets[:2])
        except CheckError as error:
            raise CheckError(f"a constant picture: {error}") from None


def _check_targets(case: MethodCase) -> None:
    others = (case.targets + 1) % case.data.num_classes
    apart = _apart(case.alone, case.explain(case.images, others))
    if case.info.class_specific and apart == 0:
        raise CheckError(
            "another target gives the same map: explain the logit of `targets`, or declare"
            " class_specific=False"
        )
    if not case.info.class_specific and apart > case.tolerance:
        raise CheckError("another target gives another map: declare class_specific=True")


def _check_colour(case: MethodCase) -> None:
    """A VINet has one channel by construction, and an oracle knows the data's pictures alone."""
    if case.info.kind == "oracle" or case.info.explains in ("vinet", "sealed"):
        return
    images = case.images[:2].expand(-1, 3, -1, -1).contiguous()
    method = case.factory().fit(coloured(case.model), case.data)
    try:
        _whole(method.explain(images, case.targets[:2]), images)
    except CheckError as error:
        raise CheckError(f"pictures of 3 channels: {error}; sum or average over them") from None


def _check_memory(case: MethodCase) -> None:
    half = (COSTLY_CALLS if case.info.costly else CALLS) // 2
    # A cache fills once; what is kept from every call grows in both halves.
    tensors, held = _growth(lambda: case.maps([0]), half)
    allowed = SLACK + half * case.images[0, 0].numel()  # a byte a pixel and call
    if tensors >= half or held > allowed:
        raise CheckError(
            f"{half} calls left {tensors} tensors and {held} bytes: look for lists and hooks that"
            " keep what each call makes, and detach what is kept"
        )


METHOD_CHECKS: dict[str, Callable[[MethodCase], None]] = {
    "info: name, paper, scaling": _check_info,
    "network, pictures and random state as found": _check_untouched,
    "maps (B, H, W), of the pictures' type, finite, sign as declared": _check_map,
    "the same when explained again": _check_again,
    "the same alone and in batches of 3 and 8": _check_batches,
    "the same in another order": _check_order,
    "a constant picture gives a defined map": _check_constant,
    "targets matter as declared": _check_targets,
    "1 and 3 channels": _check_colour,
    "no memory kept from call to call": _check_memory,
}


# -- what they share


def _whole(maps: Tensor, images: Tensor) -> Tensor:
    wanted = (len(images), *images.shape[-2:])
    if tuple(maps.shape) != wanted:
        raise CheckError(f"maps of shape {tuple(maps.shape)}, not {wanted}")
    if maps.dtype != images.dtype:
        raise CheckError(f"maps of {maps.dtype} for pictures of {images.dtype}")
    if not torch.isfinite(maps).all():
        raise CheckError("a map has values that are not finite: look for a division by 0")
    return maps.detach().clone()


def _apart(maps: Tensor, others: Tensor) -> float:
    """The largest difference over the pictures, as a share of a map's largest value."""
    apart = (maps - others).abs().amax(dim=(1, 2))
    largest = maps.abs().amax(dim=(1, 2)).clamp(min=torch.finfo(maps.dtype).tiny)
    return (apart / largest).max().item()


def coloured(model: nn.Module) -> nn.Module:
    """A copy whose first convolution takes 3 channels and gives grey pictures the same outputs."""
    model = copy.deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 1:
            layer.weight = nn.Parameter(layer.weight.repeat(1, 3, 1, 1) / 3, requires_grad=False)
            layer.in_channels = 3
            return model
    return model


def _growth(call: Callable[[], object], calls: int) -> tuple[int, int]:
    """By how many tensors, and bytes outside torch, the process grows over so many calls: twice,
    and the smaller of both."""
    call()
    gc.collect()
    gc.freeze()  # a large process would take seconds to count what was there before
    tracemalloc.start()
    try:
        seen = [_held()]
        for _ in range(2):
            for _ in range(calls):
                call()
            seen.append(_held())
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    tensors, other = np.diff(np.array(seen), axis=0).min(axis=0).tolist()
    return tensors, other


def _held() -> tuple[int, int]:
    """The tensors that are alive, and the bytes that Python and numpy hold."""
    gc.collect()
    tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
    return tensors, tracemalloc.get_traced_memory()[0]


def _random_state() -> str:
    numpy = [part.tobytes() if isinstance(part, np.ndarray) else part for part in _numpy_state()]
    return repr((torch.get_rng_state().numpy().tobytes(), random.getstate(), numpy))


def _numpy_state() -> tuple[object, ...]:
    return tuple(np.random.get_state(legacy=True))


def _state(model: nn.Module) -> Iterator[tuple[str, object]]:
    for name, weight in model.state_dict().items():
        yield f"the weights {name}", weight.clone()
    for name, parameter in model.named_parameters():
        yield f"requires_grad of {name}", parameter.requires_grad
        yield f"the gradient of {name}", parameter.grad is None
    for name, module in model.named_modules():
        where = name or "the network"
        yield f"the mode of {where}", module.training
        yield f"attributes of {where}", sorted(vars(module))
        for kind in HOOKS:
            yield f"{kind} of {where}", len(getattr(module, kind))


def _check_state(before: dict[str, object], after: dict[str, object]) -> None:
    if before.keys() != after.keys():
        raise CheckError("the network has other modules or weights than before: work on a copy")
    for what, old in before.items():
        if not _same(old, after[what]):
            raise CheckError(f"{what} not left as found: undo it, or work on a copy")


def _same(old: object, new: object) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return torch.equal(old, new)
    return old == new
