"""The rules of LRP and its kin, layer by layer: zennit's composites by the method's name."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from zennit.composites import (
    EpsilonAlpha2Beta1,
    EpsilonGammaBox,
    EpsilonPlusFlat,
    ExcitationBackprop,
    LayerMapComposite,
)
from zennit.core import Composite
from zennit.layer import Sum
from zennit.rules import Epsilon, Norm, Pass
from zennit.types import Activation, AvgPool, Convolution, Linear

from baselines.canonical import canonizers

EPSILON = 1e-6


def _epsilon_everywhere() -> Composite:
    rule = Epsilon(epsilon=EPSILON)
    return LayerMapComposite(
        [
            *((Activation, Pass()), (Sum, Norm()), (AvgPool, Norm())),
            *((Convolution, rule), (Linear, rule)),
        ],
        canonizers=canonizers(),
    )


def _gamma_box() -> Composite:
    """Pictures lie in [0, 1]."""
    low = torch.zeros(1, 1, 1, 1)
    high = torch.ones_like(low)
    return EpsilonGammaBox(low=low, high=high, epsilon=EPSILON, canonizers=canonizers())


def _of_library(composite: type[Composite], **options: float) -> Composite:
    return composite(canonizers=canonizers(), **options)


COMPOSITES: Mapping[str, Callable[[], Composite]] = {
    "lrp": partial(_of_library, EpsilonPlusFlat, epsilon=EPSILON),
    "lrp-epsilon": _epsilon_everywhere,
    "lrp-gamma": _gamma_box,
    "lrp-alpha-beta": partial(_of_library, EpsilonAlpha2Beta1, epsilon=EPSILON),
    "excitation-backprop": partial(_of_library, ExcitationBackprop),
}
