"""Noisy linear imputation against a dense solve and grad-cam's, and what grad-cam gets wrong."""

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADMostRelevantFirst
from torch import Generator, Tensor

from vinet_bench.imputation import NOISE, _by_steps, _directly, impute
from vinet_bench.masks import most_relevant, ranking

WEIGHTS = {(y, x): 1 / 12 if y and x else 1 / 6 for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x}


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def pictures(n: int, side: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.rand(n, 1, *side, generator=seeded(seed))


def without_noise(images: Tensor, masks: Tensor) -> Tensor:
    return impute(images, masks, torch.zeros_like(images))


def densely(image: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The equations written out for every missing pixel and solved as one dense system."""
    places = [tuple(place) for place in np.argwhere(mask)]
    number = {place: i for i, place in enumerate(places)}
    system, right = np.zeros((len(places),) * 2), np.zeros(len(places))
    for (y, x), i in number.items():
        for (down, across), weight in WEIGHTS.items():
            other = (y + down, x + across)
            if not (0 <= other[0] < image.shape[0] and 0 <= other[1] < image.shape[1]):
                continue
            system[i, i] += weight
            if other in number:
                system[i, number[other]] -= weight
            else:
                right[i] += weight * image[other]
    found = image.copy()
    found[mask] = np.linalg.solve(system, right)
    return found


def holes(side: tuple[int, int]) -> Tensor:
    """Scattered pixels, a disc, half the picture, all but one pixel, and none."""
    height, width = side
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    scattered = torch.rand(height, width, generator=seeded(7)) < 0.5
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (0.4 * height) ** 2
    all_but_one = torch.ones(height, width, dtype=torch.bool)
    all_but_one[2, 3] = False
    return torch.stack([scattered, disc, x < width / 2, all_but_one, torch.zeros_like(disc)])


def test_all_pictures_at_once_equal_a_dense_solve() -> None:
    masks = holes((20, 17))
    images = pictures(len(masks), (20, 17))
    found = without_noise(images, masks)
    for image, mask, imputed in zip(images, masks, found, strict=True):
        wanted = densely(image[0].double().numpy(), mask.numpy())
        assert np.abs(imputed[0].numpy() - wanted).max() < 1e-5


def test_steps_on_a_gpu_and_the_direct_solution_agree() -> None:
    masks = holes((20, 17))
    images = pictures(len(masks), (20, 17)).double()
    stepped, direct = (solve(images, masks[:, None].double()) for solve in (_by_steps, _directly))
    torch.testing.assert_close(stepped, direct, atol=1e-6, rtol=0)
    assert direct[3].max() > 0


def test_imputation_by_hand() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    centre, corner = torch.zeros(2, 3, 3, dtype=torch.bool)
    centre[1, 1] = corner[0, 0] = True
    found = without_noise(image.expand(2, -1, -1, -1), torch.stack([centre, corner]))
    assert found[0, 0, 1, 1].item() == pytest.approx((1 + 3 + 5 + 7) / 6 + (0 + 2 + 6 + 8) / 12)
    # In the corner three neighbours are left, and their weights are brought to 1.
    assert found[1, 0, 0, 0].item() == pytest.approx((1 / 6 * 1 + 1 / 6 * 3 + 1 / 12 * 4) * 12 / 5)


def test_the_same_as_grad_cams_imputer() -> None:
    masks = holes((14, 12))[:3]
    images = pictures(len(masks), (14, 12))
    found = without_noise(images, masks)
    for image, mask, imputed in zip(images, masks, found, strict=True):
        theirs = NoisyLinearImputer(noise=0)(image, (~mask).float())
        torch.testing.assert_close(imputed, theirs, atol=1e-5, rtol=0)


def test_grad_cam_removes_all_where_most_of_a_map_is_tied() -> None:
    """Its threshold is a percentile: asked for 20 % of a map that is 0 on 90 %, it takes all."""
    image, one_map = pictures(1, (10, 10)), torch.zeros(1, 10, 10)
    one_map[0, 0] = torch.arange(1.0, 11.0)
    road = ROADMostRelevantFirst(percentile=80)
    road.perturbation.imputer = lambda _, kept: kept
    assert not road.perturbation(image[0], one_map[0]).any()
    ours = most_relevant(ranking(one_map, [seeded()]), 20)
    assert ours.sum() == 20
    assert ours[0, 0].all()


def test_noise_is_added_to_what_is_imputed_alone() -> None:
    images, masks = pictures(5, (12, 12)), holes((12, 12))
    noise = torch.randn(images.shape, generator=seeded(1))
    added = impute(images, masks, noise) - without_noise(images, masks)
    torch.testing.assert_close(added, NOISE * noise * masks[:, None], atol=1e-6, rtol=0)


def test_a_picture_that_is_all_gone_is_noise() -> None:
    images, noise = pictures(2, (6, 6)), torch.randn(2, 1, 6, 6, generator=seeded(1))
    masks = torch.ones(2, 6, 6, dtype=torch.bool)
    masks[1] = False
    found = impute(images, masks, noise)
    assert torch.equal(found[0], NOISE * noise[0])
    assert torch.equal(found[1], images[1])


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(st.integers(0, 2**31), st.floats(0.05, 0.95))
def test_no_picture_depends_on_its_batch(seed: int, share: float) -> None:
    images = pictures(3, (9, 11), seed)
    masks = torch.rand(3, 9, 11, generator=seeded(seed + 1)) < share
    masks[0] = False
    masks[0, 2:7, 2:7] = True  # takes more steps than the others
    together = without_noise(images, masks)
    turned = without_noise(images.flip(0), masks.flip(0)).flip(0)
    singly = torch.cat([without_noise(images[i : i + 1], masks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, turned, atol=1e-6, rtol=0)
    torch.testing.assert_close(together, singly, atol=1e-6, rtol=0)


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(st.integers(0, 2**31), st.floats(0.05, 0.9))
def test_what_is_imputed_lies_between_what_is_known(seed: int, share: float) -> None:
    images = pictures(2, (8, 8), seed)
    masks = torch.rand(2, 8, 8, generator=seeded(seed + 1)) < share
    masks[:, 0, 0] = False
    for image, mask, found in zip(images, masks, without_noise(images, masks), strict=True):
        known = image[0][~mask]
        assert (found >= known.min() - 1e-5).all()
        assert (found <= known.max() + 1e-5).all()
        assert torch.equal(found[0][~mask], known)
