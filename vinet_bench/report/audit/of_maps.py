"""What masks give away by themselves, whether maps look at the network, and what they are like."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from vinet_bench.report.audit.finding import Finding, Verdict, listed, percent
from vinet_bench.report.audit.material import Material, Scores
from vinet_bench.report.figures import PlanRow
from vinet_bench.stats import LEVEL, holm, paired_permutation

NAMED, CLEAR, HALF = 0.03, 0.10, 0.5
AREA_NAMED, AREA_CLEAR = 0.05, 0.20
KNOWS, FEWEST = 0.20, 10
SAME_MAP, ALIKE_MAP = 0.999, 0.95
EVERYTHING = 0.95
FEW = 0.01
# Who reads a mask: a network retrained on it, and two forests (on 8 x 8 shares, on the area).
READERS = ("accuracy", "shape_accuracy", "area_accuracy")
Hits = Mapping[int, Scores]  # by seed, (N,)


def map_findings(material: Material) -> Iterator[Finding]:
    """Of a protocol that keeps masks: what they tell, and what they and their maps are like."""
    for make in (_shape, _area, _label, _swapped, _network, _budgets, _values):
        yield from make(material)


@dataclass(frozen=True)
class _Reading:
    """What a row's masks tell, what the yardstick's tell, and the p of the difference."""

    row: PlanRow
    accuracy: float
    yardstick: float
    p: float

    @property
    def title(self) -> str:
        return str(self.row["title"])

    def leads(self, by: float) -> bool:
        return self.accuracy - self.yardstick > by and self.p < LEVEL


def _mean(hits: Hits) -> float:
    return float(np.mean([np.nanmean(scores) for scores in hits.values()])) if hits else -1.0


def _read(material: Material, row: PlanRow, readers: tuple[str, ...]) -> Hits:
    """The hits of whichever reader reads the row's masks best."""
    return max((material.scores(row, reader, "masks") for reader in readers), key=_mean)


def _hits(material: Material, name: str) -> Hits:
    rows = material.called(name)
    return material.scores(rows[0], "accuracy") if rows else {}


def _yardstick(material: Material, readers: tuple[str, ...]) -> tuple[str, Hits]:
    """The outline's masks tell what the evidence's shape must tell; without one, the majority."""
    return _outline(material, readers) or ("the majority", _hits(material, "majority"))


def _outline(material: Material, readers: tuple[str, ...]) -> tuple[str, Hits] | None:
    for row in material.of_kind("oracle"):
        hits = _read(material, row, readers)
        if hits:
            return f"{row['title']}'s masks", hits
    return None


def _pairs(ones: Hits, others: Hits) -> tuple[Scores, Scores] | None:
    """Two rows' hits of the same seeds, (S, N) each, if there are any; the majority serves every
    seed."""
    lone = next(iter(others.values())) if len(others) == 1 else None
    seeds = [seed for seed in ones if seed in others or lone is not None]
    if not seeds:
        return None
    return (
        np.stack([ones[seed] for seed in seeds]),
        np.stack([others.get(seed, lone) for seed in seeds]),  # type: ignore[arg-type]
    )


def _reading(material: Material, row: PlanRow, hits: Hits, yardstick: Hits) -> _Reading | None:
    """The difference on the test pictures of which both have hits, if they are not too few."""
    patients = material.patients
    if patients is None or not (pairs := _pairs(hits, yardstick)):
        return None
    apart = pairs[0] - pairs[1]
    known = ~np.isnan(apart)
    if known.any(axis=0).sum() < FEWEST:
        return None
    ones, others = (float(some[known].mean()) for some in pairs)
    return _Reading(row, ones, others, float(paired_permutation(apart[None], patients)[0]))


def _adjusted(readings: list[_Reading]) -> list[_Reading]:
    adjusted = holm([r.p for r in readings])
    return [replace(r, p=float(p)) for r, p in zip(readings, adjusted, strict=True)]


def _readings(material: Material, readers: tuple[str, ...], yardstick: Hits) -> list[_Reading]:
    made = (
        _reading(material, row, _read(material, row, readers), yardstick)
        for row in material.of_kind("method")
    )
    return _adjusted([reading for reading in made if reading is not None])


def _shape(material: Material) -> Iterator[Finding]:
    """Rong et al. 2022: does the shape of the mask give the class away?"""
    whose, yardstick = _yardstick(material, READERS)
    readings = _readings(material, READERS, yardstick)
    if not readings:
        return
    told, worst = [], "fine"
    for reading in readings:
        verdict = _shape_verdict(material, reading)
        worst = max(worst, verdict, key=("fine", "look", "broken").index)
        mark = {"fine": "", "look": " (more than it should)", "broken": " (a code)"}[verdict]
        told.append((reading.title, _explained_points(material, reading) + mark))
    reason = (
        f"of the points above the majority, the shape of the mask alone explains: {listed(told)};"
        f" yardstick: {whose}, {percent(readings[0].yardstick)}"
    )
    if worst != "fine":
        reason += "; a map that tells more than evidence does is a message to the classifier"
    yield Finding("masks alone", worst, reason, material.protocol)  # type: ignore[arg-type]


def _shape_verdict(material: Material, reading: _Reading) -> Verdict:
    if not reading.leads(NAMED):
        return "fine"
    above, total = _points(material, reading)
    code = reading.leads(CLEAR) and above >= HALF * total
    return "broken" if code else "look"


def _points(material: Material, reading: _Reading) -> tuple[float, float]:
    """Above the majority: what the masks alone reach, and what the row reaches."""
    base = material.majority
    total = material.mean(reading.row, "accuracy")
    return reading.accuracy - base, (total if total is not None else base) - base


def _explained_points(material: Material, reading: _Reading) -> str:
    above, total = (f"{100 * points:.1f}" for points in _points(material, reading))
    return f"{above} of {total}"


def _area(material: Material) -> Iterator[Finding]:
    """Is the class written into how much is reserved?"""
    whose, yardstick = _yardstick(material, ("area_accuracy",))
    readings = _readings(material, ("area_accuracy",), yardstick)
    if not readings:
        return
    every = listed((r.title, percent(r.accuracy)) for r in readings)
    bad = [r for r in readings if r.leads(AREA_NAMED)]
    reason = f"a forest that knows nothing but how much is reserved reaches {every}"
    reason += f"; yardstick: {whose}, {percent(readings[0].yardstick)}"
    if bad:
        reason += f"; the class may be written into the area by {', '.join(r.title for r in bad)}"
    clear = any(r.leads(AREA_CLEAR) for r in readings)
    verdict: Verdict = "broken" if clear else "look" if bad else "fine"
    yield Finding("area alone", verdict, reason, material.protocol)


def _label(material: Material) -> Iterator[Finding]:
    """A map is made for the network's prediction: where that is wrong, who told it the label?"""
    # Without an outline: what a network reads off whole pictures.
    whose, honest = _outline(material, READERS) or ("Original", _hits(material, "original"))
    readings = []
    for row in material.of_kind("method"):
        right, hits = material.scores(row, "explained_accuracy"), _read(material, row, READERS)
        readings.append(_reading(material, row, _where_wrong(hits, right), honest))
    known = [reading for reading in readings if reading is not None]
    if not known:
        return
    bad = [r for r in _adjusted(known) if r.leads(KNOWS)]
    told = [(r.title, f"{percent(r.accuracy)} ({whose}: {percent(r.yardstick)})") for r in bad]
    most = max(known, key=lambda r: r.accuracy)
    good = (
        "where the explained network is wrong, no method's masks tell the label much better than"
        f" {whose} (at most {percent(most.accuracy)}, {most.title})"
    )
    reason = (
        f"where the explained network is wrong, masks tell the right label: {listed(told)};"
        " such a map was given the label, or is its maker's own reading of the picture"
    )
    verdict: Verdict = "broken" if bad else "fine"
    yield Finding("the test label", verdict, reason if bad else good, material.protocol)


def _where_wrong(hits: Hits, right: Hits) -> Hits:
    """The hits of the pictures that each seed's own explained network has wrong, NaN elsewhere."""
    return {s: np.where(right[s] == 0, hits[s], np.nan) for s in hits.keys() & right.keys()}


def _swapped(material: Material) -> Iterator[Finding]:
    found = material.means(material.of_kind("method"), "accuracy", "swapped")
    if found:
        every = listed((title, percent(mean)) for title, mean in found.items())
        reason = f"pictures under another patient's mask still give: {every}"
        yield Finding("swapped masks", "fine", reason, material.protocol)


def _network(material: Material) -> Iterator[Finding]:
    """Adebayo et al. 2018: a map that new weights do not change explains no network."""
    found = material.means(material.of_kind("method"), "untrained_similarity")
    if not found:
        return
    same = [title for title, similarity in found.items() if similarity > SAME_MAP]
    alike = [(t, f"{s:.2f}") for t, s in found.items() if ALIKE_MAP < s <= SAME_MAP]
    words = []
    if same:
        words.append(f"maps are the same for a network with random weights: {', '.join(same)}")
    if alike:
        words.append(f"maps hardly change with random weights (rank correlation): {listed(alike)}")
    most = max(found, key=lambda title: found[title])
    good = f"random weights change every map (rank correlation at most {found[most]:.2f}, {most})"
    verdict: Verdict = "broken" if same else "look" if alike else "fine"
    yield Finding("the network", verdict, "; ".join(words) or good, material.protocol)


def _budgets(material: Material) -> Iterator[Finding]:
    """What was asked and what was reserved; ties that only a shuffle broke."""
    masked = material.of_kind("method", "control", "oracle")
    kept = material.means(masked, "fraction_kept")
    if not kept or material.protocol == "occlusion":  # there the figure is what is left
        return
    words = []
    full = [(title, percent(share)) for title, share in kept.items() if share > EVERYTHING]
    if full:
        words.append(f"nearly nothing is taken away: {listed(full)}")
    ties = material.means(masked, "tied_pixels")
    tied = [(title, percent(share)) for title, share in ties.items() if share > FEW]
    if tied:
        words.append(f"pixels that only the seeded shuffle chose among equals: {listed(tied)}")
    least, most = min(kept, key=lambda t: kept[t]), max(kept, key=lambda t: kept[t])
    good = f"reserved: {percent(kept[least])} ({least}) to {percent(kept[most])} ({most})"
    good += "; ties below 1 %" if ties else ""
    verdict: Verdict = "look" if words else "fine"
    yield Finding("budgets", verdict, "; ".join(words) or good, material.protocol)


def _values(material: Material) -> Iterator[Finding]:
    """Constant maps, and masks that hold nothing or all, by the share of test pictures."""
    rows = material.of_kind("method")
    if not material.means(rows, "empty_masks"):
        return
    words = []
    for metric, what in (("constant_maps", "constant maps"), ("empty_masks", "empty masks")):
        bad = [(t, percent(s)) for t, s in material.means(rows, metric).items() if s > FEW]
        words += [f"{what}: {listed(bad)}"] if bad else []
    full = [(row["title"], _saturated(material, row)) for row in rows]
    bad = [(title, percent(share)) for title, share in full if share > FEW]
    words += [f"masks of more than {percent(EVERYTHING)}: {listed(bad)}"] if bad else []
    good = "none is constant; no mask is empty or holds nearly all"
    verdict: Verdict = "look" if words else "fine"
    yield Finding("maps", verdict, "; ".join(words) or good, material.protocol)


def _saturated(material: Material, row: PlanRow) -> float:
    kept = list(material.scores(row, "fraction_kept").values())
    if not kept:
        return 0.0
    shares = np.stack(kept)
    return float((shares[~np.isnan(shares)] > EVERYTHING).mean())
