"""Which slices train, validate and test a network; patients stay on one side."""

import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.errors import UserError, unknown_name

Indices = NDArray[np.int64]
MOST_FOLDS = 20
FEWEST_PATIENTS = 3


@dataclass(frozen=True)
class Split:
    """Sorted indices into a SliceDataset: train (A,), validation (B,), test (C,)."""

    train: Indices
    validation: Indices
    test: Indices

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
) -> Split:
    """The data set's own split, or one stratified by class and grouped by patient.

    validation, test: shares of all slices, reached within a fold's width. by='slice' ignores
    patients: it shows how much such a split leaks. Raises UserError.
    """
    if data.given_parts is not None:
        split = Split(*(np.flatnonzero(data.given_parts == part) for part in PARTS))
    else:
        split = _drawn(data, validation, test, seed, by)
    if by == "patient" or data.given_parts is not None:
        check_no_overlap(data, split)
    _check_classes(data, split)
    return split


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
    alone = by == "slice" or not data.patients_known
    owners = np.arange(len(data)) if alone else np.unique(data.patients, return_inverse=True)[1]
    units = _Units(data.labels, owners.astype(np.int64), "slices" if alone else "patients", seed)
    _check_enough(data, units)
    everything = np.arange(len(data), dtype=np.int64)
    tested = _taken(units, everything, test, "test")
    rest = np.setdiff1d(everything, tested)
    validated = _taken(units, rest, validation / (1 - test), "validation")
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
    folds = Fraction(share).limit_denominator(MOST_FOLDS)
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
    places = _drawn_folds(labels, owners, folds, units.seed, grouped=groups < len(owners))
    return np.sort(chosen[places])


def _drawn_folds(
    labels: Indices, owners: Indices, folds: Fraction, seed: int, grouped: bool
) -> Indices:
    """Places in k of n stratified folds."""
    # Imported here: scikit-learn takes a second, and `vinet-bench --help` must not wait for it.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    # With one slice a patient both do the same, and the ungrouped one is fast and exact in size.
    maker = StratifiedGroupKFold if grouped else StratifiedKFold
    splitter = maker(n_splits=folds.denominator, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # "The least populated class": what matters of it is checked after the split.
        warnings.simplefilter("ignore", UserWarning)
        pieces = [held for _, held in splitter.split(labels, labels, owners)]
    # Drawn, because scikit-learn's first folds get or miss a rare class whatever the seed.
    drawn = np.random.default_rng(seed).permutation(len(pieces))[: folds.numerator]
    return np.concatenate([pieces[place] for place in drawn]).astype(np.int64)


def _check_classes(data: SliceDataset, split: Split) -> None:
    """Raises UserError if a part is empty, or a class is missing where it is learnt or tested."""
    given = data.given_parts is not None
    mend = "mend its split" if given else "try another --set split.seed=..., or merge classes"
    for part, indices in split.parts().items():
        if len(indices) == 0:
            raise UserError(f"data set {data.name}: the {part} part is empty: {mend}")
        missing = np.setdiff1d(np.arange(data.num_classes), data.labels[indices])
        if part != "validation" and len(missing):
            name = data.class_names[int(missing[0])]
            raise UserError(f"data set {data.name}: class '{name}' is missing in {part}: {mend}")
