"""A run as a graph of tasks: networks and maps that cells share, and the cells that wait for them.

What a cluster carries out, and what a planned schedule is made of.
"""

from collections.abc import Callable, Mapping, Sequence

from vinet_bench.methods import in_order, method
from vinet_bench.networks_needed import UNTOUCHED, Maps, Need, Network, Start, Task, explained_on
from vinet_bench.plan import Plan
from vinet_bench.protocols import Counted, EvalProtocol
from vinet_bench.records import Cell

Graph = Mapping[Task, Sequence[Need]]
Wanted = Sequence[tuple[EvalProtocol, Cell]]


def task_graph(cells: Wanted, plan: Plan, kept: Callable[[Need], bool]) -> Graph:
    """What each task waits for, in the order in which tasks are handed out: each after what it
    needs. kept: what is there already waits for nothing."""
    graph: dict[Task, Sequence[Need]] = {}

    def add(need: Need) -> None:
        if need not in graph:
            below = [] if kept(need) else _behind(need)
            for other in below:
                add(other)
            graph[need] = below

    for how, cell in cells:
        wanted = needs(how, cell, plan)
        for need in wanted:
            add(need)
        graph[cell] = wanted
    return graph


def needs(how: EvalProtocol, cell: Cell, plan: Plan) -> list[Need]:
    """What a cell shares with others, in the order in which it can be made.

    What it leaves out is made by the cell itself: that costs time, and changes no figure.
    """
    networks = list(how.networks(cell, plan)) if isinstance(how, Counted) else []
    shared = [network for network in networks if _shared(network)]
    found: list[Need] = [*sorted(shared, key=lambda n: (n.kind, n.seed, n.what))]
    if not in_order([cell.method]) or cell.variant:
        return found  # a reference, or a row of the protocol's own
    # Cross-fitted maps of the training part are made by the cell, from its folds' networks.
    training = () if plan.settings.curves.cross_fit and _folded(shared) else ("train",)
    parts = ("test", *training, "validation") if _retrains(networks) else ("test",)
    found += [Maps(cell.method, cell.seed, part) for part in parts]
    vinet = Network("vinet", explained_on(), cell.seed)
    if vinet in shared and cell.method != "vinet":
        found.append(Maps("vinet", cell.seed, "test"))  # whose share is the equal budget
    return found


def own_trainings(how: EvalProtocol, cell: Cell, plan: Plan) -> list[Network]:
    """The networks that a cell trains for itself."""
    networks = how.networks(cell, plan) if isinstance(how, Counted) else ()
    return [network for network in networks if not _shared(network)]


def _shared(network: Network) -> bool:
    if network.kind == "resnet18":
        return network.what == UNTOUCHED
    return network.what.startswith(explained_on())


def _retrains(networks: Sequence[Network]) -> bool:
    return any(n.kind == "resnet18" and n.what != UNTOUCHED for n in networks)


def _folded(networks: Sequence[Network]) -> bool:
    return any("fold" in n.what for n in networks)


def _behind(need: Need) -> list[Need]:
    """The network that maps explain."""
    kind = method(need.method).info.explains if isinstance(need, Maps) else ""
    return [Network(kind, explained_on(), need.seed)] if kind not in ("", "nothing") else []


def title(task: Task) -> str:
    """What a dashboard calls a task."""
    if isinstance(task, Start):
        return "start of Ray and its workers"
    if isinstance(task, Cell):
        return task.title
    if isinstance(task, Maps):
        return f"{task.method} maps, {task.part}, seed {task.seed}"
    return f"{task.kind} ({task.what}), seed {task.seed}"
