"""Relevance without what zennit's hooks drop: the same bits, with fewer passes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from zennit.attribution import Gradient
from zennit.composites import LayerMapComposite
from zennit.core import Composite
from zennit.rules import ReLUGuidedBackprop

from baselines.lrp import LRP, ExcitationBackprop, LRPAlphaBeta, LRPEpsilon, LRPGamma
from baselines.relevance import sparing
from vinet_bench.networks import build_classifier

METHODS = (LRP, LRPEpsilon, LRPGamma, LRPAlphaBeta, ExcitationBackprop)


def without_relus() -> nn.Module:
    """Layers that are shown values below 0 as well, with biases."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3, stride=2), nn.AvgPool2d(2), nn.Conv2d(6, 4, 3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def residual() -> nn.Module:
    """With BatchNorm to be folded, sums, and values of both signs that are summed."""
    return build_classifier("resnet18", 5, 0, width=0.25)


def chain() -> nn.Module:
    return build_classifier("vgg16", 5, 0, width=0.25)


def pictures() -> Tensor:
    return torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1)) - 0.2


def relevance(model: nn.Module, composite: Composite) -> Tensor:
    with Gradient(model, composite) as attributor:
        _, found = attributor(pictures(), torch.eye(5)[:3])
    kept: Tensor = found.detach()
    return kept


@pytest.mark.parametrize("network", [without_relus, residual, chain])
@pytest.mark.parametrize("method", METHODS)
def test_every_bit_is_zennits(method: type[LRP], network: Callable[[], nn.Module]) -> None:
    model = network().eval().requires_grad_(False)
    expected = relevance(model, method().composite())
    assert torch.equal(relevance(model, sparing(method().composite())), expected)
    assert expected.abs().max() > 0


def convolutions(model: nn.Module, composite: Composite) -> int:
    """Passes through convolutions, forwards and backwards."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        relevance(model, composite)
    wanted = ("aten::convolution", "aten::convolution_backward")
    return sum(event.count for event in seen.key_averages() if event.key in wanted)


def test_a_layer_behind_a_relu_takes_three_passes() -> None:
    model = chain().eval().requires_grad_(False)
    layers = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    # Forward, forward by the rule, and back.
    assert convolutions(model, sparing(LRP().composite())) == 3 * layers
    assert convolutions(model, LRP().composite()) > 5 * layers


def test_the_network_is_as_it_was_afterwards() -> None:
    model = residual().eval().requires_grad_(False)
    before = model(pictures())
    relevance(model, sparing(LRP().composite()))
    assert torch.equal(model(pictures()), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_rule_of_another_kind_is_refused() -> None:
    composite = LayerMapComposite([((nn.ReLU,), ReLUGuidedBackprop())])
    with pytest.raises(TypeError, match="ReLUGuidedBackprop"):
        relevance(chain(), sparing(composite))
