"""How well the intervals and tests of `vinet_bench/stats.py` hold on made-up data.

    python -m benchmarks.statistics [--repetitions 1000] [--seed 0] [--rounds 7] [--only speed]
        [--csv PATH]

Prints four tables: the coverage of nominal 95 % intervals; the same where each seed tests its own
fold of the patients; how often a table of rows that are all
alike has a row that is significant after Holm's correction; and the time of 10,000 resamples for
1,000 patients and 10 methods against scipy.stats.bootstrap (minimum, median, maximum over rounds).
"""

import argparse
import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks import turns
from vinet_bench.stats import clustered_intervals, clustered_test, holm, paired_permutation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shape = tuple[int, int, int]
Row = Mapping[str, str | int | float]
BATCH = 50  # test sets of one table of sizes, so that they share the resamples' counts
ROWS = 10
NULL_RESAMPLES = 2000


def main() -> None:
    """Measures, prints the tables, and writes them to a file where asked."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repetitions", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--only", choices=("coverage", "folds", "false-positives", "speed"))
    options.add_argument("--csv", type=Path)
    asked = options.parse_args()
    n, rngs = asked.repetitions, np.random.default_rng(asked.seed).spawn(4)
    makers: dict[str, Callable[[], list[Row]]] = {
        "coverage": lambda: [coverage(s, n, rngs[0]) for s in coverage_settings()],
        "folds": lambda: [coverage(s, n, rngs[3]) for s in folds_settings()],
        "false-positives": lambda: [false_positives(s, n, rngs[1]) for s in null_settings()],
        "speed": lambda: speed(asked.rounds, rngs[2]),
    }
    tables: dict[str, list[Row]] = {}
    for name in [asked.only] if asked.only else makers:
        tables[name] = makers[name]()
        print(f"\n{name}\n")
        print_table(tables[name])
    if asked.csv:
        write(asked.csv, tables)


# ---- data made up


@dataclass(frozen=True)
class Setting:
    """A rule by which scores are made up.

    A score is a latent normal, its exponential of 0.8 (skewed), or whether it is below the quantile
    of the named accuracy (hit, balanced hit). icc is the share of the latent variance that all
    pictures of a patient have in common, `alike` what a picture's scores by all networks have, and
    `wobble` what a patient's by one network have. seed_sd: the spread of the networks of a method,
    in units of the score. folds: each seed scores its own share of the patients alone.
    """

    score: str
    patients: int
    icc: float
    seeds: int = 1
    seed_sd: float = 0.0
    accuracy: float = 0.0
    sizes: str = "unequal"
    alike: float = 0.1
    wobble: float = 0.0
    folds: bool = False

    @property
    def truth(self) -> float:
        """The mean over all patients and seeds there could be."""
        return {"normal": 0.0, "difference": 0.0, "skewed": float(np.exp(0.32))}.get(
            self.score, self.accuracy
        )

    def named(self) -> dict[str, str | int | float]:
        """What tells the settings of a table apart."""
        score = f"{self.score} {self.accuracy:g}" if self.accuracy else self.score
        rest = {name: getattr(self, name) for name in ("sizes", "patients", "icc", "seeds")}
        return {"score": score, **rest, "seed sd": self.seed_sd}


SPREAD = {"equal": 0.0, "unequal": 0.8, "extreme": 1.2}  # of the logarithm of a patient's pictures
CLASS_SHARES = (0.6, 0.3, 0.1)  # of the patients, whose pictures all have one class
CLASS_OFFSETS = np.array([0.1, 0.0, -0.1])  # of the accuracy: the rare class is the hard one


def slices(setting: Setting, rng: np.random.Generator) -> Ints:
    """The patient of each picture; 8 pictures each by the median. -> (N,)."""
    sizes = np.exp(rng.normal(np.log(8), SPREAD[setting.sizes], setting.patients)).round()
    return np.repeat(np.arange(setting.patients), sizes.clip(1).astype(int))


def classes_of(setting: Setting, who: Ints, rng: np.random.Generator) -> Ints:
    """The class of each picture: one, or three with two patients at least. (N,) -> (N,)."""
    if setting.score != "balanced hit":
        return np.zeros(len(who), dtype=np.int64)
    drawn = rng.choice(3, setting.patients, p=CLASS_SHARES)
    drawn[:6] = [0, 0, 1, 1, 2, 2]
    return drawn[who]


def latent(setting: Setting, who: Ints, shape: Shape, rng: np.random.Generator) -> Floats:
    """Normal deviates of variance 1 that are as alike as the setting says. -> (T, M, S, N)."""
    tests, p, n = shape[0], setting.patients, len(who)
    rest = 1 - setting.icc - setting.alike - setting.wobble
    parts = (
        (rest, rng.standard_normal((*shape, n))),
        (setting.alike, rng.standard_normal((tests, 1, 1, n))),
        (setting.icc, rng.standard_normal((tests, 1, 1, p))[..., who]),
        (setting.wobble, rng.standard_normal((*shape, p))[..., who]),
    )
    deviates = np.zeros((*shape, n))
    for share, part in parts:
        deviates += np.sqrt(share) * part
    return deviates


def made_up(
    setting: Setting, who: Ints, labels: Ints, shape: Shape, rng: np.random.Generator
) -> Floats:
    """Scores of T test sets by M methods of S seeds. shape (T, M, S) -> (T, M, S, N)."""
    deviates = latent(setting, who, shape, rng)
    shift = setting.seed_sd * rng.standard_normal((*shape, 1))
    if setting.score == "normal":
        return deviates + shift
    if setting.score == "skewed":
        skewed: Floats = np.exp(0.8 * deviates) + shift
        return skewed
    offsets = CLASS_OFFSETS[labels] if setting.score == "balanced hit" else 0.0
    chance: Floats = np.clip(setting.accuracy + offsets + shift, 0.001, 0.999)
    hits: Floats = (deviates < stats.norm.ppf(chance)).astype(np.float64)
    return hits


# ---- coverage


def coverage_settings() -> list[Setting]:
    """Patients alone; seeds too; balanced accuracy, paired differences, other sizes."""
    one = [
        Setting(score, patients, icc, accuracy=accuracy)
        for (score, accuracy), patients, icc in product(
            (("normal", 0), ("hit", 0.75), ("hit", 0.9), ("skewed", 0)),
            (20, 50, 200),
            (0, 0.4, 0.8),
        )
    ]
    two = [
        Setting(score, patients, 0.4, seeds, sd, accuracy, wobble=0.05)
        for (score, accuracy, sds), seeds, patients in product(
            (("normal", 0, (0, 0.1, 0.3)), ("hit", 0.75, (0, 0.03, 0.1))), (3, 5), (20, 50, 200)
        )
        for sd in sds
    ]
    other = [
        *(Setting("balanced hit", p, i, 3, 0.03, 0.75) for p in (50, 200) for i in (0, 0.4)),
        *(
            Setting("difference", p, 0.4, s, 0.03, 0.75, wobble=0.1)
            for p in (20, 50, 200)
            for s in (3, 5)
        ),
        *(Setting("hit", p, 0.4, accuracy=0.75, sizes="equal") for p in (20, 50, 200)),
        *(Setting("hit", p, 0.4, accuracy=0.75, sizes="extreme") for p in (20, 50, 200)),
        *(
            Setting(score, p, 0.4, 1, 0, 0.75 * (score == "hit"))
            for score in ("normal", "hit")
            for p in (5, 10)
        ),
    ]
    return one + two + other


def folds_settings() -> list[Setting]:
    """Cross-validation: as many seeds as folds."""
    found = [
        Setting(score, patients, 0.4, 5, sd, accuracy, wobble=0.05, folds=True)
        for score, accuracy, sds in (("normal", 0, (0, 0.1, 0.3)), ("hit", 0.75, (0, 0.03, 0.1)))
        for patients in (20, 50, 200)
        for sd in sds
    ]
    few = [replace(found[-2], seeds=count) for count in (2, 3, 10)]
    return [*found, *few, *(replace(s, score="difference") for s in (found[-5], found[-2]))]


def coverage(setting: Setting, repetitions: int, rng: np.random.Generator) -> Row:
    """How often the interval holds the truth, and on which side it misses, in percent."""
    found = np.concatenate(
        [_misses(setting, rng) for _ in range(-(-repetitions // BATCH))], axis=1
    )[:, :repetitions]
    above, below, width = found.mean(axis=1)
    return {
        **setting.named(),
        "covered %": round(100 * (1 - above - below), 1),
        "all above %": round(100 * above, 1),
        "all below %": round(100 * below, 1),
        "width": round(width, 3),
    }


def _misses(setting: Setting, rng: np.random.Generator) -> Floats:
    """Whether each of BATCH intervals is above the truth, or below, and its width. (3, BATCH)."""
    who = slices(setting, rng)
    labels = classes_of(setting, who, rng)
    if setting.score == "difference":
        pair = made_up(setting, who, labels, (BATCH, 2, setting.seeds), rng)
        scores = pair[:, 0] - pair[:, 1]
    else:
        scores = made_up(setting, who, labels, (BATCH, 1, setting.seeds), rng)[:, 0]
    if setting.folds:
        own = who % setting.seeds == np.arange(setting.seeds)[:, None]
        scores = np.where(own, scores, np.nan)
    found = clustered_intervals(scores, who, labels, seed=int(rng.integers(2**32)))
    above, below = found.low > setting.truth, found.high < setting.truth
    return np.stack([above, below, found.high - found.low])


# ---- false positives


def null_settings() -> list[tuple[Setting, Setting]]:
    """Ten rows and the reference: all alike; with seeds of their own; of unequal spread."""
    alike = [
        Setting(score, patients, icc, accuracy=accuracy, wobble=0.05)
        for (score, accuracy), (patients, icc) in product(
            (("hit", 0.75), ("skewed", 0)), ((10, 0.4), (20, 0.4), (50, 0), (50, 0.8), (200, 0.4))
        )
    ]
    seeds = [replace(alike[4], seeds=3, seed_sd=sd) for sd in (0, 0.01, 0.03)]
    calm, loud = Setting("hit", 50, 0, accuracy=0.9), Setting("hit", 50, 0.8, accuracy=0.9)
    return [*((s, s) for s in alike + seeds), (calm, loud)]


def false_positives(
    settings: tuple[Setting, Setting], repetitions: int, rng: np.random.Generator
) -> Row:
    """How often any of ten rows is significant after Holm, in percent of the repetitions."""
    found = np.mean([_any_significant(*settings, rng) for _ in range(repetitions)], axis=0)
    names = ("permutation %", "with seeds %", "McNemar %")
    row: dict[str, str | float] = dict.fromkeys(names, "")
    row |= {name: round(100 * share, 1) for name, share in zip(names, found, strict=False)}
    return {**settings[0].named(), "reference's icc": settings[1].icc, **row}


def _any_significant(setting: Setting, other: Setting, rng: np.random.Generator) -> list[float]:
    """By the permutation test, the test over seeds too, and McNemar's on hits."""
    who = slices(setting, rng)
    labels = np.zeros(len(who), dtype=np.int64)
    rows = made_up(setting, who, labels, (1, ROWS + 1, setting.seeds), rng)[0]
    reference = (
        rows[:1] if setting == other else made_up(other, who, labels, (1, 1, other.seeds), rng)[0]
    )
    differences = rows[1:] - reference
    seed = int(rng.integers(2**32))
    tests = [
        test(differences, who, seed=seed, resamples=NULL_RESAMPLES)
        for test in (paired_permutation, clustered_test)
    ]
    if setting.accuracy:  # McNemar's test is for hits
        tests.append(_mcnemar(differences[:, 0]))
    return [float((holm(p) <= 0.05).any()) for p in tests]


def _mcnemar(differences: Floats) -> Floats:
    """McNemar's exact p-values, every picture for itself. (M, N) -> (M,)."""
    more, less = (differences > 0).sum(axis=1), (differences < 0).sum(axis=1)
    p: Floats = 2 * stats.binom.cdf(np.minimum(more, less), more + less, 0.5)
    return np.minimum(p, 1)


# ---- speed


def speed(rounds: int, rng: np.random.Generator) -> list[Row]:
    """Seconds of 10,000 resamples, 1,000 patients, 10 methods, and scipy's over ours."""
    scores, who = _scores_for_speed(rng)
    ways: dict[str, Callable[[], object]] = {
        "clustered_intervals": lambda: clustered_intervals(scores, who),
        "paired_permutation": lambda: paired_permutation(scores - scores[:1], who),
        "scipy.stats.bootstrap": lambda: _scipy(scores[:, 0], who, None),
        "scipy.stats.bootstrap, batch=100": lambda: _scipy(scores[:, 0], who, 100),
    }
    taken = [{name: turns.seconds(way) for name, way in ways.items()} for _ in range(rounds)]
    return [
        _speed_row(name, [t[name] for t in taken], [t["clustered_intervals"] for t in taken])
        for name in ways
    ]


def bootstrap(rounds: int) -> list[turns.Ratio]:
    """The same as rows of `python -m benchmarks`: scipy as it comes, and in its faster way."""
    scores, who = _scores_for_speed(np.random.default_rng(0))
    return [
        turns.speed(
            f"bootstrap, 10,000 x 1,000 patients x 10 methods, scipy's batch={batch}",
            20,
            lambda: clustered_intervals(scores, who),
            partial(_scipy, scores[:, 0], who, batch),
            rounds,
        )
        for batch in (None, 100)
    ]


BENCHMARKS = (turns.Row("bootstrap", "20 times as fast as scipy.stats.bootstrap", bootstrap),)


def _scores_for_speed(rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Hits of 1,000 patients by 10 methods. (M, 1, N), (N,)."""
    setting = Setting("hit", 1000, 0.4, accuracy=0.75)
    who = slices(setting, rng)
    return made_up(setting, who, np.zeros_like(who), (1, ROWS, 1), rng)[0], who


def _scipy(scores: Floats, who: Ints, batch: int | None) -> None:
    """The plain percentile bootstrap of the same ratio, each method for itself."""
    counts = np.bincount(who).astype(np.float64)
    for row in scores:
        sums = np.bincount(who, weights=row)
        stats.bootstrap(
            (sums, counts),
            _ratio,
            paired=True,
            n_resamples=10_000,
            method="percentile",
            batch=batch,
        )


def _ratio(sums: Floats, counts: Floats, axis: int = -1) -> Floats:
    quotient: Floats = sums.sum(axis=axis) / counts.sum(axis=axis)
    return quotient


def _speed_row(name: str, seconds: Sequence[float], ours: Sequence[float]) -> Row:
    ratios = [a / b for a, b in zip(seconds, ours, strict=True)]
    row: dict[str, str | int | float] = {"way": name}
    for unit, values in (("s", seconds), ("over ours", ratios)):
        for which in (min, median, max):
            row[f"{which.__name__} {unit}"] = round(which(values), 3)
    return row


# ---- printing


def print_table(rows: Sequence[Row]) -> None:
    """A Markdown table."""
    print(f"| {' | '.join(rows[0])} |")
    print(f"| {' | '.join('---' for _ in rows[0])} |")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row.values())} |", flush=True)


def write(path: Path, tables: Mapping[str, Iterable[Row]]) -> None:
    """All figures in long form: table, row, column, value."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("table", "row", "column", "value"))
        for table, rows in tables.items():
            for number, row in enumerate(rows, start=1):
                out.writerows((table, number, column, value) for column, value in row.items())


if __name__ == "__main__":
    main()
