"""Figures against hand-worked cases and outside libraries."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score

from vinet_bench import metrics


def predictions(
    seed: int, classes: int = 5, n: int = 60
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Random probabilities, and labels that agree with them more often than chance."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    scores = rng.random((n, classes))
    scores[np.arange(n), labels] += 0.3
    return scores / scores.sum(axis=1, keepdims=True), labels.astype(np.int64)


def bools(*rows: str) -> NDArray[np.bool_]:
    """Masks of one row each, from words of 0 and 1."""
    return np.array([[[c == "1" for c in row]] for row in rows])


# -- accuracy


@pytest.mark.parametrize("seed", range(5))
def test_accuracies_agree_with_scikit_learn(seed: int) -> None:
    probabilities, labels = predictions(seed)
    given = probabilities.argmax(axis=1)
    assert metrics.hits(probabilities, labels).mean() == pytest.approx(
        accuracy_score(labels, given)
    )
    balanced = balanced_accuracy_score(labels, given)
    assert metrics.balanced_hits(probabilities, labels).mean() == pytest.approx(balanced)


def test_a_class_without_pictures_does_not_count() -> None:
    probabilities, labels = np.eye(4)[[0, 0, 1, 2]], np.array([0, 0, 1, 1])
    # class 0: 2 of 2; class 1: 1 of 2; classes 2 and 3 have no pictures
    assert metrics.balanced_hits(probabilities, labels).mean() == pytest.approx(0.75)


def test_a_collapsed_network_is_at_chance_and_shows() -> None:
    probabilities, labels = np.tile([0.7, 0.2, 0.1], (10, 1)), np.repeat([0, 1], [8, 2])
    assert metrics.hits(probabilities, labels).mean() == pytest.approx(0.8)
    assert metrics.balanced_hits(probabilities, labels).mean() == pytest.approx(0.5)
    assert metrics.commonest_class_share(probabilities) == 1.0
    assert metrics.commonest_class_share(np.eye(3)) == pytest.approx(1 / 3)


def test_probability_drops_by_hand() -> None:
    before = np.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    after = np.array([[0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])
    drops = metrics.probability_drops(before, after, np.array([0, 1, 1]))
    np.testing.assert_allclose(drops, [0.3, -0.1, 0.0], atol=1e-12)


# -- ordered classes and calibration


@pytest.mark.parametrize("seed", range(3))
def test_kappa_agrees_with_its_definition_and_scikit_learn(seed: int) -> None:
    probabilities, labels = predictions(seed)
    given = probabilities.argmax(axis=1)
    # 1 - the mean squared miss / the same over all pairs of a label and a prediction
    by_chance = ((labels[:, None] - given[None]) ** 2).mean()
    expected = 1 - ((labels - given) ** 2).mean() / by_chance
    found = metrics.quadratic_weighted_kappa(probabilities, labels)
    assert found == pytest.approx(expected)
    assert found == pytest.approx(cohen_kappa_score(labels, given, weights="quadratic"))


def test_kappa_of_far_misses_is_lower_and_of_a_class_left_out_counts_its_distance() -> None:
    labels = np.array([0, 0, 3, 3])
    near, far = np.eye(4)[[0, 1, 3, 2]], np.eye(4)[[0, 3, 3, 0]]
    kappas = [metrics.quadratic_weighted_kappa(p, labels) for p in (near, far)]
    # near: 2 of 4 miss by 1, chance is (0 + 1 + 9 + 4) * 2 / 8; far is chance
    assert kappas == pytest.approx([1 - 0.5 / 3.5, 0])


def test_kappa_is_undefined_where_there_is_one_class_alone() -> None:
    labels = np.zeros(5, dtype=np.int64)
    assert np.isnan(metrics.quadratic_weighted_kappa(np.eye(3)[labels], labels))
    assert metrics.quadratic_weighted_kappa(np.eye(3)[[0, 0, 0, 0, 1]], labels) == 0


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.91, 0.09], [0.3, 0.7], [0.45, 0.55]])
    labels = np.array([0, 1, 1, 1])
    # of 15 bins, (13/15, 14/15] has the first two, with accuracy 0.5 and confidence 0.905
    expected = (abs(0.5 - 0.905) * 2 + 0.3 + 0.45) / 4
    assert metrics.expected_calibration_error(probabilities, labels) == pytest.approx(expected)
    assert metrics.expected_calibration_error(np.eye(2)[labels], labels) == 0


def test_a_network_that_means_its_probabilities_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 20_000)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    labels = (rng.random(20_000) > sure).astype(np.int64)
    assert metrics.expected_calibration_error(probabilities, labels) < 0.02
    boast = np.stack([sure**0.1, 1 - sure**0.1], axis=1)
    assert metrics.expected_calibration_error(boast, labels) > 0.15


def test_brier_score_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    # (0.09 + 0.04 + 0.01), 0 and 2: the best and the worst there is
    found = metrics.brier_scores(probabilities, np.array([0, 1, 2])).mean()
    assert found == pytest.approx((0.14 + 0 + 2) / 3)


# -- evidence


def test_evidence_by_hand() -> None:
    masks = bools("1100", "0000", "1111", "1010", "0001")
    evidence = bools("1000", "0110", "0111", "0000", "0000")  # the last two have none
    nan = np.nan
    np.testing.assert_equal(metrics.evidence_recall(masks, evidence), [1, 0, 1, nan, nan])
    np.testing.assert_equal(metrics.evidence_precision(masks, evidence), [0.5, 0, 0.75, nan, nan])


def test_a_mask_that_is_the_evidence_is_perfect() -> None:
    evidence = bools("0110", "1000")
    assert metrics.evidence_recall(evidence, evidence).tolist() == [1.0, 1.0]
    assert metrics.evidence_precision(evidence, evidence).tolist() == [1.0, 1.0]
    assert metrics.evidence_recall(~evidence, evidence).tolist() == [0.0, 0.0]
