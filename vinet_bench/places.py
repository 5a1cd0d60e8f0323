"""Where a classifier lowers its resolution, and what the axes of its maps are there."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vinet_bench.hooks import evaluating, output_hooks


@dataclass(frozen=True)
class Point:
    """A place in a network: a module's output, at its n-th call within one forward pass.

    size: height and width of the maps. layout: what the axes are, BCHW, BHWC, or BNC for tokens
    (row by row); `prefix` tokens (a class token, registers) stand before those of the picture.
    """

    module: str
    call: int
    size: tuple[int, int]
    layout: str = "BCHW"
    prefix: int = 0

    def to_maps(self, output: Tensor) -> Tensor:
        """The maps in the module's output, (B, C, h, w)."""
        if self.layout == "BHWC":
            return output.permute(0, 3, 1, 2)
        if self.layout == "BNC":
            tokens = output[:, self.prefix :].transpose(1, 2)
            return tokens.reshape(*tokens.shape[:2], *self.size)
        return output

    def from_maps(self, maps: Tensor, output: Tensor) -> Tensor:
        """The module's output with other maps (B, C, h, w); prefix tokens stay as they are."""
        if self.layout == "BHWC":
            return maps.permute(0, 2, 3, 1)
        if self.layout == "BNC":
            return torch.cat([output[:, : self.prefix], maps.flatten(2).transpose(1, 2)], dim=1)
        return maps


Place = tuple[str, int]  # a module and the number of its call
Shape = tuple[int, ...]
Seen = dict[Place, tuple[Shape, Any]]  # outputs' shapes and autograd nodes


def downsampling_points(model: nn.Module, example: Tensor) -> tuple[Point, ...]:
    """The places in a classifier at which the resolution has dropped, found by forward passes.

    A place counts only if **every** path from the input to the logits goes through it: after the
    residual sum or the concatenation, never inside a branch, whose skip would carry the destroyed
    information on. Maps of 1 x 1 (after global pooling) hold no places and are left alone; so are
    outputs that do not follow the picture's size. example (B, C, H, W), only its shape matters.

    Which axes are height and width is seen, not guessed: those that grow when the picture is made
    twice as high, and twice as wide; tokens must stand row by row, which gradients show. A network
    built for one size gets the others through its method set_input_size(), if it has one, on a
    copy. Raises ValueError where all of the picture flows through an output whose layout this
    does not tell.
    """
    seen, source, logits = _traced(model, example)
    points: list[Point] = []
    size = (example.shape[2], example.shape[3])
    for node, place, point in _spatial(model, example, seen):
        if point is not None and not _dropped(point.size, size):
            continue
        if _cuts(logits.grad_fn, source.grad_fn, node):
            if point is None or not row_by_row(model, example, point):
                raise ValueError(_LAYOUT.format(place[0], seen[place][0]))
            points.append(point)
            size = point.size
    return tuple(points)


def passages(model: nn.Module, example: Tensor) -> tuple[Point, ...]:
    """Every place through which all of the picture flows as maps, in the order of a forward pass.

    1 x 1 too, where it follows the picture's size; a place whose layout is not told is left out.
    """
    seen, source, logits = _traced(model, example)
    return tuple(
        point
        for node, _, point in _spatial(model, example, seen)
        if point is not None and _cuts(logits.grad_fn, source.grad_fn, node)
    )


def _spatial(
    model: nn.Module, example: Tensor, seen: Seen
) -> Iterator[tuple[Any, Place, Point | None]]:
    """The outputs that follow the picture's size, and their points where the layout is told."""
    probes = _probes(model, example)
    for node, place in _makers(seen).items():
        shapes = [seen[place][0], *(probe.get(place) for probe in probes)]
        if len(seen[place][0]) >= 3 and len(set(shapes)) > 1:
            yield node, place, _point(place, shapes, example.shape[2] / example.shape[3])


_LAYOUT = (
    "cannot tell height and width in the output of the classifier's module '{}', {}, from pictures"
    " of other sizes: destroy the input only (vinet.destruction=single), or take another classifier"
)


def _traced(model: nn.Module, example: Tensor) -> tuple[Seen, Tensor, Tensor]:
    """All outputs of one pass, its input and its logits."""
    seen: Seen = {}

    def note(name: str, call: int, output: Any) -> None:
        # The node now: a later in-place operation would give the tensor another.
        if isinstance(output, Tensor) and output.grad_fn is not None:
            seen[name, call] = (tuple(output.shape), output.grad_fn)

    names = [name for name, _ in model.named_modules() if name]
    with torch.enable_grad(), evaluating(model), output_hooks(model, note, names):
        # The clone gives the input a graph node of its own, told from the parameters'.
        source = example.detach().requires_grad_().clone()
        logits: Tensor = model(source)
    return seen, source, logits


def _makers(seen: Seen) -> dict[Any, Place]:
    """For each tensor, by its node, the outermost module that makes it.

    That is the first one to hand it on, or one around that; a later one (an Identity in the next
    block's skip, say) hands it on to some of its readers only.
    """
    makers: dict[Any, Place] = {}
    for (name, call), (_, node) in seen.items():
        made = makers.get(node)
        if made is None or made[0].startswith(f"{name}."):
            makers[node] = (name, call)
    return makers


def _probes(model: nn.Module, example: Tensor) -> list[dict[Place, Shape]]:
    """The outputs' shapes for pictures twice as high, twice as wide, and both."""
    height, width = example.shape[-2:]
    sizes = ((2 * height, width), (height, 2 * width), (2 * height, 2 * width))
    return [_shapes(model, example.new_zeros(*example.shape[:2], *size)) for size in sizes]


@torch.no_grad()
def _shapes(model: nn.Module, images: Tensor) -> dict[Place, Shape]:
    """The outputs' shapes, as far as the network goes with pictures of this size."""
    shapes: dict[Place, Shape] = {}

    def note(name: str, call: int, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[name, call] = tuple(output.shape)

    # What a network raises for a size that it refuses is any kind of error.
    with suppress(Exception), torch.random.fork_rng(devices=[]):
        if hasattr(model, "set_input_size"):
            model = copy.deepcopy(model)
            cast(Any, model).set_input_size(tuple(images.shape[-2:]))
        names = [name for name, _ in model.named_modules() if name]
        with evaluating(model), output_hooks(model, note, names):
            model(images)
    return shapes


def _point(place: Place, shapes: Sequence[Shape | None], aspect: float) -> Point | None:
    """The place with its layout, or None if the four shapes do not tell one that we know."""
    shape, higher, wider, both = shapes
    if shape is None or higher is None or wider is None:
        return None
    match len(shape), _grown(shape, higher), _grown(shape, wider):
        case 4, [2], [3]:
            return Point(*place, (shape[2], shape[3]))
        case 4, [1], [2]:
            return Point(*place, (shape[1], shape[2]), "BHWC")
        case 3, [1], [1] if both is not None:
            return _tokens(place, [s[1] for s in (shape, higher, wider, both)], aspect)
    return None


def _grown(shape: Shape, other: Shape) -> list[int]:
    if len(shape) != len(other):
        return []
    return [axis for axis in range(len(shape)) if shape[axis] != other[axis]]


def _tokens(place: Place, counts: Sequence[int], aspect: float) -> Point | None:
    """p, h and w from p + h w tokens: p + h' w if higher, p + h w' if wider, p + h' w' if both."""
    n, higher, wider, both = counts
    down, right, corner = higher - n, wider - n, both - higher - wider + n
    if corner <= 0 or down * right % corner:
        return None
    tokens = down * right // corner  # (h' - h) w times h (w' - w), over (h' - h) (w' - w)
    height = max(1, round(math.sqrt(tokens * aspect)))
    if tokens % height or tokens > n:
        return None
    return Point(*place, (height, tokens // height), "BNC", prefix=n - tokens)


def row_by_row(model: nn.Module, example: Tensor, point: Point) -> bool:
    """Whether tokens depend most on the pixels of their own cell when they are read row by row;
    True for what is no tokens.

    Some networks sort their tokens (Hiera by mask units); read by rows they would be destroyed at
    the wrong places. Where the order is right the dependence is sharp also through attention.
    """
    if point.layout != "BNC":
        return True
    outputs: list[Tensor] = []
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(1, *example.shape[1:], generator=draws).to(example.device)
    with torch.enable_grad(), evaluating(model):
        with output_hooks(model, lambda _n, _c, output: outputs.append(output), [point.module]):
            model(images.requires_grad_())
        tokens = outputs[point.call][0, point.prefix :]
        scores = tokens @ torch.randn(tokens.shape[1], generator=draws).to(tokens)
        chosen = range(0, len(scores), -(-len(scores) // 16))
        pulls = [torch.autograd.grad(scores[i], images, retain_graph=True)[0] for i in chosen]
    cells = F.adaptive_avg_pool2d(torch.cat(pulls).square().sum(1), point.size).flatten(1)
    own = cells.argmax(dim=1).cpu() == torch.tensor(chosen)
    return own.float().mean().item() >= 0.75


def _dropped(size: tuple[int, int], before: tuple[int, int]) -> bool:
    # An unpadded convolution crops a pixel or two; that is no drop in resolution.
    return size != (1, 1) and min(size[0] / before[0], size[1] / before[1]) < 0.75


def _cuts(sink: Any, source: Any, node: Any) -> bool:
    """True if no path of the autograd graph leads from sink to source without node."""
    stack, visited = [sink], {node, None}
    while stack:
        current = stack.pop()
        if current in visited:
            continue
        if current is source:
            return False
        visited.add(current)
        stack.extend(parent for parent, _ in current.next_functions)
    return True
