"""VINet (Gu et al. 2020, doi 10.1109/TMM.2020.2971170), Eq. 1 to 8 and nothing else."""

import copy
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vinet_bench.hooks import evaluating, output_hooks

DELTA = 1e-8  # d of Eq. 3


def normalized_softplus(m0: Tensor, shift: float = 0.0) -> Tensor:
    """Importance from the last convolution's output (Eq. 1, 2): softplus over its maximum.

    m0 (B, 1, H, W) -> (B, 1, H, W) float32 in (0, 1], whose maximum is 1 in every sample.
    """
    x = m0.float() + shift
    # In logarithms, since softplus underflows where M0 is far below 0 and 0 / 0 would follow;
    # there ln(softplus(x)) is x to within float32.
    low = -20.0
    log = torch.where(x > low, F.softplus(x.clamp(min=low)).log(), x)
    return (log - log.amax(dim=(1, 2, 3), keepdim=True)).exp()


def destroy(p: Tensor, m: Tensor, noise: Tensor, antialias: bool = False) -> Tensor:
    """Irrelevant-feature destruction (Eq. 3 to 5, collapsed to one pass).

    p (B, C, h, w) features, m (B, 1, H, W) importance, noise (B, C, h, w) from U[0, 1)
    -> (B, C, h, w) in p's type. Computed in float32 also inside autocast.
    """
    with torch.autocast(p.device.type, enabled=False):
        x = p.float()
        m = resize_map(m.float(), x.shape[-2:], antialias)
        low = x.amin(dim=(2, 3), keepdim=True)
        reach = x.amax(dim=(2, 3), keepdim=True) - low + DELTA
        return torch.lerp(torch.addcmul(low, reach, noise), x, m).to(p.dtype)


def resize_map(m: Tensor, size: Sequence[int], antialias: bool = False) -> Tensor:
    """The map at another size, bilinear. (B, 1, H, W) -> (B, 1, *size)."""
    if tuple(m.shape[-2:]) == tuple(size):
        return m
    return F.interpolate(
        m, size=tuple(size), mode="bilinear", align_corners=False, antialias=antialias
    )


class Losses(NamedTuple):
    """The total of Eq. 6 and its two parts, each a scalar."""

    total: Tensor
    classification: Tensor
    importance: Tensor


def vinet_loss(logits: Tensor, labels: Tensor, m: Tensor, alpha: float = 0.25) -> Losses:
    """Cross entropy plus alpha times the mean of the map (Eq. 6 to 8).

    logits (B, K), labels (B,), m (B, 1, H, W).
    """
    classification = F.cross_entropy(logits.float(), labels)
    importance = m.mean()
    return Losses(classification + alpha * importance, classification, importance)


def uniform_noise(like: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
    """N of Eq. 4, float32, fresh for every element; one generator, or one for each sample."""
    if isinstance(generators, Generator):
        return torch.rand(like.shape, generator=generators, device=like.device)
    draws = [torch.rand(like.shape[1:], generator=g, device=like.device) for g in generators]
    return torch.stack(draws)


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
            return output[:, self.prefix :].transpose(1, 2).unflatten(2, self.size)
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
    twice as high, and twice as wide. A network built for one size gets the others through its
    method set_input_size(), if it has one, on a copy. Raises ValueError where all of the picture
    flows through an output whose layout this does not tell.
    """
    seen, source, logits = _traced(model, example)
    probes = _probes(model, example)
    # By node, so that of the modules that hand the same tensor on, the outermost, last, stands.
    outermost = {node: place for place, (_, node) in seen.items()}
    points: list[Point] = []
    size = (example.shape[2], example.shape[3])
    for node, place in outermost.items():
        shapes = [seen[place][0], *(probe.get(place) for probe in probes)]
        if len(seen[place][0]) < 3 or len(set(shapes)) == 1:
            continue
        point = _point(place, shapes, example.shape[2] / example.shape[3])
        if point is not None and not _dropped(point.size, size):
            continue
        if _cuts(logits.grad_fn, source.grad_fn, node):
            if point is None:
                raise ValueError(_LAYOUT.format(place[0], shapes[0]))
            points.append(point)
            size = point.size
    return tuple(points)


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
            model.set_input_size(tuple(images.shape[-2:]))
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
    """Of p + h w tokens, p + h' w if higher, p + h w' if wider and p + h' w' if both: p, h and w."""
    n, higher, wider, both = counts
    down, right, corner = higher - n, wider - n, both - higher - wider + n
    if corner <= 0 or down * right % corner:
        return None
    tokens = down * right // corner  # (h' - h) w times h (w' - w), over (h' - h) (w' - w)
    height = max(1, round(math.sqrt(tokens * aspect)))
    if tokens % height or tokens > n:
        return None
    return Point(*place, (height, tokens // height), "BNC", prefix=n - tokens)


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


class VINetOutput(NamedTuple):
    """logits (B, K) and the importance map M (B, 1, H, W) in (0, 1]."""

    logits: Tensor
    map: Tensor


class VINet(nn.Module):
    """An importance network and a classifier trained together (Gu et al. 2020, Sec. III).

    importance: (B, C, H, W) -> (B, 1, H, W). classifier: (B, C, H, W) -> (B, K), any; where it
    lowers the resolution is found with one forward pass of `example`.
    multi_scale: destruction acts on the input and at each of these places; otherwise on the input.
    shift: added to M0 before Eq. 1 (the authors' released code adds 20, so that training starts
    from "keep everything"; the paper does not say so).
    """

    def __init__(
        self,
        importance: nn.Module,
        classifier: nn.Module,
        example: Tensor,
        multi_scale: bool = True,
        shift: float = 0.0,
        antialias: bool = False,
    ) -> None:
        super().__init__()
        self.importance = importance
        self.classifier = classifier
        self.shift = shift
        self.antialias = antialias
        self.points = downsampling_points(classifier, example) if multi_scale else ()

    def importance_map(self, images: Tensor) -> Tensor:
        """M of Eq. 1. (B, C, H, W) -> (B, 1, H, W)."""
        return normalized_softplus(self.importance(images), self.shift)

    def forward(self, images: Tensor, generators: Generator | Sequence[Generator]) -> VINetOutput:
        """Noise is on in training and at test time, as in the released code, so it needs a seed."""
        m = self.importance_map(images)
        return VINetOutput(self.classify(images, m, generators), m)

    def classify(
        self, images: Tensor, m: Tensor, generators: Generator | Sequence[Generator]
    ) -> Tensor:
        """The classifier's logits (B, K) with everything that m calls irrelevant destroyed."""
        places = {(p.module, p.call): p for p in self.points}

        def destroyed(features: Tensor) -> Tensor:
            return destroy(features, m, uniform_noise(features, generators), self.antialias)

        def hook(name: str, call: int, output: Any) -> Any:
            if (point := places.get((name, call))) is None:
                return None
            return point.from_maps(destroyed(point.to_maps(output)), output)

        with output_hooks(self.classifier, hook, [p.module for p in self.points]):
            logits: Tensor = self.classifier(destroyed(images))
        return logits
