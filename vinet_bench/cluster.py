"""A run's cells on a Ray cluster, or on several processes of one machine, which is a small one.

Ray does the scheduling: networks and maps are tasks that cells depend on, so that each is made
once. Workers keep what they make in memory; the driver alone writes the store.
"""

import copy
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from vinet_bench.attempts import attempt
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.splits import Split
from vinet_bench.errors import CellError, UserError
from vinet_bench.methods import in_order, method
from vinet_bench.networks_needed import Maps, Need, Network
from vinet_bench.plan import Plan
from vinet_bench.progress import Silent
from vinet_bench.protocols import Counted, EvalProtocol, protocol
from vinet_bench.records import Cell, Record
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
    """What a task gives back: artefacts, networks that diverged with their reason, records; or why
    it gave nothing."""

    artefacts: dict[Place, Arrays] = field(default_factory=dict)
    diverged: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
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
    shop._networks = {}
    shop._diverged = {key: why for made in handed_over for key, why in made.diverged.items()}
    return shop, shop.store


def prepare(need: Need, base: list[Any], *handed_over: Made) -> Made:
    """A task: a network, or maps."""
    shop, shelf = _shop(base, handed_over)
    try:
        with shop.machine.computing():
            _prepare(need, shop)
    except CellError:
        pass  # the cells that need it fail with the reason, which a diverged network keeps
    return Made(shelf.made, shop._diverged)


def _prepare(need: Need, shop: Workshop) -> None:
    if isinstance(need, Maps):
        shop.maps(need.method, need.seed, need.part)
    elif need.kind == "resnet18":
        shop.original(need.seed)
    else:
        shop.explained(need.kind, need.seed)


def make_cell(name: str, cell: Cell, base: list[Any], *handed_over: Made) -> Made:
    """A task: a cell's records and what was stored on the way."""
    shop, shelf = _shop(base, handed_over)
    with shop.machine.computing():
        records = attempt(protocol(name), cell, shop)
    return Made(shelf.made, {}, records)


def needs(how: EvalProtocol, cell: Cell, plan: Plan) -> list[Need]:
    """What a cell shares with others, in the order in which it can be made.

    What it leaves out is made by the cell itself: that costs time, and changes no figure.
    """
    networks = list(how.networks(cell, plan)) if isinstance(how, Counted) else []
    shared = [n for n in networks if n.what in ("explained", "untouched")]
    found: list[Need] = [*sorted(shared, key=lambda n: (n.kind, n.seed))]
    if not in_order([cell.method]) or cell.variant:
        return found  # a reference, or a row of the protocol's own
    retrains = any(n.kind == "resnet18" and n.what != "untouched" for n in networks)
    parts = ("test", "train", "validation") if retrains else ("test",)
    found += [Maps(cell.method, cell.seed, part) for part in parts]
    vinet = Network("vinet", "explained", cell.seed)
    if vinet in shared and cell.method != "vinet":
        found.append(Maps("vinet", cell.seed, "test"))  # whose share is the equal budget
    return found


class Graph:
    """The tasks of a run: each need is one, whoever has it."""

    def __init__(self, shop: Workshop, cluster: Cluster) -> None:
        import ray

        self._ray, self._shop = ray, shop
        machine = shop.machine
        asked: dict[str, Any] = {"num_cpus": machine.threads or 1, "max_retries": RETRIES}
        asked |= {"memory": MEMORY, "num_gpus": cluster.gpus * (machine.device.type == "cuda")}
        self._asked = asked
        self._base = [ray.put(Base(shop.plan, shop.data, shop.split, machine))]
        self._tasks: dict[Need, Any] = {}

    def cell(self, how: EvalProtocol, cell: Cell) -> Any:
        """The task of a cell."""
        wanted = [self._need(need) for need in needs(how, cell, self._shop.plan)]
        return self._submit(make_cell, cell.title, how.info.name, cell, self._base, *wanted)

    def shared(self) -> list[Any]:
        """The tasks that cells depend on, so far."""
        return list(self._tasks.values())

    def _need(self, need: Need) -> Any:
        if need not in self._tasks:
            self._tasks[need] = self._there(need) or self._new(need)
        return self._tasks[need]

    def _there(self, need: Need) -> Any | None:
        """What the store has already, put where workers find it."""
        shop = self._shop
        places = [shop.place_of(need)] if isinstance(need, Maps) else shop.places(need)
        found = {place: self._shop.store.load(*place) for place in places}
        whole = {place: arrays for place, arrays in found.items() if arrays is not None}
        return self._ray.put(Made(dict(whole))) if len(whole) == len(places) else None

    def _new(self, need: Need) -> Any:
        below: list[Any] = []
        if isinstance(need, Maps):
            kind = method(need.method).info.explains
            if kind in ("vinet", "classifier"):
                below = [self._need(Network(kind, "explained", need.seed))]
            title = f"{need.method} maps, {need.part}, seed {need.seed}"
        else:
            title = f"{need.kind}, seed {need.seed}"
        return self._submit(prepare, title, need, self._base, *below)

    def ended(self, tasks: Sequence[Any]) -> Iterator[tuple[Any, Made]]:
        """Each task with what it gave, as they end."""
        waiting = list(tasks)
        while waiting:
            (task,), waiting = self._ray.wait(waiting, num_returns=1)
            try:
                yield task, self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                yield task, Made(lost=_lost(error))

    def _submit(self, function: Callable[..., Made], title: str, *arguments: Any) -> Any:
        remote = self._ray.remote(function)
        return remote.options(name=title, **self._asked).remote(*arguments)


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
    missing: Sequence[tuple[EvalProtocol, Cell]], shop: Workshop, cluster: Cluster
) -> Iterator[tuple[Cell, list[Record]]]:
    """Each cell with its records, as they end; what they share goes into the store here."""
    with connected(cluster, shop.machine.threads):
        graph = Graph(shop, cluster)
        cells = {graph.cell(how, cell): cell for how, cell in missing}
        for task, made in graph.ended([*graph.shared(), *cells]):
            for (kind, key), arrays in made.artefacts.items():
                shop.store.save(kind, key, arrays)
            if task in cells:
                cell = cells[task]
                lost = [Record(cell, "failed", None, error=made.lost)] if made.lost else []
                yield cell, made.records or lost


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
