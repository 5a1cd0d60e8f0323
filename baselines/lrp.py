"""Layer-wise relevance propagation (Bach et al. 2015) and its kin, by zennit's rules.

The rules are imported where they are used: that takes seconds, and `list methods` needs none.
"""

from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

from baselines.base import NetworkMethod, one_hot
from baselines.operations import RULES, check_rules
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.methods import MethodInfo

if TYPE_CHECKING:
    from zennit.core import Composite

BACH = "Bach et al. 2015, doi 10.1371/journal.pone.0130140"


class _ZennitMethod(NetworkMethod):
    """Relevance from the class's output down to the pixels, by a composite's rules.

    A canonical network computes the same with what rules exist for: see baselines.canonical.
    """

    info: MethodInfo

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        from baselines.canonical import canonical

        with canonical(model, data.size) as network:
            check_rules(network, data.size, RULES)
        return super().fit(model, data)

    def composite(self) -> "Composite":
        """Fresh rules for each layer, with the canonizers."""
        from baselines.composites import COMPOSITES

        return COMPOSITES[self.info.name]()

    def start(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The relevance of the outputs: the class's logit. (B, K), (B,) -> (B, K)."""
        return logits * one_hot(logits, targets)

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        from zennit.attribution import Gradient

        from baselines.relevance import sparing

        with Gradient(self.model, sparing(self.composite())) as attributor:
            _, relevance = attributor(images.clone(), lambda logits: self.start(logits, targets))
        total: Tensor = relevance.detach().sum(dim=1)
        return total


class LRP(_ZennitMethod):
    """LRP with the composite EpsilonPlusFlat: flat in the first layer, z+ in the other
    convolutions, epsilon (1e-6) in the linear layer (Montavon et al. 2019)."""

    info = MethodInfo(
        name="lrp",
        title="LRP",
        paper=BACH,
        variant="EpsilonPlusFlat: flat in the first layer, z+ in the other convolutions,"
        " epsilon in the linear layer",
        backwards=1,
    )


class LRPEpsilon(_ZennitMethod):
    """LRP with the epsilon rule (1e-6) in every layer, close to input x gradient."""

    info = MethodInfo(
        name="lrp-epsilon",
        title="LRP (epsilon)",
        paper=BACH,
        variant="epsilon 1e-6 in every layer",
        backwards=1,
    )


class LRPGamma(_ZennitMethod):
    """LRP with the composite EpsilonGammaBox: z-box over [0, 1] in the first layer, gamma (0.25)
    in the other convolutions, epsilon (1e-6) in the linear layer."""

    info = MethodInfo(
        name="lrp-gamma",
        title="LRP (gamma)",
        paper="Montavon et al. 2019, doi 10.1007/978-3-030-28954-6_10",
        variant="EpsilonGammaBox: z-box [0, 1] in the first layer, gamma 0.25 in the other"
        " convolutions, epsilon in the linear layer",
        backwards=1,
    )


class LRPAlphaBeta(_ZennitMethod):
    """LRP with alpha 2, beta 1 in the convolutions and epsilon (1e-6) in the linear layer."""

    info = MethodInfo(
        name="lrp-alpha-beta",
        title="LRP (alpha 2, beta 1)",
        paper=BACH,
        variant="alpha 2, beta 1 in the convolutions, epsilon in the linear layer",
        backwards=1,
    )


class ExcitationBackprop(_ZennitMethod):
    """The class's probability mass of 1, passed down over positive weights alone."""

    info = MethodInfo(
        name="excitation-backprop",
        title="Excitation backprop",
        paper="Zhang et al. 2016, arXiv 1608.00507",
        variant="not contrastive, down to the pixels",
        sign="unsigned",
        backwards=1,
    )

    def start(self, logits: Tensor, targets: Tensor) -> Tensor:
        return one_hot(logits, targets)
