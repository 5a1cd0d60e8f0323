"""A run's cells on a Ray cluster, or on several processes of one machine, which is a small one.

Ray does the scheduling: networks and maps are tasks that cells depend on, so that each is made
once. Workers keep what they make in memory; the driver alone writes the store.
"""

import copy
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from vinet_bench.attempts import attempt
from vinet_bench.clock import Clock
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.splits import Split
from vinet_bench.errors import UserError
from vinet_bench.networks_needed import Maps, Need, Task
from vinet_bench.plan import Plan
from vinet_bench.progress import Silent
from vinet_bench.protocols import protocol
from vinet_bench.records import Cell, Record
from vinet_bench.task_graph import Wanted, task_graph, title
from vinet_bench.training import Machine
from vinet_bench.workshop import Workshop

Arrays = Mapping[str, NDArray[Any]]
Place = tuple[str, str]  # an artefact's kind and key
RETRIES = 3  # of a task whose worker or node was lost
MEMORY = 2 * 1024**3  # bytes that a task asks for


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
    """A workshop of this task's own. base: a reference, in a list so that Ray leaves it alone."""
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
        _prepare(need, shop)
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
        self._base = [ray.put(Base(shop.plan, shop.data, shop.split, machine))]
        self._kept: dict[Task, Any] = {}
        graph = task_graph(missing, shop.plan, self._is_kept)
        protocols = {cell: how.info.name for how, cell in missing}
        given: dict[Task, Any] = {**self._kept}
        for task, below in graph.items():
            if task not in given:
                given[task] = self._submit(task, protocols, [given[need] for need in below])
        self._tasks = {given[task]: task for task in graph if task not in self._kept}

    def ended(self) -> Iterator[tuple[Task, Made]]:
        """Each task with what it gave, as they end."""
        waiting = list(self._tasks)
        while waiting:
            (task,), waiting = self._ray.wait(waiting, num_returns=1)
            try:
                yield self._tasks[task], self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                yield self._tasks[task], Made(lost=_lost(error))

    def _is_kept(self, need: Need) -> bool:
        """Puts what the store has already where workers find it."""
        places = self._shop.places_of(need)
        found = {place: self._shop.store.load(*place) for place in places}
        whole = {place: arrays for place, arrays in found.items() if arrays is not None}
        if len(whole) == len(places):
            self._kept[need] = self._ray.put(Made(dict(whole)))
        return need in self._kept

    def _submit(self, task: Task, protocols: Mapping[Cell, str], handed_over: list[Any]) -> Any:
        own = (make_cell, protocols[task]) if isinstance(task, Cell) else (prepare,)
        function, *words = own
        remote = self._ray.remote(function)
        options = remote.options(name=title(task), **self._asked)
        return options.remote(*words, task, self._base, *handed_over)


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
            cpus = cluster.workers * (threads or 1)
            ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--ray {cluster.address}: no cluster there ({error})") from None
    try:
        yield
    finally:
        ray.shutdown()


def made_there(
    missing: Wanted, shop: Workshop, cluster: Cluster
) -> Iterator[tuple[Cell, list[Record]]]:
    """Each cell with its records, as they end; what they share goes into the store here."""
    with connected(cluster, shop.machine.threads):
        for task, made in Tasks(missing, shop, cluster).ended():
            shop.clock.add(made.seconds)
            for (kind, key), arrays in made.artefacts.items():
                shop.store.save(kind, key, arrays)
            if isinstance(task, Cell):
                lost = [Record(task, "failed", None, error=made.lost)] if made.lost else []
                yield task, made.records or lost


def _knock(address: str) -> None:
    """Raises OSError or ValueError where nobody answers: Ray itself would wait for minutes."""
    if address in ("auto", "local"):
        return
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("give auto, HOST:PORT or ray://HOST:10001")
    socket.create_connection((place.hostname, place.port), timeout=10).close()


def _lost(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"its worker was lost {RETRIES + 1} times ({type(error).__name__}: {first})"
