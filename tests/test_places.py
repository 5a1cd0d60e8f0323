"""Where destruction acts in other people's networks, whatever the layout of their maps."""

import copy
from functools import lru_cache

import pytest
import torch
from torch import Generator, Tensor, nn

from vinet_bench.errors import UserError
from vinet_bench.hooks import output_hooks
from vinet_bench.models import build_vinet
from vinet_bench.networks import build_classifier
from vinet_bench.places import Point, downsampling_points
from vinet_bench.settings import VINetTraining
from vinet_bench.vinet import VINet

# timm's name -> side of the input, sizes of the places found, and their layouts where not BCHW
FAMILIES: dict[str, tuple[int, list[int], list[str]]] = {
    "resnet10t": (64, [32, 16, 8, 4, 2], []),
    "densenet121": (64, [32, 16, 8, 4, 2], []),
    "vgg11": (64, [32, 16, 8, 4, 2], []),
    "efficientnet_b0": (64, [32, 16, 8, 4, 2], []),
    "convnext_atto": (64, [16, 8, 4, 2], []),
    "regnetx_002": (64, [32, 16, 8, 4, 2], []),
    "mobilenetv3_small_050": (64, [32, 16, 8, 4, 2], []),
    "inception_v3": (96, [47, 22, 9, 4], []),
    "swin_tiny_patch4_window7_224": (64, [16, 8, 4, 2], ["BCHW", "BHWC", "BHWC", "BHWC"]),
    "vit_tiny_patch16_224": (64, [4], []),
    "pit_ti_224": (64, [7, 4, 2], ["BCHW", "BNC", "BNC"]),
    "poolformer_s12": (64, [16, 8, 4, 2], []),
}


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=Generator().manual_seed(seed))


@lru_cache
def vinet(name: str) -> VINet:
    """A VINet around one of them, through all of whose branches something flows."""
    size = FAMILIES[name][0]
    classifier = build_classifier(f"timm:{name}", 5, seed=0, size=(size, size))
    norms = [m for m in classifier.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:  # timm starts the last one of a block at 0, which mutes the block
        nn.init.ones_(norm.weight)
        norm.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier.train()(rand(4, 1, size, size))
    importance = nn.Conv2d(1, 1, 3, padding=1)
    return VINet(importance, classifier, torch.zeros(1, 1, size, size)).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_places_of_a_family(name: str) -> None:
    _, sizes, layouts = FAMILIES[name]
    points = vinet(name).points
    assert [p.size for p in points] == [(n, n) for n in sizes]
    assert [p.layout for p in points] == (layouts or ["BCHW"] * len(sizes))


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_destruction_cuts(name: str) -> None:
    model, side = vinet(name), FAMILIES[name][0]
    images = rand(2, 1, side, side)
    shuffle = torch.randperm(side * side, generator=Generator().manual_seed(1))
    permuted = images.flatten(2)[..., shuffle].view_as(images)  # the range is all that may stay
    empty, full = torch.zeros_like(images), torch.ones_like(images)
    a, b = (model.classify(x, empty, Generator().manual_seed(2)) for x in (images, permuted))
    assert torch.equal(a, b)
    plain = model.classifier(images)
    a = model.classify(images, full, Generator().manual_seed(2))
    assert (a - plain).abs().max() <= 1e-3 * plain.abs().max()
    assert not torch.allclose(plain, model.classifier(permuted), rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_flows_around_a_place(name: str) -> None:
    """With other maps put there, and blank prefix tokens, two pictures are told apart no more."""
    model, side = vinet(name), FAMILIES[name][0]
    # In double: a deep network swells the last bits of float32, and they are no leak.
    images = torch.stack([rand(1, side, side), 5 * rand(1, side, side, seed=1) - 2]).double()
    classifier = copy.deepcopy(model.classifier).double()
    for point in model.points:
        logits = logits_with_noise_at(classifier, point, images)
        assert (logits[0] - logits[1]).abs().max() <= 1e-9 * logits.abs().max()


def logits_with_noise_at(classifier: nn.Module, point: Point, images: Tensor) -> Tensor:
    def replace(name: str, call: int, output: Tensor) -> Tensor | None:
        if call != point.call:
            return None
        maps = point.to_maps(output)
        assert maps.shape[2:] == point.size
        assert torch.equal(point.from_maps(maps, output), output)
        noise = rand(1, *maps.shape[1:]).to(maps).expand_as(maps)
        changed = point.from_maps(noise, output).clone()
        if point.prefix:
            assert torch.equal(changed[:, : point.prefix], output[:, : point.prefix])
            changed[:, : point.prefix] = 0
        return changed

    with output_hooks(classifier, replace, [point.module]):
        logits: Tensor = classifier(images)
    return logits


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("swin_tiny_patch4_window7_224", [(16, 24), (8, 12), (4, 6), (2, 3)]),
        ("vit_tiny_patch16_224", [(4, 6)]),
        ("pit_ti_224", [(7, 11), (4, 6), (2, 3)]),
    ],
)
def test_height_and_width_are_not_mistaken(name: str, sizes: list[tuple[int, int]]) -> None:
    model = build_classifier(f"timm:{name}", 5, seed=0, size=(64, 96))
    points = downsampling_points(model, torch.zeros(1, 1, 64, 96))
    assert [p.size for p in points] == sizes
    assert [p.prefix for p in points] == ([0, 1, 1] if name == "pit_ti_224" else [0] * len(sizes))


class ChannelsLast(nn.Module):
    """(B, 8, 8, 8) inside: nothing in the shape tells the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 8, 2, stride=2)
        self.turned = nn.Identity()
        self.mix = nn.Linear(8, 8)
        self.shrink = nn.AvgPool2d(2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(self.turned(self.down(x).permute(0, 2, 3, 1)))
        small = self.shrink(mixed.permute(0, 3, 1, 2))
        logits: Tensor = self.head(small.mean(dim=(2, 3)))
        return logits


def test_a_cube_is_told_by_what_grows() -> None:
    points = downsampling_points(ChannelsLast(), torch.zeros(1, 1, 16, 16))
    assert points == (Point("down", 0, (8, 8)), Point("shrink", 0, (4, 4)))
    inner = nn.Sequential(nn.Conv2d(1, 8, 2, stride=2), Turned(), nn.Linear(8, 8), Head())
    assert downsampling_points(Unseen(inner), torch.zeros(1, 1, 16, 16)) == (
        Point("inner.1", 0, (8, 8), "BHWC"),
    )


class Skips(nn.Module):
    """Its second block hands the first one's output through an Identity, on its skip alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.ReLU())
        self.skip = nn.Identity()
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        logits: Tensor = self.head((self.skip(x) + self.inner(x)).mean(dim=(2, 3)))
        return logits


def test_an_identity_on_a_skip_is_no_place() -> None:
    """As in RegNet: noise there would leave the other branch alone."""
    found = downsampling_points(Skips(), torch.zeros(1, 1, 16, 16))
    assert found == (Point("first.0", 0, (8, 8)),)


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class Head(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(1, 2))


class Unseen(nn.Module):
    """Calls its first layer so that no hook sees it."""

    def __init__(self, inner: nn.Sequential) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.inner
        x = first.forward(x)
        for layer in others:
            x = layer(x)
        return x


class Fixed(nn.Module):
    """A network for one size only, which refuses the others at once or at its end."""

    def __init__(self, at_once: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 2, stride=2)
        self.head = nn.Linear(4 * 64, 3)
        self.at_once = at_once

    def forward(self, x: Tensor) -> Tensor:
        if self.at_once and x.shape[-2:] != (16, 16):
            raise ValueError("16 x 16 only")
        logits: Tensor = self.head(self.down(x).flatten(1))
        return logits


def test_a_network_for_one_size() -> None:
    assert downsampling_points(Fixed(False), torch.zeros(1, 1, 16, 16)) == (
        Point("down", 0, (8, 8)),
    )
    with pytest.raises(ValueError, match=r"'down', \(1, 4, 8, 8\).*vinet\.destruction=single"):
        downsampling_points(Fixed(True), torch.zeros(1, 1, 16, 16))
    VINet(nn.Identity(), Fixed(True), torch.zeros(1, 1, 16, 16), multi_scale=False)


@pytest.mark.parametrize("name", ["hiera_tiny_224", "nest_tiny"])
def test_tokens_in_another_order_are_refused(name: str) -> None:
    """Hiera sorts its tokens by mask units, NesT by blocks."""
    training = VINetTraining(importance="gridnet", classifier=f"timm:{name}", width=0.25)
    with pytest.raises(UserError, match=f"vinet.classifier=timm:{name}: cannot tell height and"):
        build_vinet(training, 3, (64, 64), seed=0)
    single = training.model_copy(update={"destruction": "single"})
    assert build_vinet(single, 3, (64, 64), seed=0).points == ()
