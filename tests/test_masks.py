"""Eq. 9 and 10: which pixels are reserved, and what becomes of the others."""

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Generator, Tensor

from vinet_bench.masks import SCALINGS, fraction, keep, remove, reserved, scale, top_k
from vinet_bench.seeds import picture_generators


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def one_map(*values: float) -> Tensor:
    """One map of one row."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, -1)


# -- Eq. 9


def test_the_papers_threshold_reserves_a_tenth_and_more() -> None:
    mask = reserved(one_map(0.0, 0.0999, 0.1, 0.5, 1.0), 0.9)
    assert mask.dtype == torch.bool
    assert mask.flatten().tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("threshold", [0.9, 0.8, 0.7, 0.5, 0.3])
def test_the_boundary_is_the_nearest_float_to_one_minus_t(threshold: float) -> None:
    boundary = np.float32(round(1 - threshold, 3))
    below = np.nextafter(boundary, np.float32(0))
    mask = reserved(one_map(float(below), float(boundary)), threshold)
    assert mask.flatten().tolist() == [False, True]


def test_reserved_pixels_are_those_that_the_floor_counts() -> None:
    maps = torch.rand(2, 20, 20, generator=seeded())
    for threshold in (0.3, 0.5, 0.9):
        floor = (maps.double() + threshold).floor()
        assert torch.equal(reserved(maps, threshold), floor.bool())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_only_float32_maps_have_a_boundary(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="float32"):
        reserved(one_map(0.1).to(dtype), 0.9)


def test_fractions_kept_and_removed_add_up() -> None:
    masks = reserved(one_map(0.0, 0.05, 0.2, 0.9, 0.01), 0.9)
    assert fraction(masks) == pytest.approx(0.4)
    assert fraction(~masks) == pytest.approx(0.6)
    two = torch.cat([masks, torch.zeros_like(masks)])
    assert fraction(two) == pytest.approx(0.2)


# -- equal budgets


def test_top_k_by_hand() -> None:
    mask = top_k(one_map(0.3, -1.0, 0.9, 0.5), 2, [seeded()])
    assert mask.flatten().tolist() == [False, False, True, True]


@pytest.mark.parametrize("k", [0, 1, 5, 11, 12])
def test_exactly_k_pixels_even_with_ties(k: int) -> None:
    maps = torch.zeros(3, 3, 4)
    maps[:, 0, 0], maps[:, 2, 1] = 1, -1
    masks = top_k(maps, k, [seeded(i) for i in range(3)])
    assert masks.sum(dim=(1, 2)).tolist() == [k] * 3
    assert masks[:, 0, 0].all() == (k > 0)
    assert masks[:, 2, 1].any() == (k == 12)


def test_ties_are_spread_evenly_over_the_picture() -> None:
    draws = 4000
    masks = top_k(torch.zeros(draws, 4, 4), 4, [seeded(i) for i in range(draws)])
    share = masks.double().mean(dim=0)
    # Five standard errors of a share of 1/4
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / draws) ** 0.5


def test_ties_are_broken_by_the_picture_whatever_the_batch() -> None:
    pictures, maps = torch.rand(3, 1, 6, 6, generator=seeded()), torch.zeros(3, 6, 6)
    together = top_k(maps, 9, picture_generators(pictures, "ties"))
    assert torch.equal(together, top_k(maps, 9, picture_generators(pictures, "ties")))
    for i in range(3):
        alone = top_k(maps[i : i + 1], 9, picture_generators(pictures[i : i + 1], "ties"))
        assert torch.equal(alone[0], together[i])
    turned = top_k(maps, 9, picture_generators(pictures.flip(0), "ties"))
    assert torch.equal(turned.flip(0), together)
    assert not torch.equal(together[0], together[1])


def test_one_generator_for_each_map() -> None:
    with pytest.raises(ValueError, match="zip"):
        top_k(torch.zeros(2, 3, 3), 1, [seeded()])


# -- scalings


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("as-is", (-2.0, 0.0, 1.0, 2.0)),
        ("minmax", (0.0, 0.5, 0.75, 1.0)),
        ("positive", (0.0, 0.0, 0.5, 1.0)),
        ("absolute", (1.0, 0.0, 0.5, 1.0)),
    ],
)
def test_scalings_by_hand(policy: str, expected: tuple[float, ...]) -> None:
    torch.testing.assert_close(scale(one_map(-2, 0, 1, 2), policy), one_map(*expected))


@pytest.mark.parametrize("policy", ["minmax", "positive", "absolute"])
@pytest.mark.parametrize("value", [-3.0, 0.0, 1e-30, 0.2, 3.0])
def test_a_constant_map_reserves_nothing(policy: str, value: float) -> None:
    assert torch.equal(scale(torch.full((1, 3, 3), value), policy), torch.zeros(1, 3, 3))


def test_a_map_with_nothing_positive_reserves_nothing() -> None:
    assert torch.equal(scale(one_map(-3, -1, 0), "positive"), one_map(0, 0, 0))


def test_each_map_is_scaled_alone() -> None:
    maps = torch.cat([one_map(0, 1, 2), 100 * one_map(0, 2, 1), one_map(5, 5, 5)])
    for policy in SCALINGS:
        singly = torch.cat([scale(maps[i : i + 1], policy) for i in range(3)])
        assert torch.equal(scale(maps, policy), singly)


MAP_VALUES = st.floats(-(2.0**100), 2.0**100, width=32)


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(st.lists(MAP_VALUES, min_size=2, max_size=12))
def test_scaled_maps_lie_between_0_and_1_and_keep_the_order(values: list[float]) -> None:
    raw = one_map(*values)
    for policy in ("minmax", "positive", "absolute"):
        scaled = scale(raw, policy)
        assert ((scaled >= 0) & (scaled <= 1)).all()
        order = raw.abs() if policy == "absolute" else raw
        assert (scaled.flatten()[order.flatten().argsort()].diff() >= 0).all()


# -- keep and remove


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
    st.integers(0, 2**32 - 1), st.sampled_from([torch.uint8, torch.float16, torch.float32])
)
def test_what_is_kept_and_what_is_removed_make_the_picture(seed: int, dtype: torch.dtype) -> None:
    images = (torch.rand(2, 1, 5, 4, generator=seeded(seed)) * 255).to(dtype)
    masks = torch.rand(2, 5, 4, generator=seeded(seed + 1)) < 0.4
    before = images.clone()
    kept, rest = keep(images, masks), remove(images, masks)
    assert kept.dtype == rest.dtype == dtype
    assert torch.equal(kept + rest, images)
    assert torch.equal(kept[:, 0][masks], images[:, 0][masks])
    assert not kept[:, 0][~masks].any()
    assert not rest[:, 0][masks].any()
    assert torch.equal(images, before)


def test_polarity_by_hand() -> None:
    image = torch.tensor([[[[10, 20], [30, 40]]]], dtype=torch.uint8)
    mask = torch.tensor([[[True, False], [False, True]]])
    assert keep(image, mask).flatten().tolist() == [10, 0, 0, 40]
    assert remove(image, mask).flatten().tolist() == [0, 20, 30, 0]
