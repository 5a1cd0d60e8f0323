"""Entropy, Gini's index, effective area and counted arithmetic."""

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import entropy
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vinet_bench.complexity import effective_areas, entropies, ginis
from vinet_bench.operations import count_operations

FIGURES = (entropies, ginis, effective_areas)


def maps(seed: int = 0, n: int = 4, side: int = 6) -> NDArray[np.float64]:
    """Skewed maps, a fifth of each exactly 0."""
    rng = np.random.default_rng(seed)
    found: NDArray[np.float64] = rng.gamma(0.5, size=(n, side, side))
    found[rng.random(found.shape) < 0.2] = 0
    found[:, 0, 0] = 1
    return found


def test_an_even_map_and_a_single_pixel() -> None:
    even, single = np.ones((1, 4, 5)), np.zeros((1, 4, 5))
    single[0, 1, 2] = 7
    nothing = np.zeros((1, 4, 5))
    for spread_out in (even, nothing):
        assert entropies(spread_out).item() == pytest.approx(1)
        assert ginis(spread_out).item() == pytest.approx(0, abs=1e-12)
        assert effective_areas(spread_out).item() == pytest.approx(0.9)
    assert entropies(single).item() == 0
    assert ginis(single).item() == pytest.approx(1 - 1 / 20)
    assert effective_areas(single).item() == pytest.approx(1 / 20)


def test_entropy_agrees_with_scipy() -> None:
    wanted = [entropy(one.ravel()) / np.log(36) for one in maps()]
    np.testing.assert_allclose(entropies(maps()), wanted)


def test_gini_is_half_the_mean_difference_of_two_pixels_over_the_mean() -> None:
    for one, gini in zip(maps(), ginis(maps()), strict=True):
        values = one.ravel()
        differences = np.abs(values[:, None] - values[None, :]).mean()
        assert gini == pytest.approx(differences / (2 * values.mean()))


def test_entropy_and_gini_agree_with_quantus() -> None:
    quantus = pytest.importorskip("quantus")  # brings a second OpenCV along: not in the extras
    named = {"abs": False, "normalise": False, "disable_warnings": True}
    flat = maps().reshape(4, -1)
    theirs = quantus.Sparseness(**named).evaluate_batch(None, flat.copy())
    np.testing.assert_allclose(ginis(maps()), theirs, atol=1e-4)  # it adds 1e-7 to every pixel
    theirs = quantus.Complexity(**named).evaluate_batch(None, flat.copy())
    np.testing.assert_allclose(entropies(maps()), theirs / np.log(36), atol=1e-8)


@hypothesis.given(st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_bounds_scale_order_and_batch(seed: int, scale: float) -> None:
    some = maps(seed)
    for figure in FIGURES:
        whole = figure(some)
        assert ((whole >= 0) & (whole <= 1)).all()
        np.testing.assert_allclose(figure(scale * some), whole)
        np.testing.assert_allclose(figure(some[::-1]), whole[::-1])
        np.testing.assert_allclose(np.concatenate([figure(some[[i]]) for i in range(4)]), whole)
        shuffled = np.random.default_rng(seed).permutation(some.reshape(4, -1), axis=1)
        np.testing.assert_allclose(figure(shuffled.reshape(some.shape)), whole)


def test_negative_relevance_is_refused() -> None:
    for figure in FIGURES:
        with pytest.raises(ValueError, match="negative"):
            figure(-maps())


# -- cost


def a_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(192, 2))


def test_a_forward_pass_by_hand() -> None:
    model, pictures = a_network(), torch.rand(5, 1, 8, 8)
    multiplications = 5 * (64 * 3 * 9 + 192 * 2)
    assert count_operations(lambda: model(pictures)) == 2 * multiplications


def test_forwards_and_backwards_as_torch_counts_them() -> None:
    model, pictures = a_network(), torch.rand(5, 1, 8, 8)

    def work() -> None:
        model(pictures).sum().backward()

    counter = FlopCounterMode(display=False)
    with counter:
        work()
    assert count_operations(work) == counter.get_total_flops()


def test_a_gradient_at_the_input_counts_too() -> None:
    model, pictures = a_network().requires_grad_(False), torch.rand(5, 1, 8, 8).requires_grad_()
    forward = count_operations(lambda: model(pictures))
    both = count_operations(lambda: torch.autograd.grad(model(pictures).sum(), pictures))
    assert both == 2 * forward
