"""Layer-wise relevance propagation (Bach et al. 2015), by zennit."""

from torch import Tensor
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlusFlat, LayerMapComposite
from zennit.core import Composite
from zennit.rules import Epsilon, Norm, Pass
from zennit.types import Activation, AvgPool, Convolution, Linear

from baselines.base import NetworkMethod, one_hot
from vinet_bench.methods import MethodInfo

EPSILON = 1e-6


class _ZennitMethod(NetworkMethod):
    """Relevance from the class's logit down to the pixels, by a composite's rules."""

    def composite(self) -> Composite:
        raise TypeError(f"{type(self).__name__} names no composite")

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        def start(logits: Tensor) -> Tensor:
            return logits * one_hot(logits, targets)

        with Gradient(self.model, self.composite()) as attributor:
            _, relevance = attributor(images.clone(), start)
        total: Tensor = relevance.detach().sum(dim=1)
        return total


class LRP(_ZennitMethod):
    """LRP with the composite EpsilonPlusFlat: flat in the first layer, z+ in the other
    convolutions, epsilon (1e-6) in the linear layer (Montavon et al. 2019)."""

    info = MethodInfo(
        name="lrp",
        title="LRP",
        paper="Bach et al. 2015, doi 10.1371/journal.pone.0130140",
        variant="EpsilonPlusFlat: flat in the first layer, z+ in the other convolutions,"
        " epsilon in the linear layer",
    )

    def composite(self) -> Composite:
        return EpsilonPlusFlat(epsilon=EPSILON)


class LRPEpsilon(_ZennitMethod):
    """LRP with the epsilon rule (1e-6) in every layer, close to input x gradient."""

    info = MethodInfo(
        name="lrp-epsilon",
        title="LRP (epsilon)",
        paper="Bach et al. 2015, doi 10.1371/journal.pone.0130140",
        variant="epsilon 1e-6 in every layer",
    )

    def composite(self) -> Composite:
        rule = Epsilon(epsilon=EPSILON)
        return LayerMapComposite(
            [(Activation, Pass()), (AvgPool, Norm()), (Convolution, rule), (Linear, rule)]
        )
