"""Whether the networks behind a table learnt anything, and were treated alike."""

from collections.abc import Iterator
from typing import Any

from vinet_bench.data.tables import named
from vinet_bench.report.audit.finding import Finding, listed, percent
from vinet_bench.report.audit.material import Material
from vinet_bench.report.figures import PlanRow

COLLAPSED = 0.8  # of the pictures are given one class ...
OVER_ITS_SHARE = 0.2  # ... which is by this much more than there are of the commonest
LEARNT = 0.1  # above the majority, on what it was trained on
STILL_FALLING = 0.05
WEAK = 0.1  # below Original
_WORDS = {"masks": " (masks alone)", "swapped": " (swapped masks)"}


def network_findings(material: Material) -> Iterator[Finding]:
    """Failed cells, seeds, Original, explained networks, retrained ones, checkpoints."""
    for make in (_failed, _seeds, _collapsed, _explained, _converged, _checkpoints):
        yield from make(material)


def _finding(material: Material, topic: str, bad: str, words: str, good: str) -> Finding:
    """'broken' or 'look' with its words, or 'fine' where there are none."""
    verdict: Any = bad if words else "fine"
    return Finding(topic, verdict, words or good, material.protocol)


def _failed(material: Material) -> Iterator[Finding]:
    failed = [cell.title for cell in material.failed()]
    words = f"{len(failed)} gave no figure: {named(failed)}" if failed else ""
    yield _finding(material, "failed cells", "look", words, "none")


def _seeds(material: Material) -> Iterator[Finding]:
    """The majority has no seed; every other row ought to have all."""
    every = material.plan.get("protocol_seeds", {}).get(material.protocol)
    wanted = set(every or material.plan.get("seeds", []))
    short = []
    for row in material.rows:
        there = material.figures.seeds(row)
        if row["name"] != "majority" and there < wanted:
            missing = ", ".join(map(str, sorted(wanted - there)))
            short.append(f"{row['title']} (without {missing})")
    words = f"means of fewer seeds than the others: {named(short, 10)}" if short else ""
    if len(wanted) == 1:
        good = "one, for all rows: intervals do not hold what another training would give"
    else:
        good = f"{len(wanted)}, for all rows"
    yield _finding(material, "seeds", "look", words, good)


def _is_collapsed(material: Material, share: float) -> bool:
    return share > max(COLLAPSED, material.majority + OVER_ITS_SHARE)


def _collapsed(material: Material) -> Iterator[Finding]:
    """Networks on which everything rests: one that answers one class explains nothing."""
    original = material.called("original")
    shares = material.means(original, "commonest_class_share")
    explained = material.means(material.of_kind("method"), "explained_commonest_class_share")
    shares |= {f"the network that {title} explains": share for title, share in explained.items()}
    if not shares:
        return
    retrained = {}
    if material.protocol != "occlusion":  # there it tells of the pictures, not of the network
        masked = material.of_kind("method", "control", "oracle")
        retrained = material.means(masked, "commonest_class_share")
    broken, poor = (
        [(title, percent(s)) for title, s in found.items() if _is_collapsed(material, s)]
        for found in (shares, retrained)
    )
    words = f"one class for nearly all test pictures: {listed(broken + poor)}"
    most = percent(max([*shares.values(), *retrained.values()]))
    good = f"no network gives one class to more than {most} of the test pictures"
    verdict = "broken" if broken else "look"
    yield _finding(material, "predictions", verdict, words if broken + poor else "", good)


def _explained(material: Material) -> Iterator[Finding]:
    found = material.means(material.of_kind("method"), "explained_accuracy")
    original = material.means(material.called("original"), "accuracy")
    if not found or not original:
        return
    bound = original["Original"] - WEAK
    weak = [(title, percent(mean)) for title, mean in found.items() if mean < bound]
    every = listed((title, percent(mean)) for title, mean in found.items())
    words = f"far below Original ({percent(original['Original'])}), so that its maps say little: "
    yield _finding(
        material,
        "explained networks",
        "look",
        words + listed(weak) if weak else "",
        f"accuracy near Original's ({percent(original['Original'])}) or above: {every}",
    )


def _converged(material: Material) -> Iterator[Finding]:
    idle, falling, any_known = [], [], False
    for row, trained_on in _trained(material):
        title = row["title"] + _WORDS.get(trained_on, "")
        learnt = material.mean(row, "train_accuracy", trained_on)
        fall = material.mean(row, "late_fall", trained_on)
        if learnt is None or fall is None:
            continue
        any_known = True
        # A mask alone may hold nothing that could be learnt.
        if trained_on == "pictures" and learnt < material.majority + LEARNT:
            idle.append((title, percent(learnt)))
        elif fall > STILL_FALLING:
            falling.append((title, percent(fall)))
    if not any_known:
        return
    words = []
    if idle:
        words.append(f"hardly above the majority on their own training pictures: {listed(idle)}")
    if falling:
        words.append(f"validation loss was still falling at the end: {listed(falling)}")
    good = "every retrained network learnt its training pictures, and its validation loss is level"
    yield _finding(material, "convergence", "look", "; ".join(words), good)


def _trained(material: Material) -> Iterator[tuple[PlanRow, str]]:
    for row in material.rows:
        for trained_on in ("pictures", "masks", "swapped"):
            yield row, trained_on


def _checkpoints(material: Material) -> Iterator[Finding]:
    kept = [
        epoch
        for row, trained_on in _trained(material)
        for epoch in material.values(row, "kept_epoch", trained_on).values()
    ]
    rule = material.plan.get("checkpoint")
    if not kept or rule is None:
        return
    epochs = material.plan.get("settings", {}).get("retrain", {}).get("epochs", "?")
    reason = f"{rule}, for every network; kept {min(kept):.0f} to {max(kept):.0f} of {epochs}"
    yield Finding("checkpoints", "fine", reason, material.protocol)
