"""LRP's further rules against zennit called by hand, toy values and what they conserve."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from zennit import composites
from zennit.attribution import Gradient
from zennit.core import Composite

from baselines.composites import EPSILON
from baselines.lrp import (
    LRP,
    ExcitationBackprop,
    LRPAlphaBeta,
    LRPEpsilon,
    LRPGamma,
)
from vinet_bench.check_one import example_case
from vinet_bench.methods import SaliencyMethod
from vinet_bench.networks import build_classifier

Method = Callable[[], SaliencyMethod]


def explained(method: SaliencyMethod, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    nothing = example_case(LRP).data.subset(np.arange(0))
    sized = replace(nothing, images=np.zeros((0, *images.shape[-2:]), np.uint8))
    return method.fit(model, sized).explain(images, targets)


def constant(width: int, outputs: int, value: float) -> nn.Linear:
    layer = nn.Linear(width, outputs, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


@pytest.mark.parametrize("method", [LRP, LRPEpsilon, LRPAlphaBeta, ExcitationBackprop])
def test_toy_values(method: Method) -> None:
    model = nn.Sequential(nn.Flatten(), constant(3, 3, 2.0), constant(3, 1, 3.0)).eval()
    image = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    maps = explained(method(), model, image, torch.tensor([0]))
    # The logit is 3 * 3 * 2 * (1 + 2 + 3) = 108, shared out as 1 : 2 : 3.
    expected = torch.tensor([18.0, 36.0, 54.0])
    if method is ExcitationBackprop:
        expected = expected / 108  # it starts from 1, not from the logit
    if method is LRP:
        expected = torch.full((3,), 36.0)  # its first layer shares alike
    torch.testing.assert_close(maps.flatten(), expected, rtol=1e-5, atol=1e-5)


BOX = torch.zeros(1, 1, 1, 1)
BY_HAND: dict[Method, Composite] = {
    LRPGamma: composites.EpsilonGammaBox(low=BOX, high=BOX + 1, epsilon=EPSILON),
    LRPAlphaBeta: composites.EpsilonAlpha2Beta1(epsilon=EPSILON),
    ExcitationBackprop: composites.ExcitationBackprop(),
    LRP: composites.EpsilonPlusFlat(epsilon=EPSILON),
}


@pytest.mark.parametrize("method", BY_HAND)
def test_it_is_the_librarys_relevance(method: Method) -> None:
    case = example_case(method)
    starts = torch.eye(5)[case.targets]
    if method is not ExcitationBackprop:
        starts = starts * case.model(case.images)
    with Gradient(case.model, BY_HAND[method]) as attributor:
        _, expected = attributor(case.images.clone(), starts)
    maps = case.explain(case.images, case.targets)
    torch.testing.assert_close(maps, expected.detach()[:, 0], rtol=1e-5, atol=1e-9)
    assert maps.abs().max() > 0


def without_biases() -> nn.Module:
    model = build_classifier("vgg16", 5, 0, width=0.25)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("method", "tolerance"),
    # The stabilisers' share is lost; a unit that nothing speaks against takes alpha's 2 whole
    # (0.9 % here, in float64 with a stabiliser of 1e-12 as well).
    [(LRP, 1e-3), (LRPEpsilon, 1e-2), (LRPAlphaBeta, 2e-2), (LRPGamma, 1e-3)],
)
def test_relevance_is_conserved_without_biases(method: Method, tolerance: float) -> None:
    case, model = example_case(method), without_biases()
    maps = explained(method(), model, case.images, case.targets)
    logits = model(case.images).gather(1, case.targets[:, None])[:, 0]
    torch.testing.assert_close(maps.sum(dim=(1, 2)), logits, rtol=tolerance, atol=0)


def test_excitation_adds_up_to_one_and_is_never_negative() -> None:
    case = example_case(ExcitationBackprop)
    maps = explained(ExcitationBackprop(), without_biases(), case.images, case.targets)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(len(maps)), rtol=1e-3, atol=0)
    assert maps.min() >= 0
