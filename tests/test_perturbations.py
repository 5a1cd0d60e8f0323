"""Changed pictures, and how far maps move with them."""

from typing import cast

import hypothesis
import numpy as np
import pytest
import torch
from captum.attr import Saliency
from captum.metrics import sensitivity_max
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor, nn

from vinet_bench.metrics import rank_correlations
from vinet_bench.perturbations import (
    blurred,
    centre_crop,
    normal_noise,
    random_squares,
    random_subsets,
    uniform_noise,
    zoomed,
)
from vinet_bench.robustness import relative_changes


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def pictures(n: int = 3, side: int = 12) -> Tensor:
    return torch.rand(n, 1, side, side, generator=seeded())


# -- pictures


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_the_blurred_picture_is_scipys(share: float) -> None:
    images, sigma = pictures(side=20), share * 20
    radius = min(int(np.ceil(3 * sigma)), 19)
    wanted = [
        gaussian_filter(i[0].double().numpy(), sigma, mode="mirror", radius=radius) for i in images
    ]
    np.testing.assert_allclose(blurred(images, share)[:, 0].numpy(), wanted, atol=1e-5)


@hypothesis.given(st.integers(0, 2**31), st.integers(1, 60))
def test_subsets_have_exactly_so_many_pixels(seed: int, n: int) -> None:
    masks = random_subsets((6, 10), n, 5, seeded(seed))
    assert masks.sum(dim=(1, 2)).tolist() == [n] * 5
    assert torch.equal(masks, random_subsets((6, 10), n, 5, seeded(seed)))


def test_every_pixel_is_drawn_as_often() -> None:
    draws = 4000
    share = random_subsets((4, 5), 5, draws, seeded()).double().mean(dim=0)
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / draws) ** 0.5  # five standard errors


def test_squares_are_squares_inside_the_picture_and_reach_every_pixel() -> None:
    masks = random_squares((8, 11), 2000, seeded())
    heights, widths = (masks.any(dim=axis).sum(dim=1) for axis in (2, 1))
    assert torch.equal(heights, widths)
    assert torch.equal(masks.sum(dim=(1, 2)), heights * widths)
    assert (int(heights.min()), int(heights.max())) == (1, 4)
    assert masks.any(dim=0).all()


def test_noise_is_bounded_and_each_pictures_own() -> None:
    images = pictures(4, 40)
    draws = [seeded(i) for i in range(4)]
    noise = uniform_noise(images, 0.02, draws)
    assert noise.abs().max() <= 0.02
    assert noise.std().item() == pytest.approx(0.02 / 3**0.5, rel=0.05)
    alone = uniform_noise(images[2:3], 0.02, [seeded(2)])
    assert torch.equal(alone[0], noise[2])
    normal = normal_noise(images, [seeded(i) for i in range(4)])
    assert normal.std().item() == pytest.approx(1, rel=0.05)
    assert torch.equal(normal_noise(images[1:2], [seeded(1)])[0], normal[1])


def smooth(side: int) -> Tensor:
    """Two blobs off the centre, (1, 1, side, side)."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    blobs = torch.exp(-8 * ((x - 0.3) ** 2 + y**2)) + torch.exp(-8 * (x**2 + (y + 0.4) ** 2))
    return blobs[None, None]


def test_zooming_by_hand() -> None:
    assert torch.allclose(zoomed(smooth(32), 1.0), smooth(32), atol=1e-5)
    half = zoomed(smooth(64), 0.5)[0, 0]
    # Twice as large about the centre: (32, 40) shows what lies half as far from it, (31.75, 35.75).
    near = smooth(64)[0, 0, 31:33, 35:37]
    wanted = torch.tensor([0.25, 0.75]) @ near @ torch.tensor([0.25, 0.75])
    assert half[32, 40].item() == pytest.approx(wanted.item(), abs=1e-5)


def test_what_is_zoomed_and_zoomed_back_is_there_again() -> None:
    there = centre_crop(smooth(64)[:, 0], 0.8)
    back = centre_crop(zoomed(zoomed(smooth(64), 0.8), 1 / 0.8)[:, 0], 0.8)
    assert there.shape == back.shape == (1, 50, 50)
    assert (there - back).abs().max() < 0.02
    assert (there - centre_crop(zoomed(smooth(64), 0.8)[:, 0], 0.8)).abs().max() > 0.2


# -- maps


def a_network() -> nn.Module:
    state = torch.get_rng_state()
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(400, 3)).eval()
    torch.set_rng_state(state)
    return model


def test_max_sensitivity_is_captums_on_the_same_copies() -> None:
    images, targets = pictures(), torch.tensor([0, 2, 1])
    noise = torch.stack([uniform_noise(images, 0.1, [seeded(9 * i + j) for j in range(3)])
                         for i in range(6)])  # fmt: skip
    method = Saliency(a_network())

    def explain(some: Tensor, classes: Tensor) -> Tensor:
        with torch.enable_grad():
            inputs = some.clone().requires_grad_()
            return cast(Tensor, method.attribute(inputs, target=classes)).detach()

    maps = explain(images, targets)[:, 0].numpy()
    copies = [explain(images + some, targets)[:, 0].numpy() for some in noise]
    changes = [relative_changes(maps, copy) for copy in copies]
    by_picture = noise.transpose(0, 1).flatten(0, 1)  # captum repeats each picture in turn
    theirs = sensitivity_max(
        lambda inputs, target: (explain(inputs[0], target),), (images,),
        lambda inputs: (inputs + by_picture,), n_perturb_samples=6, target=targets,
    )  # fmt: skip
    np.testing.assert_allclose(np.max(changes, axis=0), theirs.numpy(), rtol=1e-5)
    assert theirs.min() > 0


def test_relative_changes_by_hand() -> None:
    maps = np.array([[[3.0, 4.0]], [[0.0, 0.0]], [[1.0, 0.0]]])
    others = np.array([[[0.0, 0.0]], [[0.6, 0.8]], [[1.0, 0.0]]])
    np.testing.assert_allclose(relative_changes(maps, others), [1, 1, 0])


@hypothesis.given(st.integers(0, 2**31), st.floats(0.1, 10))
def test_figures_of_maps_keep_to_scale_order_and_batch(seed: int, scale: float) -> None:
    maps, others = np.random.default_rng(seed).normal(size=(2, 4, 5, 5))
    for figure in (relative_changes, rank_correlations):
        whole = figure(maps, others)
        np.testing.assert_allclose(figure(scale * maps, scale * others), whole)
        np.testing.assert_allclose(figure(maps[::-1], others[::-1]), whole[::-1])
        singly = [figure(maps[[i]], others[[i]]) for i in range(4)]
        np.testing.assert_allclose(np.concatenate(singly), whole)
    np.testing.assert_allclose(
        rank_correlations(np.exp(maps), others**3), rank_correlations(maps, others)
    )
