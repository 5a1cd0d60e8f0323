"""LUNA16 and LIDC into one prepared data set: scan by scan, by several processes, resumable.

Every scan's slices lie whole in a file of their own under OUT.part/ until all are there; then the
data set is written beside it and moved to its place. A killed run goes on where it was.
"""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from vinet_bench.data.cutting import Cut, human_ceiling
from vinet_bench.data.lidc_table import ATTRIBUTION
from vinet_bench.data.parts import (
    LEFT_OUT,
    PREPARED,
    Job,
    ReportRow,
    StoredPart,
    is_done,
    read_part,
    work,
    write_part,
)
from vinet_bench.data.prepared import Description, write_errors, write_prepared
from vinet_bench.data.readings import Readings
from vinet_bench.data.workers import each
from vinet_bench.errors import UserError
from vinet_bench.progress import Progress
from vinet_bench.writing import replacing

CLASSES = ("1", "2", "3", "4", "5")


@dataclass(frozen=True)
class Source:
    """What is prepared: its name, jobs, readings, rows that are known before any job, and what
    else the recipe must name."""

    name: str
    jobs: Sequence[Job]
    readings: Readings
    known: Sequence[ReportRow]
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What was prepared: counts, the human ceiling, and why nodules or files were left out."""

    folder: Path
    slices: int
    nodules: int
    patients: int
    labels: Mapping[str, int]
    ceiling: float
    left_out: Mapping[str, int]


def prepare(source: Source, cut: Cut, out: Path, workers: int, progress: Progress) -> Result:
    """Works through a source's jobs into a prepared data set at `out`, which must not exist.

    Jobs that an earlier, stopped call finished are not done again. Raises UserError.
    """
    if out.exists():
        raise UserError(f"--out {out} is there already: remove it, or name another folder")
    recipe = {**source.recipe, **cut.model_dump(), "readings": source.readings.source}
    parts = _parts_folder(out, recipe)
    todo = [job for job in source.jobs if not is_done(parts, job)]
    with progress.step(f"preparing {source.name}", len(todo)) as advance:
        for _ in each(Worker(parts, source.readings, cut), todo, workers):
            advance()
    result = _assembled(source, parts, out, recipe)
    shutil.rmtree(parts.parent, ignore_errors=True)
    return result


def _parts_folder(out: Path, recipe: Mapping[str, Any]) -> Path:
    """OUT.part/scans. Raises UserError if a command with other settings began it."""
    base = out.with_name(f"{out.name}.part")
    noted, text = base / "recipe.json", json.dumps(recipe, indent=2)
    with write_errors(base):
        (base / "scans").mkdir(parents=True, exist_ok=True)
        if not noted.exists():
            with replacing(noted) as beside:
                beside.write_text(text, encoding="utf-8")
        if noted.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{base} was begun with other settings: remove it, or name another --out"
            )
    return base / "scans"


@dataclass(frozen=True)
class Worker:
    """Does one job and leaves its part in a file."""

    parts: Path
    readings: Readings
    cut: Cut

    def __call__(self, job: Job) -> None:
        write_part(self.parts / f"{job.key}.npz", work(job, self.readings, self.cut))


def _assembled(source: Source, folder: Path, out: Path, recipe: Mapping[str, Any]) -> Result:
    parts = _without_twins([read_part(folder, job) for job in source.jobs])
    report = [*source.known, *(row for part in parts for row in part.report)]
    rows = [row for part in parts for row in part.rows]
    left_out = Counter(row.kind for row in report if row.status == LEFT_OUT)
    if not rows:
        reason = left_out.most_common(1)[0][0] if left_out else "LIDC has no nodule in these scans"
        raise UserError(f"no nodule of {source.name} could be prepared: {reason}")
    nodules = list({(row["series"], row["nodule"]): row for row in rows}.values())
    ceiling = human_ceiling([[int(s) for s in n["malignancy_reads"].split()] for n in nodules])
    labels = Counter(row["label"] for row in rows)
    about = Description(
        name=source.name,
        class_names=tuple(name for name in CLASSES if name in labels),
        patients_known=True,
        notes=_notes(ceiling),
        recipe=dict(recipe),
    )
    pieces = (part.piece() for part in parts if part.rows)
    write_prepared(out, about, len(rows), pieces, _table(report))
    patients = len({row["patient"] for row in rows})
    return Result(out, len(rows), len(nodules), patients, labels, ceiling, left_out)


def _without_twins(parts: Sequence[StoredPart]) -> list[StoredPart]:
    """Where two jobs gave slices of one series, neither stands: nobody knows which is right."""
    owners: dict[str, set[Path]] = defaultdict(set)
    for part in parts:
        for row in part.report:
            if row.status == PREPARED:
                owners[row.series].add(part.path)
    twice = {series for series, paths in owners.items() if len(paths) > 1}
    reason = "the series stands in two folders: remove one"
    return [part.without(twice, reason) for part in parts]


def _notes(ceiling: float) -> tuple[str, ...]:
    return (
        f"a single reader agrees with the median of the nodule's others in {100 * ceiling:.1f} % "
        "of cases: the human ceiling of these labels",
        ATTRIBUTION,
    )


def _table(report: Iterable[ReportRow]) -> list[list[str]]:
    header = [f.name for f in fields(ReportRow)]
    return [header, *(list(astuple(row)) for row in report)]
