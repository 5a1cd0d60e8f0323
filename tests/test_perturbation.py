"""Occlusion, LIME, Kernel SHAP and RISE against captum, loops by hand and linear networks."""

import pytest
import torch
from captum import attr
from captum._utils.models.linear_model import SkLearnRidge
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.perturbation import CELLS, LIME, KernelSHAP, Occlusion, superpixels
from baselines.rise import KEPT, MASKS, MASKS_A_STEP, RISE, random_masks
from vinet_bench.check_one import example_case
from vinet_bench.checks import MethodCase
from vinet_bench.seeds import picture_generators


def linear(case: MethodCase) -> tuple[nn.Module, Tensor]:
    """A linear network, and the weights (B, H, W) of each picture's class."""
    layer = nn.Linear(32 * 32, 5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nn.init.normal_(layer.weight)
    model = nn.Sequential(nn.Flatten(), layer).requires_grad_(False)
    return model, layer.weight[case.targets].view(-1, 32, 32)


def by_cell(pixels: Tensor) -> Tensor:
    """Every pixel's cell summed, (B, 32, 32)."""
    side = 32 // CELLS
    sums = F.avg_pool2d(pixels[:, None], side, divisor_override=1)
    return sums.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, 0]


def test_superpixels_are_64_cells_of_any_size() -> None:
    for size in ((32, 32), (20, 31), (8, 8)):
        cells = superpixels(torch.Size(size))
        assert cells.shape == (1, 1, *size)
        assert set(cells.flatten().tolist()) == set(range(64))
    assert superpixels(torch.Size((16, 16)))[0, 0, :3, :3].tolist() == [[0, 0, 1]] * 2 + [[8, 8, 9]]


def test_occlusion_is_the_librarys_map() -> None:
    case = example_case(Occlusion)
    expected = attr.Occlusion(case.model).attribute(
        case.images, target=case.targets, sliding_window_shapes=(1, 4, 4), strides=(1, 2, 2)
    )
    maps = case.explain(case.images, case.targets)
    torch.testing.assert_close(maps, expected[:, 0], rtol=0, atol=1e-5)
    assert maps.abs().max() > 1e-3


def test_occlusion_of_a_linear_network_is_what_the_squares_hold() -> None:
    case = example_case(Occlusion)
    model, weights = linear(case)
    maps = Occlusion().fit(model, case.data).explain(case.images, case.targets)
    held = F.avg_pool2d((weights * case.images[:, 0])[:, None], 4, 2, divisor_override=1)
    # The inner pixels lie in four squares each.
    expected = F.avg_pool2d(held, 2, 1)[:, 0].repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(maps[:, 2:-2, 2:-2], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [LIME, KernelSHAP])
def test_surrogates_are_the_librarys_map(method: type[LIME | KernelSHAP]) -> None:
    case = example_case(method)
    maps = case.explain(case.images, case.targets)
    library = attr.KernelShap(case.model)
    if method is LIME:
        library = attr.Lime(case.model, SkLearnRidge(alpha=1.0))
    for image, target, m in zip(case.images, case.targets, maps, strict=True):
        (draw,) = picture_generators(image[None], method.__name__)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw.initial_seed())
            expected = library.attribute(
                image[None],
                target=int(target),
                feature_mask=superpixels(image.shape[-2:]),
                n_samples=256,
            )
        torch.testing.assert_close(m, expected[0, 0], rtol=1e-3, atol=1e-5)


def test_kernel_shap_of_a_linear_network_is_what_each_cell_adds() -> None:
    case = example_case(KernelSHAP)
    model, weights = linear(case)
    maps = KernelSHAP().fit(model, case.data).explain(case.images, case.targets)
    expected = by_cell(weights * case.images[:, 0])
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-2 * expected.abs().max().item())


def test_lime_of_a_linear_network_orders_the_cells_by_what_they_add() -> None:
    case = example_case(LIME)
    model, weights = linear(case)
    maps = LIME().fit(model, case.data).explain(case.images, case.targets)
    expected = by_cell(weights * case.images[:, 0])
    for m, e in zip(maps[:, ::4, ::4], expected[:, ::4, ::4], strict=True):
        assert torch.corrcoef(torch.stack([m.flatten(), e.flatten()]))[0, 1] > 0.99


def test_rise_is_the_sum_of_its_masks_by_hand() -> None:
    case = example_case(RISE)
    maps = case.explain(case.images, case.targets)
    for image, target, m in zip(case.images, case.targets, maps, strict=True):
        (draws,) = picture_generators(image[None], "RISE")
        total = torch.zeros(32, 32)
        for _ in range(MASKS // MASKS_A_STEP):
            for mask in random_masks(MASKS_A_STEP, image.shape[-2:], draws):
                score = case.model((image * mask)[None]).softmax(dim=1)[0, target]
                total += score * mask
        torch.testing.assert_close(m, total / (MASKS * KEPT), rtol=1e-4, atol=1e-6)


def test_rises_masks_are_smooth_and_keep_half() -> None:
    masks = random_masks(500, torch.Size((32, 45)), torch.Generator().manual_seed(0))
    assert masks.shape == (500, 32, 45)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert abs(masks.mean() - KEPT) < 0.02
    assert (masks.mean(dim=0) - KEPT).abs().max() < 0.1  # no pixel is favoured
    assert masks.diff(dim=1).abs().max() <= 1 / 5 + 1e-6  # a cell of 5 rows from 0 to 1
    assert not torch.equal(masks[0], masks[1])


class SeesOnePlace(nn.Module):
    """Class 1 is as sure as the top left corner is bright."""

    def forward(self, images: Tensor) -> Tensor:
        bright = 10 * images[:, 0, :8, :8].mean(dim=(1, 2)) - 5
        return torch.stack([-bright, bright], dim=1)


@pytest.mark.parametrize("method", [Occlusion, LIME, KernelSHAP, RISE])
def test_what_the_network_sees_is_found(method: type[RISE]) -> None:
    case = example_case(method)
    images = torch.ones(2, 1, 32, 32)
    maps = method().fit(SeesOnePlace(), case.data).explain(images, torch.tensor([1, 1]))
    for m in maps:
        assert m[:8, :8].mean() > m.mean() + 2 * m[8:, 8:].std() - 1e-6
        assert m[:8, :8].mean() > m[8:].max() - 0.1 * (m.max() - m.min())
