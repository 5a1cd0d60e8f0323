"""`vinet-bench plan`: a run's tasks, its longest chain, and the hours on so many workers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table as Grid

from vinet_bench.cli_options import (
    Artefacts,
    Changes,
    Checkpoint,
    Classifier,
    CrossFit,
    Data,
    Deterministic,
    Device,
    DeviceName,
    Explain,
    GpusPerTask,
    Importance,
    Maps,
    Methods,
    Out,
    Patients,
    PatientsKnown,
    PresetName,
    Rows,
    Seeds,
    Size,
    Threshold,
    all_changes,
    gpu_share,
    words,
)
from vinet_bench.cli_run import PROTOCOL_HELP, protocol_names
from vinet_bench.consoles import out_console
from vinet_bench.errors import UserError
from vinet_bench.records import Cell

if TYPE_CHECKING:
    from vinet_bench.networks_needed import Task
    from vinet_bench.plan import Plan
    from vinet_bench.planned import Planned

HOUR = 3600

PlanWorkers = Annotated[
    str | None, typer.Option(help="Comma-separated numbers of workers, e.g. 1,2,8.")
]
Gpus = Annotated[
    str | None,
    typer.Option(help="Comma-separated numbers of GPUs; see --gpus-per-task, --faster, --price."),
]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="RUN", help="A run's folder whose times are taken."),
]
Faster = Annotated[
    float, typer.Option(help="Assume that every task is so many times faster than measured.")
]
Price = Annotated[
    float | None, typer.Option(help="Of a worker's hour, or with --gpus of a GPU's, for the cost.")
]


def plan_command(
    protocol: Annotated[str, typer.Argument(help=PROTOCOL_HELP)] = "all",
    data: Data = "phantom",
    methods: Methods = None,
    preset: PresetName = "quick",
    seeds: Seeds = None,
    threshold: Threshold = 0.9,
    device: DeviceName = Device.auto,
    out: Out = None,
    changes: Changes = None,
    size: Size = None,
    patients: PatientsKnown = Patients.column,
    importance: Importance = None,
    classifier: Classifier = None,
    rows: Rows = None,
    cross_fit: CrossFit = None,
    explain: Explain = None,
    checkpoint: Checkpoint = None,
    maps: Maps = None,
    deterministic: Deterministic = False,
    artefacts: Artefacts = None,
    workers: PlanWorkers = None,
    gpus: Gpus = None,
    gpus_per_task: GpusPerTask = 1.0,
    source: From = None,
    faster: Faster = 1.0,
    price: Price = None,
) -> None:
    """Show what a run would make and how long it may take on so many workers; make nothing."""
    places = _places(workers, gpus, gpus_per_task)
    _check_assumed(faster, price)
    from vinet_bench.plan import make_plan

    plan = make_plan(
        data=data,
        preset=preset,
        methods=words(methods),
        seeds=seeds,
        threshold=threshold,
        size=size,
        patients=patients.value,
        changes=all_changes(changes, importance, classifier, cross_fit, explain),
        rows=words(rows),
        checkpoint=checkpoint,
        maps=maps,
        deterministic=deterministic,
        artefacts=artefacts,
    )
    assumed = _assumed(faster, gpus is not None and gpus_per_task < 1)
    _print_plan(_planned(protocol, plan, out, device, source), faster, places, price, assumed)


def _planned(
    protocol: str, plan: "Plan", out: Path | None, device: Device, source: Path | None
) -> "Planned":
    from vinet_bench.planned import planned

    return planned(protocol_names(protocol), plan, out, device.value, source)


def _print_plan(
    found: "Planned",
    faster: float,
    places: dict[str, tuple[int, int]],
    price: float | None,
    assumed: Sequence[str],
) -> None:
    seconds = {task: took / faster for task, took in found.seconds.items()}
    _print_parts(found, seconds)
    _print_chain(found, seconds)
    _print_schedules(found, seconds, places, price)
    for note in (*found.notes, *assumed):
        out_console.print(note, soft_wrap=True)


def _places(workers: str | None, gpus: str | None, share: float) -> dict[str, tuple[int, int]]:
    """By heading how many tasks run at a time, and how many hours are paid for each hour."""
    at_once = _numbers("--workers", workers or ("" if gpus else "1"))
    found = {f"{n} worker{'s' * (n > 1)}": (n, n) for n in at_once}
    share = gpu_share(share)
    for n in _numbers("--gpus", gpus or ""):
        tasks = n * int(1 / share) if share <= 1 else n // int(share)
        if tasks == 0:
            raise UserError(f"--gpus {n}: --gpus-per-task {share:g} asks for more for one task")
        found[f"{n} GPU{'s' * (n > 1)}"] = (tasks, n)
    return found


def _numbers(option: str, text: str) -> list[int]:
    parts = words(text) if text else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts or []):
        raise UserError(f"{option} {text}: give whole numbers above 0 with commas, e.g. 1,8,64")
    return [int(part) for part in parts or []]


def _check_assumed(faster: float, price: float | None) -> None:
    if not 0 < faster < float("inf"):
        raise UserError(f"--faster {faster:g}: give a number above 0, e.g. 10")
    if price is not None and not 0 <= price < float("inf"):
        raise UserError(f"--price {price:g}: give what an hour costs, e.g. 2.5")


def _assumed(faster: float, shared: bool) -> list[str]:
    quick = [f"Assumed: every task is {faster:g} times faster than that."]
    alone = ["Assumed: tasks that share a GPU are as fast as one that has it alone."]
    return quick * (faster != 1) + alone * shared


def _print_parts(found: "Planned", seconds: Mapping["Task", float]) -> None:
    grid = _grid("Tasks", "tasks", "hours")
    rows: dict[str, list[float]] = {}
    for task in found.graph:
        rows.setdefault(_part(task), []).append(seconds[task])
    for name, took in rows.items():
        grid.add_row(name, str(len(took)), hours(sum(took)))
    grid.add_section()
    grid.add_row("all", str(len(found.graph)), hours(sum(seconds.values())))
    out_console.print(grid)
    cells = sum(isinstance(task, Cell) for task in found.graph)
    out_console.print(f"{cells} cells to make, with {found.trainings} trainings")


def _part(task: "Task") -> str:
    from vinet_bench.networks_needed import Network, Start

    if isinstance(task, Start):
        return "start of Ray"
    if isinstance(task, Cell):
        return task.protocol
    return f"{'networks' if isinstance(task, Network) else 'maps'} that cells share"


def _print_chain(found: "Planned", seconds: Mapping["Task", float]) -> None:
    from vinet_bench.schedule import critical_path
    from vinet_bench.task_graph import title

    chain = critical_path(found.graph, seconds)
    if chain:
        whole = hours(sum(seconds[task] for task in chain))
        steps = " -> ".join(f"{title(task)} ({hours(seconds[task])})" for task in chain)
        out_console.print(f"critical path: {whole} hours: {steps}", soft_wrap=True)


def _print_schedules(
    found: "Planned",
    seconds: Mapping["Task", float],
    places: Mapping[str, tuple[int, int]],
    price: float | None,
) -> None:
    from vinet_bench.schedule import simulate

    grid = _grid("Schedule", "at a time", "hours", "busy", *(["cost"] if price is not None else []))
    for heading, (at_once, paid) in places.items():
        run = simulate(found.graph, seconds, at_once)
        cost = [] if price is None else [f"{price * paid * run.seconds / HOUR:,.0f}"]
        grid.add_row(heading, str(at_once), hours(run.seconds), f"{run.busy:.0%}", *cost)
    out_console.print(grid)


def _grid(title: str, *headings: str) -> Grid:
    grid = Grid(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("", no_wrap=True)
    for heading in headings:
        grid.add_column(heading, justify="right")
    return grid


def hours(seconds: float) -> str:
    """
    >>> hours(0), hours(20), hours(5400), hours(720_000)
    ('0', '0.0056', '1.5', '200')
    """
    found = seconds / HOUR
    return f"{found:,.0f}" if found >= 100 else f"{found:.2g}"
