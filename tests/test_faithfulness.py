"""Infidelity and sensitivity-n by hand and against captum and scipy."""

import hypothesis
import numpy as np
import pytest
import torch
from captum.metrics import infidelity
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import pearsonr
from torch import Generator, Tensor, nn

from protocols.faithfulness import logit_falls, map_sums
from vinet_bench.faithfulness import correlations, infidelities
from vinet_bench.machine import Machine
from vinet_bench.models import build_vinet
from vinet_bench.perturbations import random_squares, random_subsets
from vinet_bench.prediction import predict_logits
from vinet_bench.presets import PRESETS

CPU = Machine(torch.device("cpu"), bfloat16=False)
Pairs = tuple[NDArray[np.float64], NDArray[np.float64]]


def a_network(linear: bool = False) -> nn.Module:
    """3 classes from pictures of 8 x 8, with weights of its own."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(3)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, 3)]
    if not linear:
        layers = [nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(256, 3)]
    torch.set_rng_state(torch_state)
    return nn.Sequential(*layers).eval()


def pictures(n: int = 4) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=Generator().manual_seed(1))


def squares(n: int, count: int) -> Tensor:
    draws = [Generator().manual_seed(10 + i) for i in range(n)]
    return torch.stack([random_squares((8, 8), count, g) for g in draws], dim=1)


def subsets(n: int, count: int, pixels: int) -> Tensor:
    draws = [Generator().manual_seed(20 + i) for i in range(n)]
    return torch.stack([random_subsets((8, 8), pixels, count, g) for g in draws], dim=1)


def measured(model: nn.Module, images: Tensor, maps: Tensor, sets: Tensor) -> Pairs:
    falls = logit_falls(model, images, {"sets": sets}, CPU, 0)
    return map_sums(maps, {"sets": sets})["sets"], falls["sets"]


def test_infidelity_is_captums_on_the_same_sets() -> None:
    model, images, sets = a_network(), pictures(), squares(4, 30)
    maps = torch.randn(4, 8, 8, generator=Generator().manual_seed(5))
    sums, falls = measured(model, images, maps, sets)
    by_picture = sets.transpose(0, 1).flatten(0, 1)[:, None]  # captum repeats each picture in turn

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        return by_picture.float(), inputs.masked_fill(by_picture, 0)

    with torch.no_grad():
        classes = model(images).argmax(dim=1)
        theirs = infidelity(
            model, perturb, images, maps[:, None], target=classes, n_perturb_samples=30,
            normalize=True,
        )  # fmt: skip
    np.testing.assert_allclose(infidelities(sums, falls), theirs.numpy(), rtol=1e-4)


def test_a_linear_networks_own_terms_foretell_every_fall() -> None:
    model, images = a_network(linear=True), pictures()
    weights = model[1].weight.detach()[model(images).argmax(dim=1)].view(4, 8, 8)  # type: ignore[index]
    terms = weights * images[:, 0]
    sums, falls = measured(model, images, terms, squares(4, 20))
    assert infidelities(sums, falls).max() < 1e-9
    for pixels in (1, 6, 40):
        sums, falls = measured(model, images, terms, subsets(4, 20, pixels))
        assert correlations(sums, falls).min() > 0.9999
        assert correlations(-sums, falls).max() < -0.9999


@pytest.mark.parametrize("seed", range(3))
def test_sensitivity_n_is_pearsons_correlation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sums, falls = rng.normal(size=(2, 4, 25))
    wanted = [pearsonr(a, b).statistic for a, b in zip(sums, falls, strict=True)]
    np.testing.assert_allclose(correlations(sums, falls), wanted)


def test_a_map_that_foretells_nothing() -> None:
    falls = np.array([[1.0, -2.0, 3.0], [0.1, 0.1, 0.1]])
    nothing, flat = np.zeros_like(falls), np.full_like(falls, 0.1)
    np.testing.assert_allclose(infidelities(nothing, falls), (falls**2).mean(axis=1))
    assert correlations(flat, falls).tolist() == [0, 0]
    assert correlations(falls, falls).tolist() == [pytest.approx(1), 0]


PAIRS = st.integers(0, 2**31)


@hypothesis.given(PAIRS, st.floats(0.01, 100), st.booleans())
def test_the_scale_of_a_map_does_not_matter(seed: int, scale: float, turned: bool) -> None:
    sums, falls = np.random.default_rng(seed).normal(size=(2, 3, 10))
    np.testing.assert_allclose(correlations(scale * sums, falls), correlations(sums, falls))
    scale = -scale if turned else scale  # the best scale may be negative: a trap of infidelity
    np.testing.assert_allclose(infidelities(scale * sums, falls), infidelities(sums, falls))


@hypothesis.given(PAIRS)
def test_bounds_order_and_batch(seed: int) -> None:
    sums, falls = np.random.default_rng(seed).normal(size=(2, 4, 8))
    for figure in (infidelities, correlations):
        whole = figure(sums, falls)
        singly = np.concatenate([figure(sums[[i]], falls[[i]]) for i in range(4)])
        np.testing.assert_allclose(whole, singly)
        np.testing.assert_allclose(whole[::-1], figure(sums[::-1], falls[::-1]))
    assert np.abs(correlations(sums, falls)).max() <= 1 + 1e-12
    # At its best scale no map is worse than one that foretells nothing.
    assert (infidelities(sums, falls) <= (falls**2).mean(axis=1) + 1e-12).all()


def test_no_fall_depends_on_the_batch() -> None:
    model, images, sets = a_network(), pictures(), squares(4, 6)
    whole = logit_falls(model, images, {"s": sets}, CPU, 0)["s"]
    singly = [
        logit_falls(model, images[i : i + 1], {"s": sets[:, i : i + 1]}, CPU, 0)["s"]
        for i in range(4)
    ]
    np.testing.assert_allclose(whole, np.concatenate(singly), atol=1e-5)


def test_a_vinets_noise_can_be_that_of_the_untouched_picture() -> None:
    model = build_vinet(PRESETS["smoke"].settings.vinet, 3, (32, 32), seed=0)
    images = torch.rand(2, 1, 32, 32, generator=Generator().manual_seed(1))
    changed = images.masked_fill(squares(2, 1)[0].repeat(1, 4, 4)[:, None], 0)
    own = predict_logits(model, changed, CPU)
    shared = predict_logits(model, changed, CPU, noise_of=images)
    assert not torch.equal(own, shared)
    assert torch.equal(own, predict_logits(model, changed, CPU, noise_of=changed))
    alone = predict_logits(model, changed[1:], CPU, noise_of=images[1:])
    torch.testing.assert_close(shared[1:], alone, atol=1e-5, rtol=0)
    falls = logit_falls(model, images, {"s": squares(2, 1).repeat(1, 1, 4, 4)}, CPU, 0)["s"]
    before = predict_logits(model, images, CPU)
    wanted = (before - shared).gather(1, before.argmax(dim=1, keepdim=True))
    np.testing.assert_allclose(falls, wanted.numpy(), atol=1e-6)
