"""A run's cells on a Ray cluster, or on several processes of one machine, which is a small one.

Ray does the scheduling: networks and maps are tasks that cells depend on, so that each is made
once. Workers keep what they make in memory; the driver alone writes the store.
"""

import copy
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from vinet_bench.attempts import attempt
from vinet_bench.board import Board, tell
from vinet_bench.clock import Clock
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.splits import Split
from vinet_bench.environment import environment
from vinet_bench.errors import CellError, UserError
from vinet_bench.machine import Machine
from vinet_bench.networks_needed import Maps, Need, Start, Task
from vinet_bench.plan import Plan
from vinet_bench.progress import Silent
from vinet_bench.protocols import protocol
from vinet_bench.records import Cell, Record
from vinet_bench.task_graph import Wanted, task_graph, title
from vinet_bench.workshop import Workshop

Arrays = Mapping[str, NDArray[Any]]
Place = tuple[str, str]  # an artefact's kind and key
RETRIES = 2  # of a task whose worker or node was lost
MEMORY = 2 * 1024**3  # bytes that a task asks for
LOOK = 1.0  # seconds between two looks at what has ended; one takes 15 ms of the cores
# Of a Ray that is begun here: nobody reads the files that its monitor of logs looks through ten
# times a second, and one machine does not grow. Each took from the workers' cores.
CALM = {
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "LOG_NAME_UPDATE_INTERVAL_S": "60",
    "AUTOSCALER_UPDATE_INTERVAL_S": "60",
}
# glibc asks for huge pages when a process begins: the steps of networks take some 5 % less time.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@dataclass(frozen=True)
class Cluster:
    """Where tasks run: so many processes here, or a Ray cluster at an address ('auto', 'ray://...').

    gpus: the share of a GPU that a task asks for, on a GPU.
    """

    workers: int = 0
    address: str = ""
    gpus: float = 1.0


@dataclass
class Made:
    """What a task gives back: artefacts, networks that diverged with their reason, records, the
    seconds that it took; or why it gave nothing."""

    artefacts: dict[Place, Arrays] = field(default_factory=dict)
    diverged: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    seconds: dict[Task, float] = field(default_factory=dict)
    lost: str = ""


class Shelf:
    """Stands for a store in a worker: what was handed over, and what is made, in memory."""

    def __init__(self, handed_over: Iterable[Made], folder: Path) -> None:
        self.folder = folder  # of checkpoints, for a task that is tried again on this node
        self.made: dict[Place, Arrays] = {}
        self._there = {place: a for made in handed_over for place, a in made.artefacts.items()}

    def load(self, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
        """A copy: what lies in Ray's object store is shared and must not be written to."""
        found = self._there.get((kind, key))
        return None if found is None else {name: array.copy() for name, array in found.items()}

    def save(self, kind: str, key: str, arrays: Arrays) -> None:
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self.made[kind, key] = self._there[kind, key] = whole


@dataclass(frozen=True)
class Base:
    """What every task of a run needs; it goes to each node once."""

    plan: Plan
    data: SliceDataset
    split: Split
    machine: Machine


_SHOPS: dict[str, Workshop] = {}  # of this worker: parts and pictures are cut once


def _shop(base: list[Any], handed_over: Sequence[Made]) -> tuple[Workshop, Shelf]:
    """A workshop of this task's own. base: a reference to a Base, in a list so that Ray leaves it
    alone, and the board's notes."""
    import ray

    reference = base[0]
    name = reference.hex()
    if name not in _SHOPS:
        told: Base = ray.get(reference)
        empty: Any = Shelf((), Path())
        _SHOPS.clear()
        _SHOPS[name] = Workshop(told.plan, told.data, told.split, empty, told.machine, Silent())
    shop: Any = copy.copy(_SHOPS[name])
    shop.store = Shelf(handed_over, Path(tempfile.gettempdir()) / f"vinet-bench-{name[:16]}")
    shop.clock = Clock()
    shop._networks = {}
    shop._diverged = {key: why for made in handed_over for key, why in made.diverged.items()}
    return shop, shop.store


def prepare(need: Need, base: list[Any], *handed_over: Made) -> Made:
    """A task: a network, or maps."""
    shop, shelf = _shop(base, handed_over)
    # The cells that need it fail with the reason: a diverged network keeps it, and another fault
    # comes again.
    with shop.machine.computing(), suppress(Exception):
        _prepare(need, shop.at(need.seed))
    return Made(shelf.made, shop._diverged, seconds=shop.clock.taken())


def _prepare(need: Need, shop: Workshop) -> None:
    if isinstance(need, Maps):
        shop.maps(need.method, need.seed, need.part)
    elif need.kind == "resnet18":
        shop.original(need.seed)
    else:
        shop.learning(need.what).explained(need.kind, need.seed)


def make_cell(name: str, cell: Cell, base: list[Any], *handed_over: Made) -> Made:
    """A task: a cell's records and what was stored on the way."""
    shop, shelf = _shop(base, handed_over)
    tell(base[1], shop.cell_key(cell))
    with shop.machine.computing():
        records = attempt(protocol(name), cell, shop)
    return Made(shelf.made, {}, records, shop.clock.taken())


class Tasks:
    """The tasks of a run on the cluster."""

    def __init__(self, missing: Wanted, shop: Workshop, cluster: Cluster) -> None:
        import ray

        self._ray, self._shop = ray, shop
        machine = shop.machine
        asked: dict[str, Any] = {"num_cpus": machine.threads or 1, "max_retries": RETRIES}
        asked |= {"memory": MEMORY, "num_gpus": cluster.gpus * (machine.device.type == "cuda")}
        self._asked = asked
        self._prepare, self._make_cell = ray.remote(prepare), ray.remote(make_cell)
        self._board = Board(shop.store)
        base = Base(shop.plan, shop.data, shop.split, machine)
        self._base = [ray.put(base), self._board.notes]
        self._tasks = self._submitted(missing)
        self._open = {t: shop.cell_key(t) for t in self._tasks.values() if isinstance(t, Cell)}

    def ended(self) -> Iterator[tuple[Task, Made]]:
        """Each task with what it gave, as they end."""
        while self._tasks:
            waiting = list(self._tasks)
            done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=LOOK)
            self._board.read(self._open.values())
            for reference in done:
                task = self._tasks.pop(reference)  # let go, so that Ray can free what it gave
                if isinstance(task, Cell):
                    self._open.pop(task)
                yield task, self._given(reference)

    def _given(self, reference: Any) -> Made:
        try:
            made: Made = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return Made(lost=f"its task failed: {_first_line(error.cause)}")
        except self._ray.exceptions.RayError as error:
            return Made(lost=f"its worker was lost {RETRIES + 1} times ({_first_line(error)})")
        return made

    def _submitted(self, missing: Wanted) -> dict[Any, Task]:
        """Every task by its reference, in the order in which Ray is told of them."""
        names = {cell: how.info.name for how, cell in missing}
        references: dict[Task, Any] = {}

        def is_kept(need: Need) -> bool:
            if (made := self._kept(need)) is not None:
                references[need] = self._ray.put(made)
            return need in references

        submitted: dict[Any, Task] = {}
        for task, below in task_graph(missing, self._shop.plan, is_kept).items():
            if task not in references:
                function = self._make_cell if isinstance(task, Cell) else self._prepare
                words = [names[task]] if isinstance(task, Cell) else []
                handed_over = [references[need] for need in below]
                named = function.options(name=title(task), **self._asked)
                references[task] = named.remote(*words, task, self._base, *handed_over)
                submitted[references[task]] = task
        return submitted

    def _kept(self, need: Need) -> Made | None:
        """What the store has already."""
        try:
            places = self._shop.places_of(need)
        except CellError:
            return None  # the cells that need it fail with the reason
        found = {place: self._shop.store.load(*place) for place in places}
        whole = {place: arrays for place, arrays in found.items() if arrays is not None}
        return Made(dict(whole)) if len(whole) == len(places) else None


@contextmanager
def connected(cluster: Cluster, threads: int) -> Iterator[None]:
    """Raises UserError without Ray, or if there is no cluster at the address."""
    try:
        import ray
    except ImportError:
        raise UserError("--workers and --ray need Ray: pip install 'vinet-bench[ray]'") from None
    try:
        if cluster.address:
            _knock(cluster.address)
            ray.init(address=cluster.address, log_to_driver=False)
        else:
            # 'local': else a cluster that somebody runs on this machine would be taken.
            cpus = cluster.workers * (threads or 1)
            quiet = {"include_dashboard": False, "log_to_driver": False}
            with environment(CALM | HUGE_PAGES):
                ray.init(address="local", num_cpus=cpus, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        asked = f"--ray {cluster.address}: no cluster there"
        if not cluster.address:
            asked = f"--workers {cluster.workers}: Ray does not start here"
        raise UserError(f"{asked} ({error})") from None
    try:
        yield
    finally:
        ray.shutdown()


def made_there(
    missing: Wanted, shop: Workshop, cluster: Cluster
) -> Iterator[tuple[Cell, list[Record]]]:
    """Each cell with its records, as they end; what they share goes into the store here."""
    begun: float | None = time.perf_counter()
    with connected(cluster, shop.machine.threads):
        for task, made in Tasks(missing, shop, cluster).ended():
            shop.clock.add(made.seconds)
            if begun is not None and made.seconds:  # the first that ends had waited for the start
                shop.clock.add({Start(): _since(begun, made.seconds)})
                begun = None
            for (kind, key), arrays in made.artefacts.items():
                shop.store.save(kind, key, arrays)
            if isinstance(task, Cell):
                lost = [Record(task, "failed", None, error=made.lost)] if made.lost else []
                yield task, made.records or lost


def _since(begun: float, seconds: Mapping[Task, float]) -> float:
    return max(0.0, time.perf_counter() - begun - sum(seconds.values()))


def _knock(address: str) -> None:
    """Raises OSError or ValueError where nobody answers: Ray itself would wait for minutes."""
    if address in ("auto", "local"):
        return
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("give auto, HOST:PORT or ray://HOST:10001")
    socket.create_connection((place.hostname, place.port), timeout=10).close()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no more is known')}"
