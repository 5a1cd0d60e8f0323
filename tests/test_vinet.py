"""Eq. 1 to 8, and that destruction leaves no way around itself."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
import torchvision
from torch import Generator, Tensor, nn

from vinet_bench.destruction import CELLS, DELTA
from vinet_bench.hooks import output_hooks
from vinet_bench.networks import build_classifier, build_importance, he_initialised
from vinet_bench.places import Point, downsampling_points
from vinet_bench.seeds import generator, picture_generators
from vinet_bench.vinet import (
    VINet,
    destroy,
    normalized_softplus,
    resize_map,
    uniform_noise,
    vinet_loss,
)

# softplus of these is 1, 2, 3 and 4: ln(e - 1), ln(e^2 - 1), ...
ONE_TO_FOUR = torch.tensor([[[[0.5413249, 1.8545865], [2.9489283, 3.9815149]]]])


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=seeded(seed))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


def three_steps(p: Tensor, m: Tensor, noise: Tensor) -> Tensor:
    """Eq. 3 to 5 as they stand in the paper."""
    low, high = p.amin(dim=(2, 3), keepdim=True), p.amax(dim=(2, 3), keepdim=True)
    unit = (p - low) / (high - low + DELTA)
    mixed = unit * m + noise * (1 - m)
    return low + (high - low + DELTA) * mixed


# -- Eq. 1 and 2


def test_softplus_over_its_maximum_by_hand() -> None:
    expected = torch.tensor([[[[0.25, 0.5], [0.75, 1.0]]]])
    torch.testing.assert_close(normalized_softplus(ONE_TO_FOUR), expected)


def test_shift_is_added_before_the_softplus() -> None:
    expected = torch.tensor([[[[0.25, 0.5], [0.75, 1.0]]]])
    torch.testing.assert_close(
        normalized_softplus(ONE_TO_FOUR - 20, shift=20), expected, atol=1e-5, rtol=0
    )
    assert normalized_softplus(ONE_TO_FOUR, shift=20).min() > 0.85  # "keep everything"


def test_the_maximum_is_one_in_every_sample() -> None:
    m = normalized_softplus(randn(5, 1, 6, 7) * torch.logspace(-2, 1, 5)[:, None, None, None])
    assert torch.equal(m.amax(dim=(1, 2, 3)), torch.ones(5))
    assert (m > 0).all()


@pytest.mark.parametrize("shift", [0.0, 20.0])
@pytest.mark.parametrize(
    "m0",
    [
        torch.full((2, 1, 3, 3), -200.0),
        torch.linspace(-1e4, 1e4, 9).view(1, 1, 3, 3),
        torch.linspace(-1e4, -9e3, 9).view(1, 1, 3, 3),
        torch.linspace(-40, 0, 9).view(1, 1, 3, 3),
        torch.full((1, 1, 3, 3), 1e30),
    ],
)
def test_extreme_maps_are_finite_and_so_are_their_gradients(m0: Tensor, shift: float) -> None:
    m0 = m0.clone().requires_grad_()
    m = normalized_softplus(m0, shift)
    (m * rand(*m.shape)).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(m).all()
    assert m.max() == 1
    assert m0.grad is not None
    assert torch.isfinite(m0.grad).all()


def test_softplus_agrees_with_the_ratio_in_double_where_it_changes_its_form() -> None:
    m0 = torch.linspace(-30, 5, 71, dtype=torch.float64).view(1, 1, 71, 1)
    plain = torch.nn.functional.softplus(m0)
    expected = (plain / plain.max()).float()
    torch.testing.assert_close(normalized_softplus(m0), expected, rtol=2e-5, atol=0)


# -- Eq. 3 to 5


def test_where_m_is_one_the_features_stay() -> None:
    p = randn(2, 3, 5, 5)
    torch.testing.assert_close(destroy(p, torch.ones(2, 1, 5, 5), rand(2, 3, 5, 5)), p)


def test_where_m_is_zero_only_the_range_of_each_channel_stays() -> None:
    p = randn(2, 3, 4, 4)
    shuffle = torch.randperm(16, generator=seeded(1))
    shuffled = p.flatten(2)[..., shuffle].view_as(p)
    other = torch.where(rand(2, 3, 4, 4) > 0.5, 0.3, 0.6)  # other values in the same range
    low, high = p.amin(dim=(2, 3), keepdim=True), p.amax(dim=(2, 3), keepdim=True)
    stretched = low + (high - low) * (other - 0.3) / (other.amax() - 0.3)
    m, noise = torch.zeros(2, 1, 4, 4), rand(2, 3, 4, 4, seed=2)
    assert not torch.allclose(p, shuffled)
    assert torch.equal(destroy(p, m, noise), destroy(shuffled, m, noise))
    torch.testing.assert_close(destroy(stretched, m, noise), destroy(p, m, noise))
    torch.testing.assert_close(destroy(p, m, noise), low + (high - low) * noise)


def test_the_range_is_that_of_one_sample_and_one_channel() -> None:
    p, m, noise = randn(2, 2, 4, 4), rand(2, 1, 4, 4), rand(2, 2, 4, 4)
    loud = p * torch.tensor([1.0, 100.0])[None, :, None, None]
    assert torch.equal(destroy(loud, m, noise)[:, 0], destroy(p, m, noise)[:, 0])
    assert torch.equal(destroy(p[:1], m[:1], noise[:1])[0], destroy(p, m, noise)[0])


def test_destruction_by_hand() -> None:
    p = torch.tensor([[[[0.0, 4.0], [2.0, 1.0]]]])
    m = torch.tensor([[[[1.0, 0.5], [0.25, 0.0]]]])
    noise = torch.tensor([[[[0.9, 0.5], [1.0, 0.25]]]])
    # P M + (0 + 4 N)(1 - M): 0; 2 + 2 / 2; 0.5 + 4 x 0.75; 4 x 0.25
    expected = torch.tensor([[[[0.0, 3.0], [3.5, 1.0]]]])
    torch.testing.assert_close(destroy(p, m, noise), expected)


def test_one_pass_equals_the_three_steps_of_the_paper() -> None:
    p, m, noise = 10 * randn(3, 4, 6, 5), rand(3, 1, 6, 5), rand(3, 4, 6, 5, seed=1)
    torch.testing.assert_close(destroy(p, m, noise), three_steps(p, m, noise), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_the_three_steps() -> None:
    p, m = randn(2, 3, 4, 4), rand(2, 1, 4, 4)
    noise, weights = rand(2, 3, 4, 4, seed=1), randn(2, 3, 4, 4, seed=2)

    def gradients(form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        leaves = p.clone().requires_grad_(), m.clone().requires_grad_()
        return torch.autograd.grad((form(*leaves, noise) * weights).sum(), leaves)

    for ours, papers in zip(gradients(destroy), gradients(three_steps), strict=True):
        torch.testing.assert_close(ours, papers, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_neither_layout_nor_parts_nor_ties_change_destruction(layout: torch.memory_format) -> None:
    p, m, noise = randn(3, 8, 192, 128).relu(), rand(3, 1, 192, 128), rand(3, 8, 192, 128, seed=1)
    weights = randn(3, 8, 192, 128, seed=2)
    assert p[:2].numel() > CELLS  # so that samples go one by one

    def found(form: Callable[[Tensor, Tensor, Tensor], Tensor], given: Tensor) -> list[Tensor]:
        leaves = given.clone().requires_grad_(), m.clone().requires_grad_()
        out = form(*leaves, noise)
        return [out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)]

    ours = found(destroy, p.to(memory_format=layout))
    assert ours[0].is_contiguous(memory_format=layout)
    for one, papers in zip(ours, found(three_steps, p), strict=True):
        torch.testing.assert_close(one, papers, atol=1e-4, rtol=1e-4)


def test_minimum_and_maximum_are_not_detached() -> None:
    p = torch.tensor([[[[1.0, 5.0], [2.0, 3.0]]]], requires_grad=True)
    noise = torch.tensor([[[[0.5, 0.25], [0.75, 0.0]]]])
    destroy(p, torch.zeros(1, 1, 2, 2), noise).sum().backward()  # type: ignore[no-untyped-call]
    # sum(min + (max - min) N): the minimum's gradient is sum(1 - N), the maximum's sum(N)
    expected = torch.tensor([[[[2.5, 1.5], [0.0, 0.0]]]])
    assert p.grad is not None
    torch.testing.assert_close(p.grad, expected)


def test_constant_channels_stay_finite() -> None:
    p = torch.full((1, 2, 3, 3), 7.0, requires_grad=True)
    out = destroy(p, rand(1, 1, 3, 3), rand(1, 2, 3, 3))
    out.sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(out, p)
    assert p.grad is not None
    assert torch.isfinite(p.grad).all()


def test_computed_in_float32_inside_autocast() -> None:
    p, m, noise = randn(2, 3, 8, 8).bfloat16(), rand(2, 1, 16, 16), rand(2, 3, 8, 8)
    expected = destroy(p.float(), m, noise).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = destroy(p, m, noise)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, expected)


def test_the_map_is_resized_bilinearly_between_pixel_centres() -> None:
    m = torch.arange(16.0).view(1, 1, 4, 4)
    # A 2 x 2 pixel's centre lies amid four pixels: (0 + 1 + 4 + 5) / 4, ...
    expected = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])
    torch.testing.assert_close(resize_map(m, (2, 2)), expected)
    assert resize_map(m, (4, 4)) is m
    p, noise = randn(1, 2, 2, 2), rand(1, 2, 2, 2)
    assert torch.equal(destroy(p, m / 16, noise), destroy(p, expected / 16, noise))


def test_antialiasing_looks_further() -> None:
    m = torch.zeros(1, 1, 4, 4)
    m[0, 0, 2, 2] = 1
    assert resize_map(m, (2, 2))[0, 0, 0, 0] == 0
    # A triangle of 2 pixels' reach weighs rows 0, 1 and 2 by 3 : 3 : 1
    smooth = resize_map(m, (2, 2), antialias=True)[0, 0, 0, 0]
    assert smooth.item() == pytest.approx(1 / 49, abs=1e-6)
    p, noise = randn(1, 1, 2, 2), rand(1, 1, 2, 2)
    assert not torch.allclose(destroy(p, m, noise), destroy(p, m, noise, antialias=True))


# -- noise


def test_noise_is_fresh_for_every_element() -> None:
    draws = seeded()
    noise = uniform_noise(torch.empty(3, 4, 8, 8), draws)
    assert len(set(noise.flatten().tolist())) > 760  # of 768; float32 has 2^24 steps
    assert noise.min() >= 0
    assert noise.max() < 1
    assert not torch.equal(noise, uniform_noise(noise, draws))


def test_noise_of_its_own_for_each_picture_does_not_depend_on_the_batch() -> None:
    images = rand(3, 1, 8, 8)
    together = uniform_noise(images, picture_generators(images, "noise", 0))
    for i in range(3):
        image = images[i : i + 1]
        alone = uniform_noise(image, picture_generators(image, "noise", 0))
        assert torch.equal(alone[0], together[i])
    assert not torch.equal(together[0], together[1])


# -- Eq. 6 to 8


def test_loss_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0], [0.0, 0.0]]).log()  # probabilities 3/4, 1/4
    logits[1] = 0
    m = torch.tensor([[[[1.0, 0.0]]], [[[0.5, 0.1]]]])
    losses = vinet_loss(logits, torch.tensor([0, 1]), m)
    # ln(4/3) = 0.287682 and ln 2 = 0.693147; the mean of M is 1.6 / 4
    assert losses.classification.item() == pytest.approx((0.287682 + 0.693147) / 2, abs=1e-6)
    assert losses.importance.item() == pytest.approx(0.4)
    assert losses.total.item() == pytest.approx(0.4904147 + 0.25 * 0.4, abs=1e-6)
    assert vinet_loss(logits, torch.tensor([0, 1]), m, 1.0).total.item() == pytest.approx(0.8904147)


# -- where destruction acts


def ours(name: str) -> Callable[[], nn.Module]:
    return lambda: build_classifier(name, 5, seed=0, width=0.25)


def torchvisions(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model: nn.Module = getattr(torchvision.models, name)(num_classes=5, **options)
        return model

    return build


BARE = {"aux_logits": False, "init_weights": False}
# builder, shape of the input, sizes of the places found
CLASSIFIERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], list[int]]] = {
    "resnet18": (ours("resnet18"), (1, 64), [32, 16, 8, 4, 2]),
    "resnet50": (ours("resnet50"), (1, 64), [32, 16, 8, 4, 2]),
    "seresnet50": (ours("seresnet50"), (1, 64), [32, 16, 8, 4, 2]),
    "densenet121": (ours("densenet121"), (1, 64), [32, 16, 8, 4, 2]),
    "vgg16": (ours("vgg16"), (1, 64), [32, 16, 8, 4]),
    "vgg19": (ours("vgg19"), (1, 64), [32, 16, 8, 4]),
    "tv-resnet18": (torchvisions("resnet18"), (3, 128), [64, 32, 16, 8, 4]),
    "tv-densenet121": (torchvisions("densenet121"), (3, 128), [64, 32, 16, 8, 4]),
    "tv-squeezenet1_1": (torchvisions("squeezenet1_1"), (3, 128), [63, 31, 15, 7]),
    "tv-inception_v3": (torchvisions("inception_v3", **BARE), (3, 128), [63, 30, 13, 6, 2]),
    "tv-googlenet": (torchvisions("googlenet", **BARE), (3, 128), [64, 32, 16, 8, 4]),
    "tv-mobilenet_v3_small": (torchvisions("mobilenet_v3_small"), (3, 128), [64, 32, 16, 8, 4]),
}


@lru_cache
def classifier(name: str) -> tuple[nn.Module, tuple[Point, ...]]:
    """A classifier through all of whose branches something flows, and its places."""
    build, (channels, size), _ = CLASSIFIERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = he_initialised(build())
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:  # timm starts the last one of a block at 0, which mutes the block
            nn.init.ones_(norm.weight)
            norm.momentum = 1.0
        with torch.no_grad():
            model.train()(torch.rand(4, channels, size, size))
    return model.eval(), downsampling_points(model, torch.empty(1, channels, size, size))


def logits_with_noise_at(model: nn.Module, point: Point, images: Tensor) -> Tensor:
    """The logits when one place gives noise that does not depend on its features."""

    def replace(name: str, call: int, output: Tensor) -> Tensor | None:
        if call != point.call:
            return None
        return rand(1, *output.shape[1:], seed=3).expand_as(output).contiguous()

    with torch.no_grad(), output_hooks(model, replace, [point.module]):
        logits: Tensor = model(images)
    return logits


def two_pictures(name: str) -> Tensor:
    channels, size = CLASSIFIERS[name][1]
    return torch.stack([rand(channels, size, size), 5 * randn(channels, size, size, seed=1) - 2])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_places_are_where_the_resolution_drops(name: str) -> None:
    _, points = classifier(name)
    assert [p.size for p in points] == [(n, n) for n in CLASSIFIERS[name][2]]


def apart(logits: Tensor) -> float:
    """How far two pictures' logits lie apart, as a share of the largest."""
    return ((logits[0] - logits[1]).abs().max() / logits.abs().max()).item()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_nothing_flows_around_a_place(name: str) -> None:
    model, points = classifier(name)
    images = two_pictures(name)
    with torch.no_grad():
        assert apart(model(images)) > 0.01
    for point in points:
        assert apart(logits_with_noise_at(model, point, images)) < 1e-5


@pytest.mark.parametrize("inside", ["layer2.0.conv1", "layer2.0.bn2", "layer2.0.downsample"])
def test_inside_a_branch_something_does_flow_around(inside: str) -> None:
    model, points = classifier("tv-resnet18")
    images = two_pictures("tv-resnet18")
    assert apart(logits_with_noise_at(model, Point(inside, 0, (16, 16)), images)) > 0.01
    assert "layer2.0" in [p.module for p in points]
    assert not any(p.module.startswith("layer2.0.") for p in points)


def test_looking_for_places_leaves_mode_hooks_and_statistics() -> None:
    model = build_classifier("resnet18", 5, seed=0, width=0.25).train()
    model.get_submodule("layer1").eval()
    modes = [m.training for m in model.modules()]
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    downsampling_points(model, torch.empty(1, 1, 64, 64))
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


class Shared(nn.Module):
    """One pooling layer called three times, the last time down to 1 x 1."""

    def __init__(self, around: bool = False) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.head = nn.LazyLinear(3)
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        deep = self.pool(self.pool(self.pool(x)))
        if self.around:
            deep = deep + x.mean(dim=(2, 3), keepdim=True)
        logits: Tensor = self.head(deep.flatten(1))
        return logits


def test_each_call_of_a_shared_layer_is_a_place_of_its_own_and_one_pixel_is_none() -> None:
    points = downsampling_points(Shared(), torch.empty(1, 2, 8, 8))
    assert points == (Point("pool", 0, (4, 4)), Point("pool", 1, (2, 2)))


def test_there_is_no_place_where_the_input_is_carried_around() -> None:
    assert downsampling_points(Shared(around=True), torch.empty(1, 2, 8, 8)) == ()


# -- the whole


@lru_cache
def vinet(multi_scale: bool = True) -> VINet:
    model = VINet(
        build_importance("unet", seed=0, width=0.25),
        build_classifier("resnet18", 5, seed=1, width=0.25),
        example=torch.empty(1, 1, 64, 64),
        multi_scale=multi_scale,
    )
    return model.eval()


def test_scales() -> None:
    assert [p.size[0] for p in vinet().points] == [32, 16, 8, 4, 2]
    assert vinet(multi_scale=False).points == ()


@torch.no_grad()
def test_with_an_empty_map_the_order_of_the_pixels_does_not_matter() -> None:
    images = rand(2, 1, 64, 64)
    shuffle = torch.randperm(64 * 64, generator=seeded(1))
    permuted = images.flatten(2)[..., shuffle].view_as(images)
    for model in (vinet(), vinet(multi_scale=False)):
        empty, full = torch.zeros_like(images), torch.ones_like(images)
        before, after = (model.classify(x, empty, seeded(2)) for x in (images, permuted))
        assert torch.equal(before, after)
        before, after = (model.classify(x, full, seeded(2)) for x in (images, permuted))
        assert not torch.allclose(before, after, rtol=1e-3)


@torch.no_grad()
def test_with_a_full_map_it_is_the_classifier() -> None:
    images, model = rand(2, 1, 64, 64), vinet()
    logits = model.classify(images, torch.ones_like(images), seeded())
    torch.testing.assert_close(logits, model.classifier(images), rtol=1e-4, atol=1e-4)
    assert not any(m._forward_hooks for m in model.modules())


@torch.no_grad()
def test_every_scale_is_destroyed_with_noise_in_the_order_of_the_pass() -> None:
    images, m, model = rand(2, 1, 64, 64), rand(2, 1, 64, 64, seed=1), vinet()
    before: list[Tensor] = []
    after: list[Tensor] = []
    # conv1, maxpool, layer2.0, layer3.0 and layer4.0 hand on to:
    nexts = [model.classifier.get_submodule(f"layer{i}.1") for i in (2, 3, 4)]
    nexts = [
        model.classifier.get_submodule("bn1"),
        model.classifier.get_submodule("layer1"),
        *nexts,
    ]
    handles = [n.register_forward_pre_hook(lambda _, x: after.append(x[0].clone())) for n in nexts]
    names = [p.module for p in model.points]
    with output_hooks(model.classifier, lambda name, call, output: before.append(output), names):
        model.classify(images, m, seeded(5))
    for handle in handles:
        handle.remove()
    draws = seeded(5)
    uniform_noise(images, draws)  # the input's
    assert len(before) == len(after) == 5
    for clean, destroyed in zip(before, after, strict=True):
        noise = uniform_noise(clean, draws)
        torch.testing.assert_close(
            destroyed,
            three_steps(clean, resize_map(m, clean.shape[-2:]), noise),
            rtol=1e-4,
            atol=1e-5,
        )


@torch.no_grad()
def test_a_picture_gives_the_same_alone_and_in_a_batch() -> None:
    images, model = rand(3, 1, 64, 64), vinet()
    together = model(images, picture_generators(images, "noise", 0))
    for i in range(3):
        image = images[i : i + 1]
        alone = model(image, picture_generators(image, "noise", 0))
        torch.testing.assert_close(alone.logits[0], together.logits[i], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone.map[0], together.map[i], rtol=1e-4, atol=1e-5)
    again = model(images, [generator("another", i) for i in range(3)])
    assert not torch.allclose(again.logits, together.logits, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (96, 96), (70, 50)])
def test_the_map_has_the_pictures_size(size: tuple[int, int]) -> None:
    output = vinet()(rand(2, 1, *size), seeded())
    assert output.map.shape == (2, 1, *size)
    assert output.logits.shape == (2, 5)
    assert torch.isfinite(output.logits).all()
    assert torch.equal(output.map.amax(dim=(1, 2, 3)), torch.ones(2))


def test_both_networks_learn_from_the_loss() -> None:
    model, images = vinet(), rand(2, 1, 64, 64)
    model.zero_grad()
    output = model(images, seeded())
    loss = vinet_loss(output.logits, torch.tensor([0, 1]), output.map).classification
    loss.backward()  # type: ignore[no-untyped-call]
    for part in (model.importance, model.classifier):
        total = sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None)
        assert total > 0
    model.zero_grad()
