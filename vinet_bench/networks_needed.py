"""Which networks a cell needs, so that trainings can be counted before any is begun."""

from dataclasses import dataclass

from vinet_bench.methods import method
from vinet_bench.plan import Plan
from vinet_bench.records import Cell


@dataclass(frozen=True)
class Network:
    """A network to be trained; two cells that need equal ones share it.

    kind: 'vinet', 'sealed', 'classifier' (explained) or 'resnet18' (retrained). what: what it is
    trained on.
    """

    kind: str
    what: str
    seed: int


@dataclass(frozen=True)
class Maps:
    """The maps of a method for a part, which cells share too."""

    method: str
    seed: int
    part: str


@dataclass(frozen=True)
class Start:
    """Of Ray and its workers' imports, which every task waits for."""

    what: str = "ray"


Need = Network | Maps
Task = Need | Cell | Start  # what takes time by itself

SHUFFLED = "shuffled labels"
UNTOUCHED = "untouched"


def explained_on(training: str = "") -> str:
    """What an explained network is trained on, in a Network's words; '' for the split's part."""
    return f"explained, {training}" if training else "explained"


def fold_names(folds: int) -> list[str]:
    """What the networks of a cross-fitting are trained on."""
    return [f"without fold {number} of {folds}" for number in range(folds)]


def behind_maps(cell: Cell) -> set[Network]:
    """The network that the cell's method explains, if it explains any."""
    kind = method(cell.method).info.explains
    return set() if kind == "nothing" else {Network(kind, explained_on(), cell.seed)}


def behind_budget(cell: Cell, plan: Plan) -> set[Network]:
    """The VINet whose share of pixels is the equal budget, unless the plan gives a share."""
    natural = cell.budget == "threshold"
    given = plan.settings.control_budget != "vinet"
    return set() if natural or given else {Network("vinet", explained_on(), cell.seed)}


def retrained(cell: Cell, on: str = "") -> Network:
    """A ResNet-18 that is trained for this cell alone."""
    words = (cell.protocol, cell.method, cell.budget, cell.trained_on, on)
    return Network("resnet18", " ".join(words), cell.seed)


def original(cell: Cell) -> set[Network]:
    """The ResNet-18 that was trained on untouched pictures."""
    return {Network("resnet18", UNTOUCHED, cell.seed)}
