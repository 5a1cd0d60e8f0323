"""Localisation: worked cases, outside libraries, bounds, and the best and the expected value."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from protocols.localisation import METRICS, _as_many, _one_against_others
from tests.tables import lines
from vinet_bench.data import load_data
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.errors import CellError
from vinet_bench.localisation import (
    average_precision,
    consensus_of_present,
    dice,
    iou,
    mass_accuracy,
    pointing_hits,
    rank_accuracy,
    readers_of,
    size_thirds,
)
from vinet_bench.masks import ranking
from vinet_bench.plan import Plan, make_plan
from vinet_bench.run import run
from vinet_bench.seeds import generator

SIDE = 16


def some(seed: int, n: int = 6) -> tuple[Any, Any]:
    """Maps with ties and pieces of evidence, (N, 16, 16)."""
    rng = np.random.default_rng(seed)
    evidence = rng.random((n, SIDE, SIDE)) < rng.uniform(0.02, 0.5, (n, 1, 1))
    maps = np.round(rng.random((n, SIDE, SIDE)), 1).astype(np.float32)
    return maps, evidence


def highest(maps: Any, evidence: Any) -> Any:
    draws = [generator("test", i) for i in range(len(maps))]
    return _as_many(ranking(torch.from_numpy(maps), draws), evidence)


# ---- worked by hand


def test_a_worked_case() -> None:
    maps = np.array([[[4.0, 3.0, 2.0, 1.0]]], np.float32)
    evidence = np.array([[[False, True, False, True]]])
    top = highest(maps, evidence)
    assert top.tolist() == [[[True, True, False, False]]]
    assert mass_accuracy(maps, evidence) == pytest.approx([4 / 10])
    assert rank_accuracy(top, evidence) == pytest.approx([1 / 2])
    assert iou(top, evidence) == pytest.approx([1 / 3])
    assert dice(top, evidence) == pytest.approx([1 / 2])
    # Evidence stands in places 2 and 4: (1/2 + 2/4) / 2.
    assert average_precision(maps, evidence) == pytest.approx([1 / 2])


@pytest.mark.parametrize(("side", "reach"), [(32, 1), (64, 2), (128, 4)])
def test_the_pointing_games_tolerance(side: int, reach: int) -> None:
    evidence = np.zeros((3, side, side), bool)
    points = evidence.copy()
    evidence[:, 8, 8] = True
    for picture, distance in enumerate((0, reach, reach + 1)):
        points[picture, 8, 8 + distance] = True
    assert pointing_hits(points, evidence).tolist() == [1, 1, 0]


def test_a_picture_without_evidence_has_no_figure() -> None:
    maps, evidence = some(0, 2)
    evidence[0] = False
    top = highest(maps, evidence)
    for found in (
        mass_accuracy(maps, evidence),
        rank_accuracy(top, evidence),
        iou(top, evidence),
        dice(top, evidence),
        average_precision(maps, evidence),
        pointing_hits(top, evidence),
    ):
        assert np.isnan(found).tolist() == [True, False]


def test_relevance_mass_refuses_negative_maps() -> None:
    with pytest.raises(ValueError, match="negative"):
        mass_accuracy(np.array([[[-1.0, 2.0]]]), np.array([[[True, False]]]))


def test_an_empty_map_has_no_mass() -> None:
    assert mass_accuracy(np.zeros((1, 2, 2)), np.ones((1, 2, 2), bool)).tolist() == [0]


def test_thirds_hold_every_picture_with_evidence_once() -> None:
    _, evidence = some(1, 31)
    evidence[:4] = False
    thirds = size_thirds(evidence)
    assert np.sum(list(thirds.values()), axis=0).tolist() == [0] * 4 + [1] * 27
    areas = evidence.sum(axis=(1, 2))
    assert areas[thirds["small"]].max() <= areas[thirds["medium"]].min()
    assert areas[thirds["medium"]].max() <= areas[thirds["large"]].min()


# ---- an outside library


def test_overlaps_and_precision_are_scikit_learns() -> None:
    maps, evidence = some(2)
    top = highest(maps, evidence)
    for i, (mask, truth) in enumerate(zip(top, evidence, strict=True)):
        assert iou(top, evidence)[i] == pytest.approx(jaccard_score(truth.ravel(), mask.ravel()))
        assert dice(top, evidence)[i] == pytest.approx(f1_score(truth.ravel(), mask.ravel()))
        own = average_precision_score(truth.ravel(), maps[i].ravel())
        assert average_precision(maps, evidence)[i] == pytest.approx(own)


# ---- properties


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 100), st.floats(-5, 5))
def test_ranks_do_not_know_a_maps_scale(seed: int, factor: float, offset: float) -> None:
    maps, evidence = some(seed)
    other = (np.exp(maps.astype(np.float64)) * factor + offset).astype(np.float32)
    assert np.array_equal(highest(maps, evidence), highest(other, evidence))
    assert average_precision(maps, evidence) == pytest.approx(average_precision(other, evidence))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 100))
def test_bounds_and_what_must_agree(seed: int, factor: float) -> None:
    maps, evidence = some(seed)
    evidence[:, 0, 0] = True
    top = highest(maps, evidence)
    rank, overlap = rank_accuracy(top, evidence), iou(top, evidence)
    for found in (rank, overlap, mass_accuracy(maps, evidence), average_precision(maps, evidence)):
        assert ((found >= 0) & (found <= 1)).all()
    assert dice(top, evidence) == pytest.approx(rank)  # at equal area
    assert overlap == pytest.approx(rank / (2 - rank))
    assert mass_accuracy(maps * factor, evidence) == pytest.approx(mass_accuracy(maps, evidence))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_a_picture_does_not_know_its_neighbours(seed: int) -> None:
    maps, evidence = some(seed)
    order = np.random.default_rng(seed).permutation(len(maps))
    top = highest(maps, evidence)
    pairs = ((mass_accuracy, maps), (rank_accuracy, top), (iou, top), (average_precision, maps))
    for metric, shown in pairs:
        whole = metric(shown, evidence)
        assert np.array_equal(metric(shown[order], evidence[order]), whole[order])
        assert np.array_equal(metric(shown[2:3], evidence[2:3]), whole[2:3])


# ---- readers


def two_readers() -> list[Any]:
    """One outlines columns 0 and 1 of the first picture, the other 1 and 2, and the second's 0."""
    one, other = (np.zeros((2, 4, 4), bool) for _ in range(2))
    one[0, :, :2], other[0, :, 1:3], other[1, :, 0] = True, True, True
    return [one, other]


def test_readers_come_out_of_their_bits() -> None:
    one, other = two_readers()
    bits = (one.astype(np.uint8) << 1) | (other.astype(np.uint8) << 4)
    found = readers_of(bits)
    assert len(found) == 2
    assert np.array_equal(found[0], one)
    assert np.array_equal(found[1], other)


def test_a_consensus_is_half_of_those_who_outlined_something() -> None:
    one, other = two_readers()
    assert np.array_equal(consensus_of_present([one, other]), one | other)
    three = consensus_of_present([one, other, one])
    assert np.array_equal(three[0], one[0])
    assert np.array_equal(three[1], other[1])  # the others saw nothing there: no votes against


def test_one_reader_against_the_other() -> None:
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    found = _one_against_others(two_readers(), images)
    assert found["iou"][0] == pytest.approx(1 / 3)
    assert found["dice"][0] == pytest.approx(1 / 2)
    assert found["mass"][0] == pytest.approx(1 / 2)
    assert np.isnan(found["iou"][1])  # nobody else outlined anything there


def test_one_reader_has_no_ceiling() -> None:
    with pytest.raises(CellError, match="fewer than two readers"):
        _one_against_others(two_readers()[:1], torch.zeros(2, 1, 4, 4))


# ---- whole runs


def plan_of(*methods: str) -> Plan:
    return make_plan(preset="smoke", methods=list(methods), changes=["phantom.slices=300"])


def with_readers(plan: Plan) -> SliceDataset:
    """The phantom with two readers, the second of whom draws everything a pixel to the right."""
    data = load_data(plan)
    assert data.evidence is not None
    second = np.roll(data.evidence, 1, axis=2)
    bits = data.evidence.astype(np.uint8) + 2 * second.astype(np.uint8)
    return replace(data, readers=bits.astype(np.uint8))


def test_the_outline_is_best_and_random_is_what_chance_gives(tmp_path: Path) -> None:
    plan = plan_of("random", "outline", "edges")
    assert run(["localisation"], plan, tmp_path / "run", "cpu").failed == ()
    found = lines(tmp_path / "run", "localisation")
    assert list(found) == ["random", "edges", "outline"]
    data = load_data(plan)
    assert data.evidence is not None
    share = data.evidence.mean()
    for key in METRICS:
        assert float(found["outline"][key]) == pytest.approx(1)
        assert float(found["random"][key]) < float(found["edges"][key]) < 1
    for key in ("mass", "rank"):
        assert float(found["random"][key]) == pytest.approx(share, abs=0.01)
    assert found["outline"]["reader_iou"] == ""
    for key in ("iou_small", "iou_medium", "iou_large"):
        assert float(found["outline"][key]) == pytest.approx(1)


def test_readers_have_a_row_and_a_figure_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vinet_bench.run.load_data", with_readers)
    assert run(["localisation"], plan_of("outline"), tmp_path / "run", "cpu").failed == ()
    found = lines(tmp_path / "run", "localisation")
    assert list(found) == ["outline", "readers"]
    assert float(found["outline"]["iou"]) == pytest.approx(1)
    # Half of the outline's readings are of the first reader, whose drawing it is.
    between = float(found["readers"]["iou"])
    assert 0.3 < between < 0.9
    assert float(found["outline"]["reader_iou"]) == pytest.approx((1 + between) / 2, abs=0.02)
    assert "Reader against the others" in (tmp_path / "run" / "localisation.md").read_text()


def test_without_annotations_a_cell_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vinet_bench.run.load_data", lambda p: replace(load_data(p), evidence=None))
    outcome = run(["localisation"], plan_of("random"), tmp_path / "run", "cpu")
    assert outcome.failed == (
        "localisation random seed 0: no evidence is annotated in the test part of phantom",
    )
