"""Sanity checks: weights are exchanged from the end on, and who ignores the network is caught."""

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import baselines
from protocols.sanity import STAGES
from tests.tables import lines
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.methods import MethodInfo
from vinet_bench.metrics import rank_correlations, structural_similarities
from vinet_bench.models import build_vinet
from vinet_bench.networks import build_classifier
from vinet_bench.plan import make_plan
from vinet_bench.presets import PRESETS
from vinet_bench.randomisation import layers, randomised
from vinet_bench.run import run
from vinet_bench.stored_run import read_run
from vinet_bench.training import fit
from vinet_bench.vinet import VINet

CHANGES = ["phantom.slices=60", "vinet.epochs=1", "explained.epochs=1"]


def two_classifiers() -> tuple[nn.Module, nn.Module]:
    one, other = (build_classifier("vgg16", 5, seed, 0.25).eval() for seed in (0, 1))
    return one, other


def exchanged(model: nn.Module, mixed: nn.Module) -> list[str]:
    """The layers whose weights differ."""
    return [
        name
        for name in layers(model)
        if not torch.equal(
            model.get_submodule(name).get_parameter("weight"),
            mixed.get_submodule(name).get_parameter("weight"),
        )
    ]


@pytest.mark.parametrize("count", [1, 5, 14])
def test_the_last_layers_become_another_networks(count: int) -> None:
    model, fresh = two_classifiers()
    before = copy.deepcopy(model.state_dict())
    mixed = randomised(model, fresh, count)
    assert len(layers(model)) == 14
    assert exchanged(model, mixed) == layers(model)[14 - count :]
    assert exchanged(fresh, mixed) == layers(model)[: 14 - count]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_network_randomised_whole_is_the_fresh_one() -> None:
    model, fresh = two_classifiers()
    pictures = torch.rand(2, 1, 32, 32)
    whole = randomised(model, fresh, len(layers(model)))
    with torch.no_grad():
        assert torch.equal(whole(pictures), fresh(pictures))


def test_of_a_vinet_the_maps_own_network_is_randomised() -> None:
    wanted = PRESETS["smoke"].settings.vinet
    one, other = (build_vinet(wanted, 5, (32, 32), seed).eval() for seed in (0, 1))
    mixed = randomised(one, other, len(layers(one)))
    pictures = torch.rand(2, 1, 32, 32)
    assert isinstance(mixed, VINet)
    with torch.no_grad():
        assert torch.equal(mixed.importance_map(pictures), other.importance_map(pictures))
        assert torch.equal(mixed.classifier(pictures), one.classifier(pictures))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 20))
def test_similarities_have_bounds_and_know_no_scale(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.random((2, 3, 16, 16))
    for alike in (rank_correlations, structural_similarities):
        found = alike(one, other)
        assert (np.abs(found) <= 1).all()
        assert alike(one, one) == pytest.approx(1)
        assert alike(factor * one + 3, other) == pytest.approx(found)
        assert alike(one[1:2], other[1:2]) == pytest.approx(found[1:2])


def test_ssim_of_a_worked_case() -> None:
    """Against a constant map, which is 0: SSIM = C1 C2 / ((m^2 + C1)(v + C2)) in every window."""
    board = (np.indices((16, 16)).sum(axis=0) % 2).astype(float)
    found = structural_similarities(board[None], np.zeros((1, 16, 16)))
    mean, variance = 0.5, 0.25  # a Gaussian window of sigma 1.5 weighs both colours alike
    expected = 1e-4 * 9e-4 / ((mean**2 + 1e-4) * (variance + 9e-4))
    assert found == pytest.approx(expected, rel=0.01)


# ---- whole runs


class Blind:
    """The picture itself, whatever the network."""

    info = MethodInfo("blind", "Blind", "none")

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return images[:, 0]


def test_who_ignores_the_network_is_alike_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def counted(model: Any, *rest: Any) -> Any:
        trained.append(type(model).__name__)
        return fit(model, *rest)

    monkeypatch.setattr("vinet_bench.trained.fit", counted)
    monkeypatch.setitem(baselines.METHODS, "blind", Blind)
    methods = ["vinet", "saliency", "blind", "random"]
    plan = make_plan(preset="smoke", methods=methods, seeds=2, changes=CHANGES)
    outcome = run(["sanity"], plan, tmp_path / "run", "cpu")
    assert outcome.failed == ()
    # Two seeds, each the other's new seed, and two with shuffled labels.
    assert sorted(trained) == ["VGGGAP"] * 4 + ["VINet"] * 4
    found = lines(tmp_path / "run", "sanity")
    assert list(found) == ["vinet", "saliency", "blind"]  # a control has no network
    others = [*STAGES, "seed", "labels"]
    for network in others:
        assert float(found["blind"][f"spearman_{network}"]) == pytest.approx(1)
        assert float(found["blind"][f"ssim_{network}"]) == pytest.approx(1)
        assert float(found["saliency"][f"spearman_{network}"]) < 0.9
    assert float(found["saliency"]["ssim_all"]) < 0.9
    assert float(found["vinet"]["spearman_all"]) < 0.9
    assert 0 < float(found["vinet"]["labels_learnt"]) < 0.6


def test_more_pictures_change_no_pictures_score(tmp_path: Path) -> None:
    """A subset's scores are those of the same pictures in a larger one."""
    scores = []
    for count in (5, 9):
        changes = [*CHANGES, f"evaluation.pictures={count}"]
        plan = make_plan(preset="smoke", methods=["saliency"], changes=changes)
        folder = tmp_path / "run"
        assert run(["sanity"], plan, folder, "cpu").failed == ()
        done = read_run(folder)
        (cell,) = {record.cell for record in done.records}
        scores.append(done.scores(cell)["spearman_all"])
    few, more = scores
    there = ~np.isnan(few)
    assert (there.sum(), (~np.isnan(more)).sum()) == (5, 9)
    assert few[there] == pytest.approx(more[there], abs=1e-5)
