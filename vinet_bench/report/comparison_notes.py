"""What must be read with a comparison: one plain sentence a note."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vinet_bench.report import paper
from vinet_bench.report.context import named_seeds, planned_seeds
from vinet_bench.report.difference import Difference, Measured, Side
from vinet_bench.report.gaps import cut
from vinet_bench.report.layout import Figure, Layout
from vinet_bench.report.settings import changed_settings
from vinet_bench.stored_run import Run

MARK = "*"


@dataclass(frozen=True)
class Pair:
    """The two that are compared; b: None is the paper. same: both tested the same pictures."""

    a: Run
    b: Run | None
    same: bool

    @property
    def runs(self) -> dict[str, Run]:
        return {"A": self.a} | ({"B": self.b} if self.b else {})

    def titles(self) -> tuple[str, str]:
        """What the two are called: a folder's name, or its whole path where the names are alike."""
        folders = [run.folder.resolve() for run in self.runs.values()]
        names = [folder.name for folder in folders]
        if len(folders) > 1 and names[0] == names[1]:
            names = [str(run.folder) for run in self.runs.values()]
        return names[0], names[1] if self.b else "the paper"


@dataclass(frozen=True)
class Compared:
    """One table of both, for the words of its sheets."""

    pair: Pair
    layout: Layout
    a: Side
    b: Side
    differences: Sequence[Difference]

    def of(self, figure: Figure) -> list[Difference]:
        return [d for d in self.differences if d.figure == figure]

    def figures(self) -> list[Figure]:
        """The figures that a row has on both sides."""
        return list(dict.fromkeys(d.figure for d in self.differences if d.apart))


# ---- notes of one figure


def _named(differences: Iterable[Difference]) -> str:
    return ", ".join(d.row["title"] for d in differences)


def interval_notes(table: Compared, own: Sequence[Difference]) -> list[str]:
    """How the intervals of the differences were made."""
    known = [d for d in own if d.apart and d.apart.interval]
    without = [d for d in own if d.apart and not d.apart.interval]
    paired, single = ([d for d in known if d.paired is is_paired] for is_paired in (True, False))
    notes = []
    if paired:
        notes += [
            "95 % interval of the difference: paired, since both tested the same pictures"
            " (scores are subtracted picture by picture, whole patients are drawn)."
        ]
    if single and table.pair.b is None:
        notes += [
            "95 % interval of the difference: A's own alone. The paper printed none: its value"
            " is taken as exact."
        ]
    elif single:
        rows = f"{_named(single)}: " if paired else "95 % interval of the difference: "
        notes += [
            f"{rows}of two independent estimates, from the interval of each (MOVER, Zou and"
            f" Donner 2008), since {_why_single(table.pair)}."
        ]
    lone = [d for d in known if any(len(m.seeds) == 1 for m in _of_runs(table, d))]
    if lone:
        rows = "" if lone == known else f" ({_named(lone)})"
        notes += [
            f"One seed{rows}: an interval of patients alone, which says nothing of other trainings."
        ]
    if without:
        notes += [f"No interval, for want of stored scores by patient: {_named(without)}."]
    return notes


def _why_single(pair: Pair) -> str:
    if pair.same:
        return "no seed is in both, or other pictures were scored"
    unknown = [mark for mark, run in pair.runs.items() if not run.pictures()]
    if unknown:
        return f"nothing is stored of the pictures that {' and '.join(unknown)} tested"
    return "the test pictures are not the same"


def _of_runs(table: Compared, difference: Difference) -> list[Measured]:
    """What runs measured, the paper's values left out."""
    sides = ((table.a, difference.a), (table.b, difference.b))
    return [measured for side, measured in sides if measured and not side.exact]


def mark_notes(own: Sequence[Difference], looked_at: Sequence[Difference]) -> list[str]:
    """How many differences are marked, of how many that were looked at."""
    here = [d for d in own if d.apart and d.apart.interval]
    if not here:
        return []
    counts = [(sum(d.marked for d in some), len(some)) for some in (here, looked_at)]
    (marked, among), (all_marked, every) = counts
    return [
        f"{MARK}: the interval leaves out 0, as it does for {marked} of {among} differences here"
        f" and {all_marked} of {every} in all tables. Not adjusted for their number: of differences"
        " that are none, about one in twenty is marked."
    ]


def seed_notes(table: Compared, own: Sequence[Difference]) -> list[str]:
    """Figures over fewer seeds than their run has; the majority has no seed."""
    planned = {m: set(planned_seeds(r.plan, table.layout)) for m, r in table.pair.runs.items()}
    fewer: dict[str, list[Difference]] = {}
    for difference in own:
        sides = {"A": difference.a, "B": difference.b}
        used = {m: set(found.seeds) for m, found in sides.items() if found and m in planned}
        if difference.row["name"] != "majority" and any(used[m] < planned[m] for m in used):
            told = "; ".join(f"{mark} {named_seeds(seeds)}" for mark, seeds in used.items())
            fewer.setdefault(told, []).append(difference)
    return [f"Not over all seeds of a run ({t}): {_named(rows)}." for t, rows in fewer.items()]


# ---- notes of the whole table


def about(table: Compared) -> list[str]:
    """What the two are, and in what they differ."""
    a, b = table.pair.titles()
    told = [f"A: {a}, {_described(table.pair.a, table.layout)}."]
    if table.pair.b:
        told += [f"B: {b}, {_described(table.pair.b, table.layout)}."]
    else:
        name = paper.TABLES[table.layout.name][0]
        told += [f"B: the paper, {name} of {paper.SOURCE}; LUNA16."]
    return [*told, *_data(table.pair), *_settings(table), *_alone(table), *_failures(table)]


def _described(run: Run, layout: Layout) -> str:
    plan, data = run.plan, run.plan.get("data", {})
    versions = sorted({record.version for record in run.records})
    return (
        f"data {data.get('name', 'unnamed')} (fingerprint {data.get('fingerprint', 'unknown')},"
        f" {data.get('parts', {}).get('test', '?')} test pictures), preset"
        f" {plan.get('preset', 'none')}, {named_seeds(planned_seeds(plan, layout))},"
        f" vinet-bench {', '.join(versions)}"
    )


def _data(pair: Pair) -> list[str]:
    if pair.b is None:
        return [
            "The paper's data, networks and training are its own: a difference is one of"
            " these too, not of the methods alone."
        ]
    one, other = (run.plan.get("data", {}).get("fingerprint") for run in pair.runs.values())
    if one != other:
        return ["The data of A and B are not the same: a difference is one of data too."]
    if not pair.same and all(run.pictures() for run in pair.runs.values()):
        return [
            "The data are the same and the test parts are not: a difference is one of pictures too."
        ]
    return []


def _settings(table: Compared) -> list[str]:
    if table.pair.b is None:
        changed: list[Any] = table.pair.a.plan.get("deviations", [])
        return [f"Other in A than in the preset paper: {'; '.join(changed)}."] if changed else []
    found = changed_settings(table.pair.a.plan, table.pair.b.plan)
    variants = [", ".join(f"{fill} {net}" for fill, net in s.variants) for s in (table.a, table.b)]
    if variants[0] != variants[1]:
        found += [f"fill and network: {' | '.join(variants)}"]
    return [
        f"Settings that differ (A | B): {'; '.join(found)}."
        if found
        else "The settings of A and B are the same."
    ]


def _alone(table: Compared) -> list[str]:
    """Rows that one side lacks."""
    notes = []
    for mark, own, other in (("A", table.a, table.b), ("B", table.b, table.a)):
        theirs = {name for name, _ in [*other.values, *other.failed]}
        there = {name for name, _ in own.values}
        titles = [row["title"] for row in own.rows if row["name"] in there - theirs]
        notes += [f"In {mark} alone: {', '.join(titles)}."] if titles else []
    return notes


def _failures(table: Compared) -> list[str]:
    notes = []
    for mark, side in (("A", table.a), ("B", table.b)):
        titles = {row["name"]: row["title"] for row in side.rows}
        rows: dict[str, dict[str, None]] = {}
        for (name, _), reason in side.failed.items():
            rows.setdefault(reason, {})[titles[name]] = None
        notes += [f"Failed in {mark}: {', '.join(own)}: {cut(why)}" for why, own in rows.items()]
    return notes
