"""A run before it is begun: its tasks, and how long each may take."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from vinet_bench.errors import CellError, UserError
from vinet_bench.forecast import not_counted, seconds_of, unfinished
from vinet_bench.networks_needed import Maps, Need, Network, Start, Task
from vinet_bench.plan import Plan
from vinet_bench.records import Cell
from vinet_bench.status import ALIKE
from vinet_bench.stored_run import read_run, read_seconds
from vinet_bench.task_graph import Graph, Wanted, own_trainings, task_graph, title
from vinet_bench.workshop import Workshop

SHOWN_SETTINGS = 4


@dataclass(frozen=True)
class Planned:
    """graph: what is still to be made. trainings: of all networks. seconds: by task. notes: where
    the seconds come from, in words."""

    graph: Mapping[Task, Sequence[Task]]
    trainings: int
    seconds: Mapping[Task, float]
    notes: Sequence[str]


def planned(
    protocol_names: Sequence[str],
    plan: Plan,
    folder: Path | None = None,
    device: str = "auto",
    source: Path | None = None,
) -> Planned:
    """The tasks that `run` would carry out. source: the folder of a run whose tasks were timed;
    without one the trainings alone are timed, on a few steps, and all else counts as nothing.

    Leaves no trace in the run's folder. Raises UserError as `run`, and for a source without times.
    """
    with unfinished(protocol_names, plan, folder, device) as (shop, left):
        graph = _to_make(left, shop)
        trained = _trained(graph, left, shop.plan)
        if source is None:
            seconds, notes = _timed(trained, shop)
            notes += not_counted(left)
        else:
            seconds, notes = _measured(graph, shop, source)
    trainings = sum(map(len, trained.values()))
    return Planned(_after_start(graph, seconds), trainings, seconds, notes)


def _after_start(graph: Graph, seconds: Mapping[Task, float]) -> Mapping[Task, Sequence[Task]]:
    """With Ray's start before all, where it was timed."""
    if Start() not in seconds:
        return graph
    after: dict[Task, Sequence[Task]] = {Start(): []}
    for task, below in graph.items():
        after[task] = below or [Start()]
    return after


def _to_make(left: Wanted, shop: Workshop) -> Graph:
    """Without what the run's folder has already."""

    def kept(need: Need) -> bool:
        try:
            places = shop.places_of(need)
        except CellError:
            return False  # the cells that need it would fail
        return all(shop.store.holds(*place) for place in places)

    graph = task_graph(left, shop.plan, kept)
    there = {task for task in graph if isinstance(task, Need) and kept(task)}
    return {
        task: [need for need in below if need not in there]
        for task, below in graph.items()
        if task not in there
    }


def _trained(graph: Graph, left: Wanted, plan: Plan) -> dict[Task, list[Network]]:
    """The networks that each task trains."""
    found: dict[Task, list[Network]] = {cell: own_trainings(how, cell, plan) for how, cell in left}
    return {task: [task] if isinstance(task, Network) else found.get(task, []) for task in graph}


# -- times of a few steps


def _timed(
    trained: Mapping[Task, Sequence[Network]], shop: Workshop
) -> tuple[dict[Task, float], list[str]]:
    kinds = sorted({network.kind for networks in trained.values() for network in networks})
    each = {kind: seconds_of(shop, kind) for kind in kinds}
    seconds = {task: sum(each[n.kind] for n in networks) for task, networks in trained.items()}
    return seconds, [
        "Trainings are timed on a few steps; maps and predictions come on top: --from RUN takes the"
        " times of a run that was made."
    ]


# -- times of an earlier run


def _measured(graph: Graph, shop: Workshop, source: Path) -> tuple[dict[Task, float], list[str]]:
    found = read_seconds(source)
    if not found:
        raise UserError(
            f"--from {source}: that run did not note what its tasks took (an older version made"
            " it): give one of this version"
        )
    earlier = read_run(source).plan
    pictures = len(shop.data) / earlier["data"]["slices"]
    times, guessed = _by_likeness(found), 0
    seconds: dict[Task, float] = {}
    for task in graph:
        level, took = _time(task, times, source)
        seconds[task] = took * pictures
        guessed += level > 0
    if graph and Start() in found:
        seconds[Start()] = found[Start()]
    return seconds, _about(source, earlier, shop, pictures, guessed)


def _likeness(task: Task) -> list[Hashable]:
    """What tasks that take as long have in common, the closest first."""
    if isinstance(task, Cell):
        return [alike(task) for alike in ALIKE[:-1]]
    if isinstance(task, Maps):
        return [("maps", task.method, task.part), ("maps", task.part)]
    if isinstance(task, Start):
        return [task]
    return [(task.kind, task.what), task.kind]


def _by_likeness(found: Mapping[Task, float]) -> dict[Hashable, float]:
    groups: dict[Hashable, list[float]] = {}
    for task, took in found.items():
        for level, alike in enumerate(_likeness(task)):
            groups.setdefault((level, alike), []).append(took)
    return {key: median(took) for key, took in groups.items()}


def _time(task: Task, times: Mapping[Hashable, float], source: Path) -> tuple[int, float]:
    """How unlike the tasks are that it was taken from (0: the same but for the seed), and it."""
    for level, alike in enumerate(_likeness(task)):
        if (level, alike) in times:
            return level, times[level, alike]
    raise UserError(
        f"--from {source}: it measured nothing like '{title(task)}'; give a run that did"
    )


def _about(
    source: Path, earlier: Mapping[str, Any], shop: Workshop, pictures: float, guessed: int
) -> list[str]:
    where = f"{earlier['device']}, {earlier.get('threads') or '?'} threads a task"
    notes = [f"Times are those of {source} ({where})."]
    if pictures != 1:
        notes.append(f"Its data are of another size: every time is taken {pictures:.3g} times.")
    if guessed:
        notes.append(f"{guessed} tasks were not measured there: the median of those like them.")
    if other := _other_settings(earlier["settings"], shop.settings.model_dump(mode="json")):
        shown = ", ".join(other[:SHOWN_SETTINGS]) + ", ..." * (len(other) > SHOWN_SETTINGS)
        notes.append(f"It was made with other settings, as if they took as long: {shown}.")
    return notes


def _other_settings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The keys that differ; the number of pictures is counted elsewhere, and the threads told."""
    found = []
    for section, value in ours.items():
        inner = value if isinstance(value, dict) else {"": value}
        told = theirs.get(section)
        others = told if isinstance(told, dict) else {"": told}
        keys = {f"{section}.{key}".rstrip(".") for key in inner if inner[key] != others.get(key)}
        found += sorted(keys - {"phantom.slices", "threads"})
    return found
