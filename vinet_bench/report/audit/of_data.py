"""Leaks in the data: patients and pictures on two sides of the split."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vinet_bench.data.dataset import PARTS
from vinet_bench.data.facts import Facts, folds_of, names_of
from vinet_bench.data.tables import named
from vinet_bench.report.audit.finding import Finding, percent

# Of 256 bits. JPEG, brightness, resampling or noise change at most 16; the likest two slices of two
# patients among 981 of LIDC and 1800 phantoms differ in 52.
NEAR_BITS = 20
BLOCK = 2048
TEST = PARTS.index("test")


def data_findings(facts: Facts, patients_known: bool) -> Iterator[Finding]:
    """Patients, then identical pictures, then those that look alike."""
    yield _patients(facts, patients_known)
    yield _twins(facts)
    yield _near(facts)


def _patients(facts: Facts, known: bool) -> Finding:
    topic = "patients"
    if not known:
        return Finding(
            topic,
            "look",
            "unknown: nobody can say whether slices of one patient stand on both sides;"
            " intervals are over slices, and too narrow if patients repeat",
        )
    homes = np.zeros((len(folds_of(facts)), facts["patient"].max() + 1, len(PARTS) + 1), bool)
    for fold, part in zip(homes, folds_of(facts), strict=True):
        fold[facts["patient"], part] = True
    torn = np.flatnonzero((homes[..., : len(PARTS)].sum(axis=2) > 1).any(axis=0))
    if len(torn) == 0:
        return Finding(topic, "fine", f"none of {homes.shape[1]} stands on two sides of the split")
    names = names_of(facts, "patient_names")
    share = percent(len(torn) / homes.shape[1])
    return Finding(
        topic,
        "broken",
        f"{len(torn)} of {homes.shape[1]} ({share}) have slices on two sides of the split"
        f" ({named([names[i] for i in torn])}): accuracies are too high by what networks remember",
    )


def _twins(facts: Facts) -> Finding:
    topic = "identical pictures"
    _, group, sizes = np.unique(facts["content"], axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    twice = np.flatnonzero(sizes[group] > 1)
    if len(twice) == 0:
        return Finding(topic, "fine", f"none of {len(group)} is there twice")
    torn = np.unique(np.concatenate([_differing(group, part) for part in folds_of(facts)]))
    share = percent(len(twice) / len(group))
    words = f"{len(twice)} of {len(group)} ({share}) are there twice or more"
    odd = _differing(group, facts["label"])
    words += f", {len(odd)} with two labels" if len(odd) else ""
    if len(torn) == 0:
        return Finding(topic, "look", f"{words}, none on two sides of the split")
    ids = names_of(facts, "ids")
    example = named([ids[i] for i in np.flatnonzero(group == torn[0])])
    return Finding(
        topic,
        "broken",
        f"{words}, {len(torn)} on two sides of the split (e.g. {example}):"
        " networks are tested on what they were trained on",
    )


def _differing(group: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The groups whose members differ in a value."""
    pairs = np.unique(np.stack([group, values.astype(np.int64)]), axis=1)
    names, counts = np.unique(pairs[0], return_counts=True)
    found: NDArray[np.int64] = names[counts > 1]
    return found


def _near(facts: Facts) -> Finding:
    topic = "pictures that look alike"
    ids, content = names_of(facts, "ids"), facts["content"]
    found = [f"{ids[a]} = {ids[b]}" for a, b in _pairs(facts) if (content[a] != content[b]).any()]
    if not found:
        return Finding(topic, "fine", "no test picture is a slightly changed training picture")
    return Finding(
        topic,
        "look",
        f"{len(found)} pairs of a test and a training picture differ in at most {NEAR_BITS} of 256"
        f" bits of a perceptual hash ({named(found)}): look whether one is a copy of the other",
    )


def _pairs(facts: Facts) -> Iterator[tuple[int, int]]:
    """A test and another picture that look alike, each two of them once in whatever fold."""
    met: set[tuple[int, int]] = set()
    for part in folds_of(facts):
        tested, learnt = np.flatnonzero(part == TEST), np.flatnonzero(part < TEST)
        for a, b in _alike(facts["looks"][tested], facts["looks"][learnt]):
            pair = int(tested[a]), int(learnt[b])
            if pair[::-1] not in met:
                met.add(pair)
                yield pair


def _alike(ones: NDArray[np.uint8], others: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Pairs of hashes with few different bits. (A, 32), (B, 32): products of signs count them."""
    signs = np.unpackbits(others, axis=1).astype(np.float32) * 2 - 1
    bits = signs.shape[1]
    for start in range(0, len(ones), BLOCK):
        block = np.unpackbits(ones[start : start + BLOCK], axis=1).astype(np.float32) * 2 - 1
        different = (bits - block @ signs.T) / 2
        for a, b in np.argwhere(different <= NEAR_BITS):
            yield int(a) + start, int(b)
