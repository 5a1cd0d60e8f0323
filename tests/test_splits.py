"""Splits: stratified, seeded, and no patient on two sides."""

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.folder import load_folder
from vinet_bench.data.splits import Split, check_no_overlap, majority_share, split_slices
from vinet_bench.errors import UserError


def dataset(labels: Any, patients: Any, **more: Any) -> SliceDataset:
    labels = np.asarray(labels, np.int64)
    return SliceDataset(
        name="made",
        images=np.zeros((len(labels), 1, 1), np.uint8),
        labels=labels,
        patients=np.asarray(patients).astype(np.str_),
        ids=np.arange(len(labels)).astype(np.str_),
        class_names=tuple("abcdefgh"[: labels.max() + 1]),
        **more,
    )


def several_slices_each(patients: int = 120, seed: int = 0) -> SliceDataset:
    """1 to 6 slices a patient, four classes of 10 to 40 %, mixed within patients."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(patients), rng.integers(1, 7, patients))
    return dataset(rng.choice(4, len(owners), p=[0.1, 0.2, 0.3, 0.4]), owners)


def owners(data: SliceDataset, indices: NDArray[np.int64]) -> set[str]:
    return set(data.patients[indices].tolist())


def everything_once(split: Split, n: int) -> bool:
    together = np.concatenate(list(split.parts().values()))
    return np.array_equal(np.sort(together), np.arange(n))


@pytest.mark.parametrize("seed", range(20))
def test_patients_stay_on_one_side_and_classes_in_proportion(seed: int) -> None:
    data = several_slices_each(seed=seed)
    split = split_slices(data, 0.1, 0.2, seed)
    train, validation, test = (owners(data, split.part(name)) for name in PARTS)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert everything_once(split, len(data))
    for indices, share in zip(split.parts().values(), (0.7, 0.1, 0.2), strict=True):
        assert abs(len(indices) / len(data) - share) < 0.03
        assert (np.diff(indices) > 0).all()
        there = np.bincount(data.labels[indices], minlength=4) / len(indices)
        assert abs(there - np.bincount(data.labels) / len(data)).max() < 0.05


def test_the_seed_decides() -> None:
    data = several_slices_each()
    first, again, other = (split_slices(data, 0.1, 0.2, seed) for seed in (3, 3, 4))
    for name in PARTS:
        np.testing.assert_array_equal(first.part(name), again.part(name))
    assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize("by", ["patient", "slice"])
def test_every_seed_draws_another_test_part(by: Literal["patient", "slice"]) -> None:
    data = several_slices_each(60)
    drawn = {split_slices(data, 0.1, 0.2, seed, by).test.tobytes() for seed in range(12)}
    assert len(drawn) == 12  # more than there are folds


@pytest.mark.parametrize("known", [True, False])
def test_sizes_are_exact_with_one_slice_a_patient(known: bool) -> None:
    labels = np.repeat(np.arange(5), 1300)
    patients = np.arange(6500) if known else np.zeros(6500)
    data = dataset(labels, patients, patients_known=known)
    split = split_slices(data, 500 / 6500, 2000 / 6500, seed=0)
    assert [len(split.part(name)) for name in PARTS] == [4000, 500, 2000]
    assert np.bincount(labels[split.test]).tolist() == [400] * 5
    assert all((np.diff(indices) > 0).all() for indices in split.parts().values())


@pytest.mark.parametrize(("validation", "test"), [(0.01, 0.02), (0.3, 0.5), (0.25, 0.25)])
def test_other_shares(validation: float, test: float) -> None:
    data = dataset(np.arange(4000) % 4, np.arange(4000))
    split = split_slices(data, validation, test, seed=1)
    assert abs(len(split.validation) / 4000 - validation) < 0.01
    assert abs(len(split.test) / 4000 - test) < 0.01


def test_a_split_by_slice_leaks() -> None:
    data = several_slices_each()
    split = split_slices(data, 0.1, 0.2, 0, by="slice")
    assert everything_once(split, len(data))
    shared = owners(data, split.train) & owners(data, split.test)
    assert len(shared) > len(owners(data, split.test)) / 2
    with pytest.raises(UserError, match=r"data set made: patient .* is in train and in"):
        check_no_overlap(data, split)


def test_given_parts_are_used_as_they_are() -> None:
    parts = np.array(["test", "train", "validation", "train", "test"])
    data = dataset([0, 0, 1, 1, 1], [1, 2, 3, 4, 5], given_parts=parts)
    split = split_slices(data, 0.1, 0.2, 0)
    assert [split.part(name).tolist() for name in PARTS] == [[1, 3], [2], [0, 4]]
    assert all(indices.dtype == np.int64 for indices in split.parts().values())


def test_given_parts_with_a_patient_on_two_sides() -> None:
    parts = np.array(["train", "train", "validation", "test", "test"])
    columns: dict[str, Any] = {"labels": [0, 1, 0, 0, 1], "patients": [1, 2, 3, 4, 2]}
    said = "patient 2 is in train and in test: keep all slices of a patient in one part"
    for by in ("patient", "slice"):
        with pytest.raises(UserError, match=said):
            split_slices(dataset(**columns, given_parts=parts), 0.1, 0.2, 0, by=by)
    unknown = dataset(**columns, given_parts=parts, patients_known=False)
    assert split_slices(unknown, 0.1, 0.2, 0).test.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["train", "train", "train", "test", "test"], "the validation part is empty: mend its"),
        (["train", "validation", "train", "test", "test"], "class 'b' is missing in train: mend"),
        (["train", "train", "test", "validation", "test"], "class 'b' is missing in test: mend"),
    ],
)
def test_given_parts_that_cannot_be_used(parts: list[str], said: str) -> None:
    data = dataset([0, 1, 0, 1, 0], range(5), given_parts=np.array(parts))
    with pytest.raises(UserError, match=f"data set made: {said}"):
        split_slices(data, 0.1, 0.2, 0)


@pytest.mark.parametrize(
    ("labels", "patients", "shares", "said"),
    [
        ([0, 1] * 3, [0, 0, 1, 1, 2, 2], (0.1, 0.2), "3 patients are too few for the test part"),
        ([0, 1] * 5, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], (0.1, 0.2), "4 patients .* needs 8 or more"),
        ([0, 0, 0, 0, 1, 1], range(6), (0.1, 0.2), "class 'b' has 2 patients .* merge or remove"),
        ([0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 3, 4], (0.2, 0.2), "class 'b' has 2 patients"),
        ([0, 1] * 4, range(8), (0.2, 0.2), "the largest class has 4 slices, and the test part"),
        ([0, 1] * 20, range(40), (0.5, 0.5), "leave no three parts"),
        ([0, 1] * 20, range(40), (0.0, 0.5), "split.validation=0 and split.test=0.5 leave no"),
        ([0, 1] * 20, range(40), (0.49, 0.5), "lower split.validation"),
    ],
)
def test_splits_that_cannot_be_made(
    labels: list[int], patients: Any, shares: tuple[float, float], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        split_slices(dataset(labels, list(patients)), *shares, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rare", [slice(0, 3), slice(197, 200)], ids=["first", "last"])
def test_a_class_that_a_part_misses_is_said_and_another_seed_helps(rare: slice) -> None:
    labels = np.zeros(200, np.int64)
    labels[rare] = 1
    complaints, worked = set(), 0
    for seed in range(20):
        try:
            split_slices(dataset(labels, np.arange(200)), 0.1, 0.2, seed)
            worked += 1
        except UserError as problem:
            complaints.add(str(problem))
    mend = "try another --set split.seed=..., or merge classes"
    assert f"data set made: class 'b' is missing in test: {mend}" in complaints
    assert worked > 3


@pytest.mark.parametrize("grouped", [True, False])
def test_no_warning_reaches_the_user(grouped: bool) -> None:
    labels = np.tile([0, 0, 0, 0, 0, 0, 0, 1], 20)
    labels[np.arange(16) * 8 + 7] = 0  # leaves 4 of class 1, fewer than the folds
    patients = np.arange(160) // 2 if grouped else np.arange(160)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(5):
            try:
                split_slices(dataset(labels, patients), 0.1, 0.2, seed)
            except UserError as problem:
                assert "is missing in" in str(problem)


def test_parts_by_name() -> None:
    split = split_slices(several_slices_each(), 0.1, 0.2, 0)
    assert tuple(split.parts()) == PARTS
    with pytest.raises(UserError, match="unknown part 'tset': did you mean 'test'"):
        split.part("tset")


def test_majority_share() -> None:
    assert majority_share(np.array([4, 1, 1, 1])) == 0.75


def test_real_slices_split_by_patient(lidc_slices: Path) -> None:
    data = load_folder(lidc_slices)
    split = split_slices(data, 0.1, 0.2, 0)
    check_no_overlap(data, split)
    for indices, wanted in zip(split.parts().values(), (687, 98, 196), strict=True):
        assert abs(len(indices) - wanted) <= 0.03 * 981
    assert 0.40 < majority_share(data.labels[split.test]) < 0.50
