"""Intervals and tests against hand-worked cases, outside libraries and what must not matter."""

from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from vinet_bench.bootstrap import _columns, _drawn, _studentized
from vinet_bench.metrics import balanced_hits
from vinet_bench.patient_clusters import clustered, patient_variance
from vinet_bench.stats import (
    Intervals,
    clustered_intervals,
    clustered_test,
    holm,
    paired_permutation,
    ranking_agreement,
    smallest_difference,
)

Floats = NDArray[np.float64]


def some(
    seed: int = 0, patients: int = 30, rows: int = 2, seeds: int = 1
) -> tuple[Floats, NDArray[np.int64]]:
    """Scores (M, S, N) of patients of 1 to 9 pictures that are alike, to all seeds too."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 10, patients))
    own = rng.normal(size=(rows, 1, patients))[..., who]
    return own + rng.normal(size=(rows, seeds, len(who))), who


def ends(found: Intervals) -> Floats:
    return np.stack([found.mean, found.low, found.high])


# -- intervals


def test_of_many_patients_of_one_picture_it_is_students_interval() -> None:
    scores = np.random.default_rng(0).normal(size=(1, 400))
    found = clustered_intervals(scores, np.arange(400), resamples=40_000)
    student = scipy.stats.ttest_1samp(scores[0], 0).confidence_interval()
    # The interval is 0.2 wide; its ends vary by less than 0.002 under resampling.
    assert found.mean[0] == pytest.approx(scores.mean())
    assert (found.low[0], found.high[0]) == pytest.approx(tuple(student), abs=0.008)


def test_its_width_is_that_of_scipys_bootstrap_of_the_ratio() -> None:
    scores, who = some(patients=300, rows=1)
    sums, counts = np.bincount(who, weights=scores[0, 0]), np.bincount(who)
    theirs = scipy.stats.bootstrap(
        (sums, counts),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        random_state=1,
    ).confidence_interval
    found = clustered_intervals(scores, who)
    assert found.mean[0] == pytest.approx(sums.sum() / counts.sum())
    assert found.high[0] - found.low[0] == pytest.approx(theirs.high - theirs.low, rel=0.05)
    assert found.low[0] == pytest.approx(theirs.low, abs=0.02)


def test_one_resample_by_hand() -> None:
    clusters = clustered([[1, 0, 0, 1, 1, 0.0]], list("aabbcc"), list("xyxyxx"))
    counts = clusters.counts[:, 0].transpose(1, 0, 2)
    sums = clusters.sums[:, 0].transpose(1, 0, 2) - clusters.class_means()[0] * counts

    def pivots_of(drawn: Floats) -> Floats:
        added = _drawn(drawn, _columns(sums, counts))
        return _studentized(added, clusters.class_shares()[0], np.zeros(1))

    # Class x: (1 + 0 + 1 + 0) / 4 of a, b, c, c; y: (0 + 1) / 2 of a, b. Both means are 1/2.
    found = pivots_of(np.array([[2.0, 1.0, 0.0]]))
    # Drawn a, a, b: x = 2/3, y = 1/3, together 1/2, so that the pivot is 0.
    assert found[0, 0] == pytest.approx(0, abs=1e-12)
    # Drawn a, c, c: x = (1 + 1 + 1) / 5, y = 0, together 3/10, less 1/2.
    # Each part: a (1 - 3/5) / 5 / 2 = 0.04, c (1 - 2 * 3/5) / 5 / 2 = -0.02 twice.
    found = pivots_of(np.array([[1.0, 0.0, 2.0]]))
    assert found[0, 0] == pytest.approx(-0.2 / np.sqrt(0.04**2 + 2 * 0.02**2))


def test_few_patients_have_students_interval() -> None:
    means = np.array([0.2, 0.4, 0.9, 0.5])
    scores = np.concatenate([means - 1, means + 1])[None]  # wide, so that no end is cut off
    found = clustered_intervals(scores, list("abcdabcd"))
    half = scipy.stats.t.ppf(0.975, 3) * means.std(ddof=1) / 2
    assert found.low[0] == pytest.approx(0.5 - half, abs=2e-3)
    assert found.high[0] == pytest.approx(0.5 + half, abs=2e-3)


def test_copies_of_a_picture_add_nothing() -> None:
    scores, _ = some(patients=40)
    scores = scores[..., :40]
    once = clustered_intervals(scores, np.arange(40))
    copied = clustered_intervals(np.repeat(scores, 9, axis=-1), np.repeat(np.arange(40), 9))
    np.testing.assert_allclose(ends(copied), ends(once))
    alone = clustered_intervals(np.repeat(scores, 9, axis=-1), np.arange(360))
    widths = (once.high - once.low) / (alone.high - alone.low)
    np.testing.assert_allclose(widths, 3, rtol=0.12)


def test_seeds_that_differ_widen_it_by_students_t_of_two() -> None:
    pictures = np.repeat([-1.0, 1.0], 500)  # wide, so that no end is cut off
    scores = pictures + np.array([0.6, 0.7, 0.8])[None, :, None]
    found = clustered_intervals(scores, np.tile(np.arange(500), 2))
    half = scipy.stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert found.high[0] - found.mean[0] == pytest.approx(half, rel=0.01)
    assert found.mean[0] - found.low[0] == pytest.approx(half, rel=0.01)


def test_patients_and_seeds_together_are_midway_between_two_ways_to_add_them() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=2000)
    own = (own - own.mean()) / own.std(ddof=1)  # the mean's standard error is 1 / sqrt(2000)
    error = 1 / np.sqrt(2000)
    scores = own[None, None] + error * np.sqrt(3) * np.array([-1, 0, 1])[None, :, None]
    found = clustered_intervals(scores, np.arange(2000))  # so that the seeds' is the same
    behrens_fisher = rng.standard_normal(10**6) + rng.standard_t(2, 10**6)
    satterthwaite = np.sqrt(2) * scipy.stats.t.ppf(0.975, 4 / (1 / 1999 + 1 / 2))
    expected = error * (np.quantile(behrens_fisher, 0.975) + satterthwaite) / 2
    assert (found.high[0] - found.low[0]) / 2 == pytest.approx(expected, rel=0.02)


def test_seeds_that_agree_add_nothing() -> None:
    scores, who = some()
    once = clustered_intervals(scores, who)
    np.testing.assert_allclose(
        ends(clustered_intervals(np.repeat(scores, 3, axis=1), who)), ends(once)
    )


def test_seeds_that_differ_picture_by_picture_are_not_counted_twice() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1000, 3, 100))  # all of it is seeds by patients
    found = clustered_intervals(noise, np.arange(100), resamples=1000)
    covered = ((found.low <= 0) & (found.high >= 0)).mean()
    # 0.95, plus or minus 3 standard errors; 0.99 if it counted with patients and with seeds.
    assert 0.93 < covered < 0.97


def test_a_picture_without_a_score_is_left_out_of_its_row_alone() -> None:
    scores, who = some(rows=3)
    whole = clustered_intervals(scores, who)
    scores[1, :, who < 5] = np.nan
    found = clustered_intervals(scores, who)
    np.testing.assert_array_equal(ends(found)[:, [0, 2]], ends(whole)[:, [0, 2]])
    assert found.mean[1] == pytest.approx(scores[1, 0, who >= 5].mean())
    assert found.low[1] < found.mean[1] < found.high[1]


def test_a_seed_without_scores_is_as_if_it_were_not_there() -> None:
    scores, who = some(seeds=3)
    with_failed = np.concatenate([scores, np.full_like(scores[:, :1], np.nan)], axis=1)
    np.testing.assert_allclose(
        ends(clustered_intervals(with_failed, who)), ends(clustered_intervals(scores, who))
    )


def test_one_patient_has_a_mean_and_no_interval() -> None:
    found = clustered_intervals([[0.0, 1.0, 1.0, 1.0], [0.0, np.nan, np.nan, 1.0]], list("aaab"))
    assert found.mean.tolist() == [0.75, 0.5]
    assert np.isfinite(ends(found)).all()
    alone = clustered_intervals([[0.0, 1.0]], ["a", "a"])
    assert alone.mean.tolist() == [0.5]
    assert np.isnan([alone.low, alone.high]).all()
    nothing = clustered_intervals([[np.nan, np.nan]], ["a", "b"])
    assert np.isnan(ends(nothing)).all()


def test_equal_scores_have_no_width() -> None:
    found = clustered_intervals(np.full((2, 3, 12), 0.3), np.repeat(np.arange(4), 3))
    np.testing.assert_array_equal(ends(found), np.full((3, 2), 0.3))


def test_balanced_accuracy_is_the_mean_over_classes() -> None:
    rng = np.random.default_rng(0)
    labels, who = rng.choice(3, 200, p=[0.7, 0.2, 0.1]), rng.integers(0, 40, 200)
    probabilities = rng.random((200, 3)) + 0.4 * np.eye(3)[labels]
    hits = (probabilities.argmax(axis=1) == labels).astype(float)[None]
    found = clustered_intervals(hits, who, classes=labels)
    assert found.mean[0] == pytest.approx(balanced_hits(probabilities, labels).mean())
    assert found.low[0] < found.mean[0] < found.high[0]


def test_its_width_for_classes_is_that_of_resampled_balanced_accuracies() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(2, 600, p=[0.8, 0.2])
    hits = (rng.random(600) < np.where(labels, 0.5, 0.9)).astype(float)
    drawn = rng.integers(0, 600, (4000, 600))
    accuracies = [
        ((hits[drawn] * (labels[drawn] == c)).sum(1) / (labels[drawn] == c).sum(1)) for c in (0, 1)
    ]
    low, high = np.quantile(np.mean(accuracies, axis=0), [0.025, 0.975])
    found = clustered_intervals(hits[None], np.arange(600), classes=labels)
    assert found.high[0] - found.low[0] == pytest.approx(high - low, rel=0.06)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (1, 1, 1, 4)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="last axis"):
        clustered_intervals(np.zeros(shape), list("abcd"))


def test_infinite_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="infinite"):
        clustered_intervals([[1.0, np.inf]], ["a", "b"])


@st.composite
def small_tables(draw: Any) -> tuple[Floats, NDArray[np.int64]]:
    """Scores (2, S, N) with gaps, and patients (N,)."""
    n, seeds = draw(st.integers(4, 30)), draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    scores = (
        rng.choice([0.0, 0.25, 1.0], (2, seeds, n))
        if draw(st.booleans())
        else rng.random((2, seeds, n))
    )
    scores[:, :, rng.random(n) < draw(st.sampled_from([0, 0.2]))] = np.nan
    return scores, rng.integers(0, draw(st.integers(2, 15)), n)


@settings(max_examples=50, deadline=None)
@given(small_tables(), st.integers(0, 100))
def test_the_order_of_the_pictures_does_not_matter(
    table: tuple[Floats, NDArray[np.int64]], seed: int
) -> None:
    scores, who = table
    order = np.random.default_rng(seed).permutation(len(who))
    kept, moved = (
        clustered_intervals(s, w, resamples=300)
        for s, w in ((scores, who), (scores[..., order], who[order]))
    )
    np.testing.assert_allclose(ends(moved), ends(kept), atol=1e-9)
    differences = scores[:1] - scores[1:]
    np.testing.assert_array_equal(
        paired_permutation(differences[..., order], who[order], resamples=300),
        paired_permutation(differences, who, resamples=300),
    )


@settings(max_examples=50, deadline=None)
@given(small_tables())
def test_the_interval_holds_the_mean_and_lies_within_the_scores(
    table: tuple[Floats, NDArray[np.int64]],
) -> None:
    scores, who = table
    found = clustered_intervals(scores, who, resamples=300)
    known = ~np.isnan(found.low)
    assert (found.low <= found.mean)[known].all()
    assert (found.mean <= found.high)[known].all()
    flat = scores.reshape(2, -1)[known]
    assert (found.low[known] >= np.nanmin(flat, axis=1, initial=9)).all()
    assert (found.high[known] <= np.nanmax(flat, axis=1, initial=-9)).all()


def test_names_of_patients_do_not_matter() -> None:
    scores, who = some(patients=60)
    numbers = clustered_intervals(scores, who)
    same_order = clustered_intervals(scores, np.array([f"p{i:03}" for i in who]))
    np.testing.assert_array_equal(ends(same_order), ends(numbers))
    # Another order of the names draws other resamples: the ends move by less than 2 % of the width.
    renamed = clustered_intervals(scores, np.random.default_rng(0).permutation(60)[who])
    width = (numbers.high - numbers.low).max()
    np.testing.assert_allclose(ends(renamed), ends(numbers), atol=0.03 * width)


def test_the_seed_determines_it_and_a_row_does_not_depend_on_the_others() -> None:
    scores, who = some(rows=3, seeds=3)
    found = ends(clustered_intervals(scores, who, seed=5))
    np.testing.assert_array_equal(ends(clustered_intervals(scores, who, seed=5)), found)
    np.testing.assert_allclose(ends(clustered_intervals(scores[1:2], who, seed=5)), found[:, 1:2])
    assert (ends(clustered_intervals(scores, who, seed=6))[1:] != found[1:]).all()


# -- tests of differences


def test_few_patients_are_enumerated_by_hand() -> None:
    # Patients' sums 3, 2, -1: the 8 signed sums are +-6, +-4, +-2, +-0; |4| is reached by 4 of 8.
    differences = [[1.0, 2.0, 2.0, -1.0]]
    assert paired_permutation(differences, list("aabc")).tolist() == [0.5]


def test_it_is_scipys_permutation_test_of_patient_sums() -> None:
    scores, who = some(patients=12, rows=3)
    sums = [np.bincount(who, weights=row[0]) for row in scores]
    theirs = [
        scipy.stats.permutation_test(
            (row,), np.sum, permutation_type="samples", n_resamples=np.inf
        ).pvalue
        for row in sums
    ]
    np.testing.assert_allclose(paired_permutation(scores, who), theirs)
    drawn = paired_permutation(scores, who, resamples=4000)  # 2 ** 12 is more
    np.testing.assert_allclose(drawn, theirs, atol=0.03)


def test_identical_rows_are_never_told_apart() -> None:
    scores, who = some(patients=50, seeds=3)
    same = scores - scores
    assert paired_permutation(same, who).tolist() == [1.0, 1.0]
    assert paired_permutation(same[..., :9], who[:9]).tolist() == [1.0, 1.0]
    assert clustered_test(same, who).tolist() == [1.0, 1.0]
    assert smallest_difference(same, who).tolist() == [0.0, 0.0]


def test_a_clear_difference_has_the_least_p_that_resamples_allow() -> None:
    scores, who = some(patients=100, rows=1)
    assert paired_permutation(scores + 3, who, resamples=999).tolist() == [0.001]
    steady = np.repeat(scores, 3, axis=1)
    assert clustered_test(steady + 3, who, resamples=999).tolist() == [0.002]
    assert paired_permutation(-scores - 3, who, resamples=999).tolist() == [0.001]


def test_pictures_of_two_patients_are_not_evidence() -> None:
    better = np.ones((1, 400))
    assert paired_permutation(better, np.repeat([0, 1], 200)).tolist() == [0.5]
    assert paired_permutation(better, np.zeros(400)).tolist() == [1.0]


def test_rows_without_scores_have_no_p() -> None:
    scores, who = some(rows=2)
    scores[0] = np.nan
    for p in (paired_permutation(scores, who), clustered_test(scores, who)):
        assert np.isnan(p[0])
        assert 0 < p[1] <= 1


def test_a_test_over_seeds_does_not_take_two_lucky_seeds_for_a_better_method() -> None:
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.1, (40, 3, 1)) + rng.normal(0, 0.2, (40, 3, 300))
    who = np.repeat(np.arange(100), 3)
    by_patients = paired_permutation(luck, who, resamples=999) <= 0.05
    by_seeds = clustered_test(luck, who, resamples=999) <= 0.05
    assert by_patients.mean() > 0.5
    assert by_seeds.mean() <= 0.15  # 2 of 40 are expected


def test_what_is_significant_over_seeds_is_so_over_patients_and_outside_the_interval() -> None:
    scores, who = some(seed=2, rows=40, seeds=3)
    scores += np.linspace(-1, 1, 40)[:, None, None]
    found, p = clustered_intervals(scores, who, seed=1), clustered_test(scores, who, seed=1)
    apart = (found.low > 0) | (found.high < 0)
    assert apart[p <= 0.049].all()
    assert (p >= paired_permutation(scores, who, seed=1)).all()
    assert 0 < (p <= 0.049).sum() < 40


def test_with_one_seed_the_test_is_the_permutation_test() -> None:
    scores, who = some(seeds=1)
    np.testing.assert_array_equal(clustered_test(scores, who), paired_permutation(scores, who))


# -- many tests


def test_holm_by_hand_and_by_statsmodels() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_never_lowers_a_p(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    with_gap = holm([*p, np.nan])
    np.testing.assert_array_equal(with_gap[:-1], adjusted)
    assert np.isnan(with_gap[-1])


def test_holm_of_no_tests() -> None:
    assert np.isnan(holm([np.nan, np.nan])).all()
    assert holm([]).shape == (0,)


# -- what could have been shown


def test_the_smallest_difference_by_hand() -> None:
    differences = np.array([[0.1, 0.3, -0.2, 0.4, 0.0, 0.2]])
    error = differences.std(ddof=1) / np.sqrt(6)
    expected = (scipy.stats.t.ppf(0.975, 5) + scipy.stats.t.ppf(0.8, 5)) * error
    assert smallest_difference(differences, list("abcdef"))[0] == pytest.approx(expected)


def test_unequal_patients_count_as_fewer() -> None:
    scores, sizes = np.random.default_rng(0).normal(size=10), [4, 1, 1, 1, 1, 1, 1]
    who = np.repeat(np.arange(7), sizes)
    left_out = np.array([scores[who != patient].mean() for patient in range(7)])
    error = np.sqrt(6 / 7 * ((left_out - left_out.mean()) ** 2).sum())
    df = 1 / (0.4**2 + 6 * 0.1**2) - 1
    expected = (scipy.stats.t.ppf(0.975, df) + scipy.stats.t.ppf(0.8, df)) * error
    assert smallest_difference(scores[None], who)[0] == pytest.approx(expected)


def test_a_class_that_one_patient_has_keeps_its_mean_when_that_patient_is_left_out() -> None:
    scores, who, labels = [[1, 0, 0, 1.0]], list("abcc"), list("xxxy")
    # Class x: a, b, c have 1, 0, 0; y: c has 1. Without a: (0 + 1) / 2; b: (1/2 + 1) / 2; c: (1/2
    # + 1) / 2, since y stays 1.
    left_out = np.array([0.5, 0.75, 0.75])
    expected = 2 / 3 * ((left_out - left_out.mean()) ** 2).sum()
    assert patient_variance(clustered(scores, who, labels))[0] == pytest.approx(expected)


def test_five_patients_can_show_no_difference() -> None:
    certain = np.ones((1, 5))
    assert paired_permutation(certain, list("abcde")).tolist() == [2 / 32]
    assert smallest_difference(certain, list("abcde")).tolist() == [np.inf]
    assert smallest_difference(certain, list("abcde"), level=0.1).tolist() == [0.0]


def test_the_smallest_difference_is_found_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(60), 3)
    noise = rng.normal(size=(400, 60))[:, who] + rng.normal(size=(400, 180))
    least = smallest_difference(noise, who).mean()
    found = paired_permutation(noise + least, who, resamples=999) <= 0.05
    assert 0.72 < found.mean() < 0.88  # 0.8, plus or minus 4 standard errors


def test_more_patients_show_smaller_differences() -> None:
    few, many = some(patients=40, rows=1), some(patients=640, rows=1)
    ratio = smallest_difference(*few)[0] / smallest_difference(*many)[0]
    assert ratio == pytest.approx(4, rel=0.3)


# -- rankings


def test_rankings_agree_as_by_hand_and_rows_without_figures_are_left_out() -> None:
    # Of the pairs of 1, 2, 3, 4 and 1, 3, 2, 4, five are in order and one is not: 4 / 6.
    found = ranking_agreement([1, 2, np.nan, 3, 4], [1, 3, 9, 2, 4])
    assert found.tau == pytest.approx(4 / 6)
    assert found.n == 4
    assert found.p == pytest.approx(scipy.stats.kendalltau([1, 2, 3, 4], [1, 3, 2, 4]).pvalue)
    assert ranking_agreement([1, 2, 3], [3, 2, 1]).tau == pytest.approx(-1)


def test_a_ranking_of_nothing_has_no_tau() -> None:
    assert np.isnan(ranking_agreement([1, np.nan], [1, 2]).tau)
    assert np.isnan(ranking_agreement([1, 1, 1], [1, 2, 3]).tau)


def test_seeds_that_are_equal_by_chance_do_not_take_the_width_away() -> None:
    """Two networks that answer one class each: alike in their means, and in no picture."""
    labels = np.arange(20) % 5
    hits = np.stack([labels == 0, labels == 1]).astype(float)[None]
    found = clustered_intervals(hits, np.arange(20))
    assert found.mean[0] == pytest.approx(0.2)
    assert found.high[0] - found.low[0] > 0.05
