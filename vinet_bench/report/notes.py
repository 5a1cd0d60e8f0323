"""What must be read with a table: one plain sentence a note."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from vinet_bench.data.dataset import PARTS
from vinet_bench.report import paper
from vinet_bench.report.audit.of_networks import COLLAPSED
from vinet_bench.report.context import Context, named_seeds
from vinet_bench.report.gaps import (
    costly_rows,
    failures,
    fewer_pictures,
    left_out,
    missing_rows,
    missing_seeds,
)
from vinet_bench.report.layout import BINS, DESTRUCTION, OCCLUSION, Figure
from vinet_bench.report.uncertainty import FROM_BEST, FROM_VINET
from vinet_bench.stats import LEVEL, ranking_agreement

_COMMONEST = Figure("", "commonest_class_share")


def _data(context: Context) -> list[str]:
    data = context.data
    sizes = data.get("parts", {})
    parts = ", ".join(f"{name} {sizes[name]}" for name in sorted(sizes, key=_order))
    folds = f"in {data['folds']} folds " if data.get("folds") else ""
    patients = data.get("patients") if data.get("patients_known", True) else "an unknown number of"
    words = (
        f"Data: {data.get('name', 'unnamed')}, {data.get('slices', '?')} slices of {patients}"
        f" patients, split {folds}by {data.get('split_by', 'patient')} ({parts})."
    )
    mark = data.get("fingerprint")
    told = words + (f" Fingerprint {mark}." if mark else "")
    return [told, *_folds(context), *_data_notes(data)]


def _folds(context: Context) -> list[str]:
    """What cross-validation means for a figure."""
    data, folds = context.data, context.data.get("folds", 0)
    if not folds:
        return []
    used = len({seed % folds for seed in context.seeds})
    part = (
        f" Only some of the pictures were tested, those of {used} of {folds} folds: run --seeds"
        f" {folds} for all."
        if used < folds
        else ""
    )
    unit = data.get("split_by", "patient")
    unit = unit if data.get("patients_known", True) else "slice"
    return [
        f"Cross-validated: seed s tests fold s modulo {folds} and learns from the rest, each {unit}"
        f" in one fold. Figures of pictures are means over all that were tested.{part}"
    ]


def _order(part: str) -> tuple[int, str]:
    """The parts as they are used; the store keeps a plan's keys in the order of the alphabet."""
    return PARTS.index(part) if part in PARTS else 3, part


def _data_notes(data: dict[str, Any]) -> list[str]:
    return [f"About the data: {' '.join(str(note).split())}" for note in data.get("notes", [])]


def _majority(context: Context) -> list[str]:
    share = context.data.get("majority")
    if share is None:
        return []
    classes = len(context.data.get("class_names", []))
    of = f" of {classes} classes" if classes else ""
    where = " (row Majority)" if any(r["name"] == "majority" for r in context.rows) else ""
    return [f"The commonest{of} holds {100 * share:.2f} % of the test part{where}."]


def _seeds_and_intervals(context: Context) -> list[str]:
    count = len(context.seeds)
    if count == 0:
        return []
    named = named_seeds(context.seeds).capitalize()
    unit = "patients" if context.data.get("patients_known", True) else "slices"
    folds = context.data.get("folds", 0)
    shown = [f for f in context.layout.figures if f.interval]
    if any(context.uncertainty.interval(row, f) for row in context.rows for f in shown):
        seeds = ", each with the seeds of its fold" if folds else " and seeds"
        over = f"over {unit}{seeds if count > 1 else '; one seed says nothing of others'}"
        bracket = f" In brackets: 95 % interval {over} (whole {unit} are drawn)."
    else:
        bracket = ""
    half = " ±: half width of the 95 % t interval over the seeds." if count > 1 else ""
    return [f"{named}.{bracket}{half}"]


def _size(figure: Figure, difference: float) -> str:
    if figure.percent:
        return f"{100 * difference:.1f} points"
    return f"{difference:.{figure.digits}f}"


def _tests(context: Context) -> list[str]:
    """What the marks mean, and what could not have been marked."""
    notes = []
    for figure in context.layout.figures:
        vinet, best = context.uncertainty.comparisons(figure)
        marked = [(m, c) for m, c in ((FROM_VINET, vinet), (FROM_BEST, best)) if c is not None]
        if marked and figure.heading:
            words = " and ".join(
                f"{mark} from {found.against['title']} (differences below"
                f" {_size(figure, found.smallest)} could hardly be shown)"
                for mark, found in marked
            )
            notes.append(f"{figure.heading.removesuffix(' %')} differs: {words}.")
    if notes:
        over = "by patients and seeds" if len(context.seeds) > 1 else "by patients"
        notes.append(
            f"Differences: paired test {over}, Holm over the rows, p < {LEVEL};"
            " in parentheses the difference that is found with a power of 80 %, for these networks."
        )
    return notes


def _threshold(context: Context) -> list[str]:
    t = context.plan.get("threshold")
    if t is None or context.figures.whole_maps:
        return []
    bound = f"{1 - t:.6f}".rstrip("0")
    return [
        f"Threshold T = {t:g} (Eq. 9): a pixel is reserved where its importance is at least"
        f" 1 - T = {bound}. S is the share of reserved pixels, averaged over the test part."
    ]


def _budget(context: Context) -> list[str]:
    if context.figures.whole_maps:
        return []
    budget = context.plan.get("settings", {}).get("control_budget", "vinet")
    words = "as many pixels as VINet reserves"
    if isinstance(budget, int | float):
        words = f"{100 * budget:.2f} % of the pixels"
    return [f"Equal budget: exactly {words}, for every row; controls have no other budget."]


def _drop(context: Context) -> list[str]:
    if context.layout not in (OCCLUSION, DESTRUCTION):
        return []
    return [
        "Drop: by how much the true class's probability falls when the reserved pixels go, in"
        " percentage points; more is better. It orders methods where accuracy cannot."
    ]


def _vinets(context: Context) -> list[str]:
    """What the columns of a table of VINets mean."""
    notes = ["Accuracy is the VINet's own on the test part, with its noise."]
    if any(figure.metric == "importance_loss" for figure in context.layout.figures):
        notes += ["Importance loss: the mean of M (Eq. 8)."]
    if any(row["kind"] == "reference" for row in context.rows):
        notes += ["None: the classifier trained alone, as long and as fast, without destruction."]
    if context.layout is DESTRUCTION:
        notes += [
            "M < 0.1, M > 0.9: the share of the map's pixels there (Sec. IV-E); the CSV file has"
            f" the shares in {BINS} steps (values_00 to values_{BINS - 1}).",
            "The paper says that a sigmoid's map becomes empty, that multiplying by M removes"
            " nothing, and that noise of absolute scale is outgrown (Sec. III): such a map does not"
            " bound what its classifier saw. The rows after training (noise, min-max) are the"
            " plan's own VINet, tested otherwise.",
        ]
    return notes


def _preset(context: Context) -> list[str]:
    plan = context.plan
    versions = ", ".join(f"{k} {v}" for k, v in sorted(plan.get("versions", {}).items()))
    made = f"Preset {plan.get('preset', 'none')}, {plan.get('precision', '?')} on"
    made += f" {plan.get('device', '?')}"
    made += f" with {plan['threads']} threads" if plan.get("threads") else ""
    made += " with deterministic kernels alone" if plan.get("deterministic") else ""
    made += f" ({versions})." if versions else "."
    changed = plan.get("deviations", [])
    other = f"Other than in the preset paper: {'; '.join(changed)}." if changed else ""
    return [made, other or "The settings are those of the preset paper."]


def _by(context: Context, key: str) -> str:
    """'minmax (CAM, VBP); none (VINet)': the methods under each word of the plan's column."""
    found: dict[str, list[str]] = {}
    for row in context.rows:
        if row.get(key):
            found.setdefault(row[key], []).append(row["title"])
    return "; ".join(f"{word} ({', '.join(titles)})" for word, titles in found.items())


def _policies(context: Context) -> list[str]:
    scaling, explains = _by(context, "scaling"), _by(context, "explains")
    notes = [f"Scaling of the maps before the threshold: {scaling}."] if scaling else []
    notes += [f"Network that is explained: {explains}."] if explains else []
    variants = [f"{r['title']}: {r['variant']}" for r in context.rows if r.get("variant")]
    return notes + ([f"Variants: {'; '.join(variants)}."] if variants else [])


def _collapsed(context: Context) -> list[str]:
    if context.layout is not OCCLUSION:  # elsewhere the audit says it
        return []
    named = context.shares(_COMMONEST, COLLAPSED, but="majority")
    if not named:
        return []
    return [
        "Collapsed onto one class (the commonest prediction holds more than"
        f" {100 * COLLAPSED:.0f} % of the pictures): accuracy is no order of quality: {named}."
    ]


def _own(context: Context) -> list[str]:
    return list(context.layout.notes)


def _rankings(context: Context) -> list[str]:
    """Whether figures order methods and controls alike, from the best to the worst."""
    figures = {figure.key: figure for figure in context.layout.figures}
    ranked = [row for row in context.rows if row["kind"] in ("method", "control")]
    notes = []
    for first, *others in context.layout.rankings:
        merits = {
            key: [context.figures.merit(row, figures[key]) for row in ranked]
            for key in (first, *others)
        }
        found = {other: ranking_agreement(merits[first], merits[other]) for other in others}
        told = [
            f"{figures[other].heading.removesuffix(' %')} {agreement.tau:.2f} ({agreement.n} rows)"
            for other, agreement in found.items()
            if math.isfinite(agreement.tau)
        ]
        if told:
            against = figures[first].heading.removesuffix(" %")
            notes.append(
                f"Kendall's tau-b between the ranking of methods and controls by {against} and that"
                f" by: {', '.join(told)}. 1 is the same order, best first."
            )
    return notes


def _claim(context: Context) -> list[str]:
    """Whether what the paper says of two rows came out here."""
    claim = paper.CLAIMS.get(context.layout.name)
    rows = {row["title"]: row for row in context.rows}
    if claim is None or not {claim.first, claim.second} <= rows.keys():
        return []
    first, second = rows[claim.first], rows[claim.second]
    figure = next(f for f in context.layout.figures if f.key == claim.figure)
    better = context.figures.merit(first, figure) - context.figures.merit(second, figure)
    if math.isnan(better):
        return []
    tested = context.uncertainty.against(first, figure)
    p = tested.p.get(second["name"], 1.0) if tested else 1.0
    outcome = "came out here" if better > 0 else "did not come out here: it is the other way round"
    if p >= LEVEL:
        outcome = "did not come out here: no difference was found"
    shown = " beside ".join(
        f"{100 * (context.figures.mean(row, figure) or 0.0):.2f}" for row in (first, second)
    )
    return [
        f"The paper ({claim.where}) finds {claim.first} better than {claim.second} in"
        f" '{figure.heading}'. That {outcome} ({shown})."
    ]


def all_notes(context: Context) -> list[str]:
    """The notes in the order of print: failures first, then what the figures mean."""
    made: list[Callable[[Context], list[str]]] = [failures, missing_rows, costly_rows]
    made += [missing_seeds, fewer_pictures, _collapsed]
    made += [_vinets] if context.layout.own_rows else []
    made += [
        _own,
        _rankings,
        _drop,
        _data,
        _majority,
        _seeds_and_intervals,
        _tests,
        _claim,
        _threshold,
    ]
    if not context.layout.own_rows:
        made += [_budget, _policies]
    made += [_preset, left_out]
    return [note for make in made for note in make(context)]


def all_warnings(data: Mapping[str, Any]) -> list[str]:
    """What makes figures of a plan's data untrustworthy; printed in red."""
    warnings = []
    if not data.get("patients_known", True):
        warnings.append("patients unknown: slices of one patient may stand on both sides")
    if data.get("split_by") == "slice":
        warnings.append(
            "split by slice: slices of one patient stand on both sides, so accuracy is inflated"
        )
    return warnings
