"""What the paper says fails, and the released code's places: by hand, and against the paper's."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from vinet_bench.ablations import (
    absolute_noise,
    mean_noise,
    multiply,
    nothing_destroyed,
    released_points,
    rules_of,
    sigmoid_map,
)
from vinet_bench.errors import CellError
from vinet_bench.networks import build_classifier, build_importance
from vinet_bench.places import downsampling_points
from vinet_bench.settings import VINetTraining
from vinet_bench.vinet import VINet, destroy, normalized_softplus

P = torch.tensor([[[[0.0, 10.0], [20.0, 40.0]]]])
M = torch.tensor([[[[1.0, 0.5], [0.25, 0.0]]]])
N = torch.tensor([[[[0.5, 0.5], [0.0, 0.75]]]])
EXAMPLE = torch.zeros(1, 1, 64, 64)


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        (multiply, [0.0, 5.0, 5.0, 0.0]),
        (absolute_noise, [0.0, 5.25, 5.0, 0.75]),
        (mean_noise, [0.0, 15.0, 20.0, 20.0]),  # 40 * 1/2 takes the place
        (nothing_destroyed, [0.0, 10.0, 20.0, 40.0]),
        (destroy, [0.0, 15.0, 5.0, 30.0]),
    ],
)
def test_forms_by_hand(form: object, wanted: list[float]) -> None:
    assert callable(form)
    found: Tensor = form(P, M, N)
    torch.testing.assert_close(found.flatten(), torch.tensor(wanted))
    assert form(P.bfloat16(), M, N).dtype == torch.bfloat16


def test_a_map_of_another_size_is_resized() -> None:
    small = torch.full((1, 1, 1, 1), 0.5)
    for form in (multiply, absolute_noise, mean_noise):
        assert torch.equal(form(P, small, N), form(P, torch.full_like(P, 0.5), N))


def test_times_a_small_map_removes_nothing_and_absolute_noise_is_outgrown() -> None:
    """Sec. III-C: the picture comes back by a factor; noise of the picture's scale stays."""
    generator = torch.Generator().manual_seed(0)
    picture, noise = (torch.rand(1, 1, 16, 16, generator=generator) for _ in range(2))
    even = torch.full_like(picture, 0.01)
    torch.testing.assert_close(multiply(picture, even, noise) * 100, picture)
    grown = 1e6 * picture

    def alike(a: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([a.flatten(), picture.flatten()]))[0, 1])

    assert alike(absolute_noise(grown, even, noise)) > 0.999
    assert abs(alike(destroy(grown, even, noise))) < 0.3


def test_sigmoid_may_be_empty_and_eq_1_may_not() -> None:
    low = torch.full((2, 1, 4, 4), -200.0)
    assert sigmoid_map(low).max() == 0
    assert normalized_softplus(low).max() == 1
    assert sigmoid_map(torch.zeros(1, 1, 1, 2), shift=0.0).tolist() == [[[[0.5, 0.5]]]]
    assert sigmoid_map(torch.tensor([[[[-4.0]]]]), shift=4.0).item() == 0.5


# ---- places


@lru_cache
def vinet(destruction: str) -> VINet:
    wanted = VINetTraining.model_validate({"destruction": destruction})
    return VINet(
        build_importance("unet", seed=0, width=0.25),
        build_classifier("resnet18", 5, seed=0, width=0.25),
        EXAMPLE,
        multi_scale=destruction != "single",
        rules=rules_of(wanted),
    )


def test_the_released_codes_four_places() -> None:
    places = {name: [p.module for p in vinet(name).points] for name in ("multi", "released")}
    assert places["released"] == ["conv1", "layer1", "layer2"]  # and the input, as always
    assert len(places["multi"]) == 5
    assert [p.size for p in vinet("released").points] == [(32, 32), (16, 16), (8, 8)]
    assert vinet("single").points == ()


def test_the_released_codes_places_are_a_resnets() -> None:
    with pytest.raises(CellError, match="'conv1'"):
        released_points(build_classifier("vgg16", 5, seed=0, width=0.1), EXAMPLE)


def test_rules_are_the_papers_unless_asked() -> None:
    paper = rules_of(VINetTraining())
    assert paper == (normalized_softplus, destroy, downsampling_points)
    changed = {"activation": "sigmoid", "replace": "zero", "destruction": "released"}
    for name, value in changed.items():
        rules = rules_of(VINetTraining.model_validate({name: value}))
        assert sum(a is not b for a, b in zip(rules, paper, strict=True)) == 1
    assert rules_of(VINetTraining(replace="absolute-noise")).destruction is absolute_noise


@torch.no_grad()
def test_a_vinet_follows_its_rules() -> None:
    model = vinet("single").eval()
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    old = model.rules
    try:
        model.rules = old._replace(activation=sigmoid_map, destruction=nothing_destroyed)
        output = model(images, generator)
        torch.testing.assert_close(output.map, model.importance(images).sigmoid())
        torch.testing.assert_close(output.logits, model.classifier(images))
    finally:
        model.rules = old
    assert not torch.allclose(model(images, generator).logits, output.logits)
