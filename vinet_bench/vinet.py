"""VINet (Gu et al. 2020, doi 10.1109/TMM.2020.2971170), Eq. 1 to 8 and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vinet_bench.destruction import Destruction
from vinet_bench.hooks import output_hooks
from vinet_bench.places import Point, downsampling_points


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
        m = resize_map(m.float(), p.shape[-2:], antialias)
        destroyed: Tensor = Destruction.apply(p, m, noise)
        return destroyed


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


class VINetOutput(NamedTuple):
    """logits (B, K) and the importance map M (B, 1, H, W) in (0, 1]."""

    logits: Tensor
    map: Tensor


class Rules(NamedTuple):
    """Eq. 1, Eq. 3 to 5 and where they act; anything else is an ablation (ablations.py)."""

    activation: Callable[[Tensor, float], Tensor] = normalized_softplus
    destruction: Callable[[Tensor, Tensor, Tensor, bool], Tensor] = destroy
    find_points: Callable[[nn.Module, Tensor], tuple[Point, ...]] = downsampling_points


THE_PAPERS = Rules()


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
        rules: Rules = THE_PAPERS,
    ) -> None:
        super().__init__()
        self.importance = importance
        self.classifier = classifier
        self.shift = shift
        self.antialias = antialias
        self.rules = rules
        self.points = rules.find_points(classifier, example) if multi_scale else ()

    def importance_map(self, images: Tensor) -> Tensor:
        """M of Eq. 1. (B, C, H, W) -> (B, 1, H, W)."""
        return self.rules.activation(self.importance(images), self.shift)

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
            noise = uniform_noise(features, generators)
            return self.rules.destruction(features, m, noise, self.antialias)

        def hook(name: str, call: int, output: Any) -> Any:
            if (point := places.get((name, call))) is None:
                return None
            return point.from_maps(destroyed(point.to_maps(output)), output)

        with output_hooks(self.classifier, hook, [p.module for p in self.points]):
            logits: Tensor = self.classifier(destroyed(images))
        return logits
