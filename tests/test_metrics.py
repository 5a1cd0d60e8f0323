"""Figures against hand-worked cases and outside libraries."""

import doctest

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score

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


def test_the_examples_in_the_docstrings() -> None:
    outcome = doctest.testmod(metrics)
    assert outcome.attempted >= 6
    assert outcome.failed == 0


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
