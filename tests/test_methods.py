"""Saliency methods of the paper against outside libraries and written-out forms."""

import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from baselines import METHODS
from baselines.cam import CAM, GradCAM
from baselines.composites import EPSILON
from baselines.controls import Centre, Edges, Outline, Random
from baselines.gradients import IntegratedGradients, Saliency
from baselines.lrp import LRP, LRPEpsilon
from baselines.vbp import VisualBackProp, _ones_deconvolution
from baselines.vinet import VINetMap
from vinet_bench.checks import check_method
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import UserError
from vinet_bench.masks import SCALINGS, scale
from vinet_bench.methods import SaliencyMethod, method
from vinet_bench.networks import build_classifier, build_importance
from vinet_bench.networks.classifiers import VGGGAP
from vinet_bench.vinet import VINet

SIZE = 64
Weights = Any  # NDArray[np.float64], without its noise in matrix products


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=Generator().manual_seed(seed))


@lru_cache
def slices(size: int = SIZE) -> SliceDataset:
    """Six slices: a bright disc, at another place and of another size in each, on noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    places = rng.uniform(0.25, 0.75, (6, 2))
    radii = np.linspace(0.08, 0.2, 6)
    evidence = np.stack(
        [(y - a) ** 2 + (x - b) ** 2 < r**2 for (a, b), r in zip(places, radii, strict=True)]
    )
    return SliceDataset(
        name="discs",
        images=(150 * evidence + rng.integers(0, 100, evidence.shape)).astype(np.uint8),
        labels=np.arange(6) % 5,
        patients=np.array(list("abcdef")),
        ids=np.array(list("123456")),
        class_names=tuple("ABCDE"),
        evidence=evidence,
    )


def pictures(n: int = 4) -> Tensor:
    return torch.from_numpy(slices().pictures(slice(n)))


@lru_cache
def vgg(seed: int = 0) -> nn.Module:
    """Untrained, with a bias everywhere, frozen and in evaluation mode, as the suite hands it."""
    model = build_classifier("vgg16", 5, seed, width=0.25)
    draws = Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.05, generator=draws)
    return model.eval().requires_grad_(False)


@lru_cache
def network(kind: str) -> nn.Module:
    if kind == "nothing":
        return nn.Identity()
    if kind == "classifier":
        return vgg()
    example = torch.empty(1, 1, SIZE, SIZE)
    classifier = build_classifier("resnet18", 5, seed=1, width=0.25)
    model = VINet(build_importance("unet", seed=0, width=0.25), classifier, example)
    return model.eval().requires_grad_(False)


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        targets: Tensor = model(images).argmax(dim=1)
    return targets


def explained(chosen: SaliencyMethod, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    data, size = slices(), images.shape[-2:]
    if size != data.size:  # a toy's: what is fitted must know the pictures' size
        data = replace(data.subset(np.arange(0)), images=np.zeros((0, *size), np.uint8))
    return chosen.fit(model, data).explain(images, targets)


def test_epsilon_lrp_depends_on_the_batch_by_rounding_only() -> None:
    images, targets = pictures().double(), torch.tensor([0, 1, 2, 4])
    model = copy.deepcopy(vgg()).double()
    check_method(LRPEpsilon, model, images, targets, slices(), tolerance=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_info(name: str) -> None:
    info = method(name).info
    assert info.name == name
    assert info.title
    assert info.paper
    assert info.scaling in SCALINGS


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(UserError, match="did you mean 'gradcam'"):
        method("grad-cam")


# -- CAM


class CutCAM(CAM):
    def weighted_maps(self, images: Tensor, targets: Tensor) -> Tensor:
        return super().weighted_maps(images, targets).clamp(min=0)


def test_cam_without_negative_parts_is_the_librarys_grad_cam() -> None:
    images, not_empty = pictures(), 0
    for target in range(5):
        targets = torch.full((4,), target)
        plain = explained(CutCAM(), vgg(), images, targets)
        library = explained(GradCAM(), vgg(), images, targets)
        ours, theirs = scale(plain, "minmax"), scale(library, "minmax")
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        not_empty += int((ours.amax(dim=(1, 2)) == 1).sum())
    assert not_empty >= 10  # of 20; an untrained network may find nothing for a class


def test_cam_averages_to_the_logit_without_its_bias() -> None:
    model, images = vgg(), pictures()
    assert isinstance(model, VGGGAP)
    targets = predicted(model, images)
    maps = explained(CAM(), model, images, targets)
    with torch.no_grad():
        logits = model(images).gather(1, targets[:, None])[:, 0] - model.linear.bias[targets]
    # Upsampling 4 x 4 to 64 x 64 repeats the border, which weighs all 16 numbers alike.
    torch.testing.assert_close(maps.mean(dim=(1, 2)), logits, rtol=1e-4, atol=1e-5)


# -- LRP


def linear_matrix(layer: nn.Module, shape: tuple[int, ...]) -> Weights:
    """The matrix (outputs, inputs) of a linear or convolution layer without its bias."""
    identity = torch.eye(int(np.prod(shape)), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        double = layer.double()
        zero = double(torch.zeros(1, *shape, dtype=torch.float64))
        columns = (double(identity) - zero).flatten(1).numpy()
        layer.float()
    return columns.T


def bias_vector(layer: nn.Module, shape: tuple[int, ...]) -> Weights:
    with torch.no_grad():
        vector = layer.double()(torch.zeros(1, *shape, dtype=torch.float64)).flatten().numpy()
        layer.float()
    return vector


def stabilised(z: Weights) -> Weights:
    return z + EPSILON * np.where(z >= 0, 1, -1)


def epsilon_rule(a: Weights, w: Weights, b: Weights, relevance: Weights) -> Weights:
    """R_j = a_j sum_k w_kj R_k / (z_k + e sign z_k), with z = W a + b (Bach et al. 2015)."""
    return a * (w.T @ (relevance / stabilised(w @ a + b)))


def plus_rule(a: Weights, w: Weights, b: Weights, relevance: Weights) -> Weights:
    """The same with the positive weights and biases alone; a >= 0 after a ReLU."""
    return epsilon_rule(a, w.clip(min=0), b.clip(min=0), relevance)


def flat_rule(a: Weights, w: Weights, b: Weights, relevance: Weights) -> Weights:
    """Every pixel that an output sees takes the same share."""
    sees = (w != 0).astype(float)
    return epsilon_rule(np.ones_like(a), sees, np.zeros_like(b), relevance)


def small_linear() -> nn.Sequential:
    first, second = nn.Linear(3, 3), nn.Linear(3, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, -0.5, 0.25], [-1.0, 2.0, 0.5], [0.5, 0.5, -1.5]]))
        first.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
        second.weight.copy_(torch.tensor([[2.0, -1.0, 3.0]]))
        second.bias.fill_(0.25)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second).eval()


def test_epsilon_lrp_by_hand() -> None:
    image = torch.tensor([[[[1.0, 0.5, 0.2]]]])
    # hidden: 1 - 0.25 + 0.05 + 0.1 = 0.9; -1 + 1 + 0.1 - 0.2 -> 0; 0.5 + 0.25 - 0.3 + 0.3 = 0.75
    # logit: 1.8 + 2.25 + 0.25 = 4.3, of which 1.8 and 2.25 go on and the bias keeps 0.25
    expected = torch.tensor(
        [
            1.8 * 1.0 / 0.9 + 2.25 * 0.5 / 0.75,
            1.8 * -0.25 / 0.9 + 2.25 * 0.25 / 0.75,
            1.8 * 0.05 / 0.9 + 2.25 * -0.3 / 0.75,
        ]
    )
    maps = explained(LRPEpsilon(), small_linear(), image, torch.tensor([0]))
    torch.testing.assert_close(maps.flatten(), expected, atol=1e-5, rtol=0)


def small_convolutional(bias: bool = True, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, 2, 3, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(2, 3, 3, padding=1, bias=bias), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4, bias=bias)),
        ).eval()


def written_out(model: nn.Sequential, image: Tensor, target: int, composite: str) -> Weights:
    """LRP of small_convolutional in matrices, float64; composite 'flat-plus' or 'epsilon'."""
    conv1, conv2, linear = model[0], model[3], model[7]
    w1, b1 = linear_matrix(conv1, (1, 6, 6)), bias_vector(conv1, (1, 6, 6))
    w2, b2 = linear_matrix(conv2, (2, 3, 3)), bias_vector(conv2, (2, 3, 3))
    w3, b3 = linear_matrix(linear, (3,)), bias_vector(linear, (3,))
    mean = np.kron(np.eye(3), np.full(9, 1 / 9))
    x = image.double().flatten().numpy()
    a1 = (w1 @ x + b1).clip(min=0)
    windows = a1.reshape(2, 3, 2, 3, 2).transpose(0, 1, 3, 2, 4).reshape(18, 4)
    pool = np.zeros((18, 72))
    places = np.arange(72).reshape(2, 3, 2, 3, 2).transpose(0, 1, 3, 2, 4).reshape(18, 4)
    pool[np.arange(18), places[np.arange(18), windows.argmax(axis=1)]] = 1
    a2 = pool @ a1
    a3 = (w2 @ a2 + b2).clip(min=0)
    a4 = mean @ a3
    relevance = np.where(np.arange(4) == target, w3 @ a4 + b3, 0)
    convolution, first = plus_rule, flat_rule
    if composite == "epsilon":
        convolution = first = epsilon_rule
    relevance = epsilon_rule(a4, w3, b3, relevance)
    relevance = epsilon_rule(a3, mean, np.zeros(3), relevance)
    relevance = convolution(a2, w2, b2, relevance)
    relevance = pool.T @ relevance  # the winner takes all
    return first(x, w1, b1, relevance).reshape(6, 6)


@pytest.mark.parametrize(("chosen", "composite"), [(LRP, "flat-plus"), (LRPEpsilon, "epsilon")])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_lrp_equals_its_matrix_form(
    chosen: type[LRP | LRPEpsilon], composite: str, seed: int
) -> None:
    model, images = small_convolutional(seed=seed), rand(4, 1, 6, 6, seed=seed)
    targets = torch.tensor([0, 1, 2, 3])
    maps = explained(chosen(), model, images, targets)
    for image, target, m in zip(images, targets, maps, strict=True):
        expected = written_out(model, image, int(target), composite)
        largest = abs(expected).max()
        assert largest > 1e-4
        np.testing.assert_allclose(m.numpy() / largest, expected / largest, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chosen", [LRP, LRPEpsilon])
def test_relevance_starts_at_the_logit_and_is_conserved_without_biases(
    chosen: type[LRP | LRPEpsilon],
) -> None:
    model, images = small_convolutional(bias=False), rand(4, 1, 6, 6)
    with torch.no_grad():
        logits = model(images)
    signs = set()
    for target in range(4):
        maps = explained(chosen(), model, images, torch.full((4,), target))
        torch.testing.assert_close(maps.sum(dim=(1, 2)), logits[:, target], rtol=1e-3, atol=1e-5)
        signs |= set(logits[:, target].sign().tolist())
    assert signs == {-1.0, 1.0}  # a negative logit gives a negative sum


def test_epsilon_lrp_without_biases_is_input_times_gradient() -> None:
    model, images, targets = small_convolutional(bias=False), rand(3, 1, 6, 6), torch.arange(3)
    leaf = images.clone().requires_grad_()
    model(leaf).gather(1, targets[:, None]).sum().backward()
    assert leaf.grad is not None
    maps = explained(LRPEpsilon(), model, images, targets)
    torch.testing.assert_close(maps, (images * leaf.grad)[:, 0], rtol=1e-3, atol=1e-5)


# -- VisualBackProp


class Features(nn.Module):
    """A network of which VBP reads the features alone."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.features(images)
        return maps


def test_vbp_by_hand() -> None:
    first, second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1)
    with torch.no_grad():
        for layer in (first, second):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        first.weight[0, 0, 1, 1], first.weight[1, 0, 1, 1] = 1, -1  # the picture and its negative
        second.weight[0, :, 0, 0] = 1
    model = Features(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU())
    image = torch.tensor([[4.0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]])
    maps = explained(VisualBackProp(), model, image.view(1, 1, 4, 4), torch.tensor([0]))
    # Means: of the second ReLU [[4, 2], [0, 0]], of the first the picture / 2, with 2 and 1.
    # Up through the pooling each of the 2 x 2 fills its window; the product is 8 at (0, 0) and
    # 2 at (1, 3), else 0. Up through the 3 x 3 convolution each spreads over its neighbours.
    expected = torch.tensor([[8.0, 8, 2, 2], [8, 8, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0]]) / 8
    torch.testing.assert_close(maps[0], expected)


def test_vbp_goes_up_through_strides_and_odd_sizes() -> None:
    model = Features(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU())
    maps = explained(VisualBackProp(), model, rand(2, 1, 22, 15), torch.zeros(2))
    assert maps.shape == (2, 22, 15)


@pytest.mark.parametrize(("kernel", "padding"), [((3, 3), (1, 1)), ((5, 3), (0, 2)), ((1, 2), 0)])
def test_vbp_goes_up_through_a_stride_of_1_as_a_deconvolution_does(
    kernel: tuple[int, int], padding: int | tuple[int, int]
) -> None:
    layer, size = nn.Conv2d(1, 1, kernel, padding=padding), torch.Size((9, 8))
    maps = rand(2, 1, *layer(torch.zeros(1, 1, *size)).shape[-2:])
    expected = F.conv_transpose2d(maps, torch.ones(1, 1, *kernel), padding=padding)
    assert expected.shape[-2:] == size
    torch.testing.assert_close(_ones_deconvolution(maps, layer, size), expected)


def test_vbp_uses_all_13_relus_of_vgg16() -> None:
    model, images = vgg(), pictures(2)
    assert isinstance(model, VGGGAP)
    means: list[Tensor] = []
    relus = [m for m in model.features if isinstance(m, nn.ReLU)]
    handles = [
        r.register_forward_hook(lambda _m, _i, out: means.append(out.double().mean(1, True)))
        for r in relus
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    assert len(means) == 13
    expected = torch.ones_like(means[-1])
    for deeper, mean in zip([means[-1], *means[:0:-1]], means[::-1], strict=True):
        if mean.shape != deeper.shape:  # a pooling lies between
            expected = expected.repeat_interleave(2, 2).repeat_interleave(2, 3)
        # Up through a 3 x 3 convolution with all weights 1: the sum over the neighbours.
        expected = F.avg_pool2d(expected * mean, 3, stride=1, padding=1, divisor_override=1)
    maps = explained(VisualBackProp(), model, images, torch.zeros(2)).double()
    expected = expected[:, 0] / expected.amax(dim=(1, 2, 3))[:, None, None]
    torch.testing.assert_close(
        maps / maps.amax(dim=(1, 2), keepdim=True), expected, rtol=1e-4, atol=1e-6
    )


def test_vbp_refuses_what_it_does_not_know() -> None:
    convolution = nn.Conv2d(1, 2, 3, bias=False)
    nn.init.constant_(convolution.weight, 0.05)  # above 0 for any picture, and yet no ReLU
    model = Features(convolution, nn.BatchNorm2d(2), nn.GELU()).eval()
    with pytest.raises(UserError, match="multiplies the outputs of ReLUs"):
        explained(VisualBackProp(), model, rand(1, 1, 8, 8), torch.zeros(1))


class Branches(nn.Module):
    """Two branches side by side, each with a ReLU of its own kind."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([F.relu(self.one(images)), F.relu6(self.two(images))], dim=1)


@pytest.mark.parametrize(
    ("layers", "stages"),
    [
        ([nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.GELU()], ["features.1"]),
        ([nn.Conv2d(1, 4, 3), nn.ReLU6(), nn.Sigmoid()], ["features.1"]),
        ([nn.Conv2d(1, 4, 3), nn.Softplus(), nn.ReLU(), nn.GELU()], ["features.2"]),
        ([Branches(), nn.Conv2d(4, 2, 1), nn.Hardtanh()], ["features.0"]),
        ([Branches(), nn.MaxPool2d(2), nn.Sigmoid()], ["features.0"]),
    ],
)
def test_vbp_takes_relus_and_nothing_that_looks_like_one(
    layers: list[nn.Module], stages: list[str]
) -> None:
    model = Features(*layers).eval().requires_grad_(False)
    chosen = VisualBackProp().fit(model, replace(slices(), evidence=None))
    assert [stage.module for stage in chosen.stages] == stages


def test_batch_norm_has_no_geometry_for_vbp() -> None:
    convolution, images = nn.Conv2d(1, 2, 3), rand(1, 1, 8, 8)
    convolution.weight = nn.Parameter(rand(2, 1, 3, 3))  # positive: no map is all zeros
    layers = (convolution, nn.BatchNorm2d(2), nn.ReLU())  # untrained: the identity
    maps = [
        explained(VisualBackProp(), Features(*some).eval(), images, torch.zeros(1))
        for some in (layers, layers[::2])
    ]
    assert maps[0].max() > 0
    torch.testing.assert_close(*maps, rtol=1e-4, atol=0)


# -- gradients


def test_saliency_is_the_absolute_gradient_of_the_logit() -> None:
    images, targets = pictures(), torch.tensor([0, 1, 2, 3])
    leaf = images.clone().requires_grad_()
    vgg()(leaf).gather(1, targets[:, None]).sum().backward()
    assert leaf.grad is not None
    maps = explained(Saliency(), vgg(), images, targets)
    torch.testing.assert_close(maps, leaf.grad.abs()[:, 0], rtol=1e-4, atol=1e-9)


def completeness_gap(model: nn.Module) -> Tensor:
    """|sum of the map - (f(x) - f(0))| / |f(x) - f(0)|, (B,)."""
    images = pictures()
    targets = predicted(model, images)
    maps = explained(IntegratedGradients(), model, images, targets)
    with torch.no_grad():
        change = model(images) - model(torch.zeros_like(images))
    change = change.gather(1, targets[:, None])[:, 0]
    gap: Tensor = (maps.sum(dim=(1, 2)) - change).abs() / change.abs()
    return gap


def test_integrated_gradients_nearly_add_up_to_the_change_of_the_logit() -> None:
    gaps = torch.cat([completeness_gap(vgg(seed)) for seed in range(4)])
    # Measured: 0.03 on average, 0.15 at most (with 50 steps 0.01 and 0.06).
    assert gaps.mean() < 0.06
    assert gaps.max() < 0.3


def test_integrated_gradients_of_a_linear_network_are_input_times_weight() -> None:
    linear, images = nn.Linear(9, 2), rand(2, 1, 3, 3)
    model = nn.Sequential(nn.Flatten(), linear)
    maps = explained(IntegratedGradients(), model, images, torch.tensor([0, 1]))
    expected = images[:, 0] * linear.weight.detach().view(2, 3, 3)
    torch.testing.assert_close(maps, expected)


# -- VINet and the controls


def test_vinet_explains_itself_only() -> None:
    images = pictures(2)
    model = network("vinet")
    assert isinstance(model, VINet)
    maps = explained(VINetMap(), model, images, torch.zeros(2))
    assert torch.equal(maps.amax(dim=(1, 2)), torch.ones(2))
    assert torch.equal(maps, model.importance_map(images)[:, 0])
    with pytest.raises(TypeError, match="'vinet' explains a VINet"):
        explained(VINetMap(), vgg(), images, torch.zeros(2))


def test_random_is_drawn_from_the_pictures_content() -> None:
    images, targets = pictures(3), torch.zeros(3)
    maps = explained(Random(), nn.Identity(), images, targets)
    assert torch.equal(maps, explained(Random(), nn.Identity(), images, targets))
    assert torch.equal(maps.flip(0), explained(Random(), nn.Identity(), images.flip(0), targets))
    alone = explained(Random(), nn.Identity(), images[1:2], targets[:1])
    assert torch.equal(alone[0], maps[1])
    assert not torch.equal(maps[0], maps[1])
    assert len(set(maps.flatten().tolist())) > 0.99 * maps.numel()
    assert abs(maps.mean() - 0.5) < 0.02


@pytest.mark.parametrize("size", [(9, 9), (9, 15), (8, 8)])
def test_centre_is_highest_in_the_centre(size: tuple[int, int]) -> None:
    (m,) = explained(Centre(), nn.Identity(), rand(1, 1, *size), torch.zeros(1))
    assert torch.equal(m, m.flip(0))
    assert torch.equal(m, m.flip(1))
    assert m.max() == m[size[0] // 2, size[1] // 2]
    assert (m.diff(dim=0)[: size[0] // 2 - 1] > 0).all()
    assert (m.diff(dim=1)[:, : size[1] // 2 - 1] > 0).all()


def test_edges_are_high_on_a_step() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8:] = 1
    (m,) = explained(Edges(), nn.Identity(), image, torch.zeros(1))
    columns = m[5]
    assert torch.equal(m, columns.expand(16, -1))
    # A Gaussian of sigma 1, half a pixel from the step: exp(-1 / 8) / sqrt(2 pi) = 0.352
    assert columns[7].item() == pytest.approx(columns[8].item())
    assert columns[8].item() == pytest.approx(0.352, abs=0.03)
    assert columns[:3].max() < 1e-4
    assert columns[13:].max() < 1e-4


def test_the_outline_is_found_by_the_pictures_content() -> None:
    data, order = slices(), torch.tensor([4, 1, 5, 0, 3, 2])
    images = pictures(6)[order]
    maps = explained(Outline(), nn.Identity(), images, torch.zeros(6))
    assert data.evidence is not None
    assert torch.equal(maps.bool(), torch.from_numpy(data.evidence)[order])
    assert maps.dtype == torch.float32


def test_the_outline_needs_a_data_set_with_masks() -> None:
    data = slices()
    bare = SliceDataset(
        name="bare",
        images=data.images,
        labels=data.labels,
        patients=data.patients,
        ids=data.ids,
        class_names=data.class_names,
    )
    with pytest.raises(UserError, match="bare has no masks"):
        Outline().fit(nn.Identity(), bare)
