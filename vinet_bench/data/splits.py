"""Which slices train, validate and test a network; patients stay on one side."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.errors import UserError, unknown_name

if TYPE_CHECKING:
    from vinet_bench.settings import SplitSettings

Indices = NDArray[np.int64]
FINEST = 20  # a share of the slices is k of n folds, n up to this
FEWEST_PATIENTS = 3


@dataclass(frozen=True)
class Split:
    """Sorted indices into a SliceDataset: train (A,), validation (B,), test (C,).

    folds: with cross-validation the split of each fold, of which this one is the first.
    """

    train: Indices
    validation: Indices
    test: Indices
    folds: tuple["Split", ...] = ()

    def of(self, seed: int) -> "Split":
        """The split with which networks of a seed are trained and tested."""
        return self.folds[seed % len(self.folds)] if self.folds else self

    def tested(self, seeds: Iterable[int]) -> Indices:
        """Every slice that one of the seeds tests, sorted. (C,)."""
        return np.unique(np.concatenate([self.of(seed).test for seed in seeds]))

    def parts(self) -> dict[str, Indices]:
        """The three parts by their names in PARTS."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def part(self, name: str) -> Indices:
        """One part by its name. Raises UserError for an unknown one."""
        if name not in PARTS:
            raise unknown_name("part", name, PARTS)
        return self.parts()[name]


@dataclass(frozen=True)
class _Units:
    """What may not be torn apart: labels (N,), owners (N,) as int64, and what to call them."""

    labels: Indices
    owners: Indices
    word: str
    seed: int


def split_slices(
    data: SliceDataset,
    validation: float,
    test: float,
    seed: int,
    by: Literal["patient", "slice"] = "patient",
    folds: int = 0,
) -> Split:
    """The data set's own split, or one stratified by class and grouped by patient.

    validation, test: shares of all slices, reached within a fold's width. by='slice' ignores
    patients: it shows how much such a split leaks. folds: each slice is in one fold's test part,
    whatever `test` says; 0 for a single split. Raises UserError.
    """
    if folds:
        found = _cross_validated(data, validation, folds, seed, by)
        split = replace(found[0], folds=found)
    elif data.given_parts is not None:
        train, validated, tested = (np.flatnonzero(data.given_parts == part) for part in PARTS)
        split = Split(train, validated, tested)
    else:
        split = _drawn(data, validation, test, seed, by)
    for one in split.folds or (split,):
        if by == "patient" or data.given_parts is not None:
            check_no_overlap(data, one)
        _check_classes(data, one, folds)
    return split


def split_as(data: SliceDataset, wanted: "SplitSettings") -> Split:
    """The split that settings ask for. Raises UserError."""
    return split_slices(data, wanted.validation, wanted.test, wanted.seed, wanted.by, wanted.folds)


def check_no_overlap(data: SliceDataset, split: Split) -> None:
    """Raises UserError if a patient stands in two parts; unknown patients cannot be checked."""
    if not data.patients_known:
        return
    homes: dict[str, str] = {}
    for part, indices in split.parts().items():
        for patient in np.unique(data.patients[indices]).tolist():
            home = homes.setdefault(patient, part)
            if home != part:
                raise UserError(
                    f"data set {data.name}: patient {patient} is in {home} and in {part}: "
                    "keep all slices of a patient in one part"
                )


def majority_share(labels: Indices) -> float:
    """The share of the commonest class: what guessing reaches. labels (N,), N > 0.

    >>> majority_share(np.array([0, 2, 2, 2]))
    0.75
    """
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def _drawn(data: SliceDataset, validation: float, test: float, seed: int, by: str) -> Split:
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise UserError(
            f"split.validation={validation:g} and split.test={test:g} leave no three parts: "
            "both must be above 0 and their sum below 1"
        )
    units = _units(data, seed, by)
    return _around(units, _taken(units, _all(units), test, "test"), validation / (1 - test))


def _cross_validated(
    data: SliceDataset, validation: float, folds: int, seed: int, by: str
) -> tuple[Split, ...]:
    """A split for each fold, whose test parts are all slices, each once."""
    if data.given_parts is not None:
        raise UserError(
            f"split.folds={folds}: data set {data.name} says itself which slices are tested; leave"
            " split.folds out, or the data's own split"
        )
    units = _units(data, seed, by)
    groups = len(np.unique(units.owners))
    if groups < folds:
        raise UserError(
            f"split.folds={folds}: {groups} {units.word} are too few for so many test parts: give"
            " fewer"
        )
    if int(np.bincount(units.labels).max()) < folds:
        raise UserError(f"split.folds={folds}: no class has so many slices: give fewer")
    pieces = _stratified(units.labels, units.owners, folds, seed)
    return tuple(_around(units, np.sort(piece), validation / (1 - 1 / folds)) for piece in pieces)


def _units(data: SliceDataset, seed: int, by: str) -> _Units:
    alone = by == "slice" or not data.patients_known
    owners = np.arange(len(data)) if alone else np.unique(data.patients, return_inverse=True)[1]
    units = _Units(data.labels, owners.astype(np.int64), "slices" if alone else "patients", seed)
    _check_enough(data, units)
    return units


def _all(units: _Units) -> Indices:
    return np.arange(len(units.labels), dtype=np.int64)


def _around(units: _Units, tested: Indices, validation: float) -> Split:
    """The slices that are not tested, divided. validation: its share of them."""
    rest = np.setdiff1d(_all(units), tested)
    validated = _taken(units, rest, validation, "validation")
    return Split(np.setdiff1d(rest, validated), validated, tested)


def _check_enough(data: SliceDataset, units: _Units) -> None:
    for place, name in enumerate(data.class_names):
        count = len(np.unique(units.owners[units.labels == place]))
        if count < FEWEST_PATIENTS:
            raise UserError(
                f"data set {data.name}: class '{name}' has {count} {units.word} and three parts "
                f"need {FEWEST_PATIENTS} or more: merge or remove it"
            )


def _folds_for(share: float) -> Fraction:
    """The share as k of n folds, n up to 20 (or more, where one fold of 20 is far too much)."""
    folds = Fraction(share).limit_denominator(FINEST)
    return folds if folds > 0 else Fraction(1, round(1 / share))


def _taken(units: _Units, chosen: Indices, share: float, part: str) -> Indices:
    """About this share of the chosen slices, whole patients only, sorted."""
    folds = _folds_for(share)
    labels, owners = units.labels[chosen], units.owners[chosen]
    groups = len(np.unique(owners))
    if folds == 1:
        raise UserError(f"the {part} part takes all that is left: lower split.{part}")
    if groups < folds.denominator:
        raise UserError(
            f"{groups} {units.word} are too few for the {part} part, which needs "
            f"{folds.denominator} or more: add {units.word}, or change split.{part} (0.2, say)"
        )
    commonest = int(np.bincount(labels).max())
    if commonest < folds.denominator:
        raise UserError(
            f"the largest class has {commonest} slices, and the {part} part needs a class of "
            f"{folds.denominator} or more: add slices, or change split.{part} (0.2, say)"
        )
    return np.sort(chosen[_drawn_folds(labels, owners, folds, units.seed)])


def _drawn_folds(labels: Indices, owners: Indices, folds: Fraction, seed: int) -> Indices:
    """Places in k of n stratified folds."""
    pieces = _stratified(labels, owners, folds.denominator, seed)
    # Drawn, because scikit-learn's first folds get or miss a rare class whatever the seed.
    drawn = np.random.default_rng(seed).permutation(len(pieces))[: folds.numerator]
    return np.concatenate([pieces[place] for place in drawn]).astype(np.int64)


def _stratified(labels: Indices, owners: Indices, folds: int, seed: int) -> list[Indices]:
    """Places in each of n stratified folds, whole owners in one."""
    # Imported here: scikit-learn takes a second, and `vinet-bench --help` must not wait for it.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    # With one slice a patient both do the same, and the ungrouped one is fast and exact in size.
    maker = StratifiedGroupKFold if len(np.unique(owners)) < len(owners) else StratifiedKFold
    splitter = maker(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # "The least populated class": what matters of it is checked after the split.
        warnings.simplefilter("ignore", UserWarning)
        return [held.astype(np.int64) for _, held in splitter.split(labels, labels, owners)]


def _check_classes(data: SliceDataset, split: Split, folds: int) -> None:
    """Raises UserError if a part is empty, or a class is missing where it is learnt or tested."""
    given = data.given_parts is not None
    fewer = ", fewer split.folds" if folds else ""
    mend = (
        "mend its split" if given else f"try another --set split.seed=...{fewer}, or merge classes"
    )
    for part, indices in split.parts().items():
        if len(indices) == 0:
            raise UserError(f"data set {data.name}: the {part} part is empty: {mend}")
        missing = np.setdiff1d(np.arange(data.num_classes), data.labels[indices])
        if part != "validation" and len(missing):
            name = data.class_names[int(missing[0])]
            raise UserError(f"data set {data.name}: class '{name}' is missing in {part}: {mend}")
