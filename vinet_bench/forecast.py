"""What a run would train, and for how long, before anything is trained."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vinet_bench.machine import Examples
from vinet_bench.networks_needed import Network
from vinet_bench.plan import Plan
from vinet_bench.progress import Silent
from vinet_bench.protocols import Counted
from vinet_bench.run import default_folder, id_of, prepared
from vinet_bench.shared_artefacts import shared_at
from vinet_bench.store import DATABASE, Store
from vinet_bench.task_graph import Wanted
from vinet_bench.training import fit
from vinet_bench.workshop import Workshop

STEPS = 4  # that are timed
TITLES = {
    "vinet": "VINet",
    "sealed": "sealed VINet",
    "classifier": "explained classifier",
    "resnet18": "ResNet-18",
}


@dataclass(frozen=True)
class Forecast:
    """cells: not finished yet. trainings: the most that they need, by kind of network. seconds: of
    one training, by kind. uncounted: words for the protocols whose trainings are in neither."""

    cells: int
    trainings: Mapping[str, int]
    seconds: Mapping[str, float]
    uncounted: Sequence[str]

    @property
    def hours(self) -> float:
        """Of all trainings; maps and predictions come on top."""
        return sum(n * self.seconds[kind] for kind, n in self.trainings.items()) / 3600


def forecast(
    protocol_names: Sequence[str], plan: Plan, folder: Path | None = None, device: str = "auto"
) -> Forecast:
    """Counts the trainings of the cells that are not finished, and times a few steps of each kind
    of network. Leaves no trace in the run's folder. Raises UserError as `run`."""
    with unfinished(protocol_names, plan, folder, device) as (shop, left):
        trainings = Counter(network.kind for network in _networks(left, shop.plan))
        seconds = {kind: seconds_of(shop, kind) for kind in sorted(trainings)}
    return Forecast(len(left), trainings, seconds, not_counted(left))


def not_counted(cells: Wanted) -> list[str]:
    """A line for each protocol that does not say which networks its cells train."""
    silent = {how.info.name: how.info.trainings for how, _ in cells if not isinstance(how, Counted)}
    return [
        f"{name} is not counted: {words or 'it does not say what it trains'}"
        for name, words in silent.items()
    ]


@contextmanager
def unfinished(
    protocol_names: Sequence[str], plan: Plan, folder: Path | None, device: str
) -> Iterator[tuple[Workshop, Wanted]]:
    """The cells that a run would make, and the workshop that would make them; it is not to be
    asked to. Leaves no trace in the run's folder. Raises UserError as `run`."""
    task = prepared(protocol_names, plan, device)
    with _store(folder or default_folder(task.plan), plan.artefacts) as store:
        shop = task.workshop(store, store.plan(id_of(task.plan, task.data)), Silent())
        left = [
            (how, cell)
            for how in task.protocols
            for cell in how.cells(task.plan)
            if not store.has(shop.cell_key(cell))
        ]
        yield shop, left


def _networks(cells: Wanted, plan: Plan) -> set[Network]:
    """What the cells need, each network once."""
    told = (how.networks(cell, plan) for how, cell in cells if isinstance(how, Counted))
    return {network for networks in told for network in networks}


@contextmanager
def _store(folder: Path, artefacts: str) -> Iterator[Store]:
    """The run's store, read only, if there is one, else an empty one that goes again."""
    with ExitStack() as stack:
        there = (folder / DATABASE).is_file()
        if not there:
            folder = Path(stack.enter_context(TemporaryDirectory()))
        store = Store(folder, shared_at(artefacts), read_only=there)
        yield stack.enter_context(closing(store))


def seconds_of(shop: Workshop, kind: str) -> float:
    """Of one training: a few steps are timed after as many that warm up."""
    recipe, train = shop.recipe(kind), shop.examples("train")
    sample = _first(train, STEPS * recipe.training.batch)
    share = len(sample) / len(train)
    validation = _first(
        shop.examples("validation"), round(share * len(shop.examples("validation")))
    )
    once = recipe.training.model_copy(update={"epochs": 1})
    with shop.machine.computing():
        for _ in range(2):
            start = time.perf_counter()
            fit(recipe.build(0), recipe.task, sample, validation, once, 0, shop.machine)
            passed = time.perf_counter() - start
    return passed / share * recipe.training.epochs


def _first(examples: Examples, count: int) -> Examples:
    few = torch.arange(min(max(count, 2), len(examples)))
    return Examples(examples.images[few], examples.labels[few])


def told(found: Forecast) -> list[str]:
    """The forecast in words, a line each."""
    lines = [f"{found.cells} cells to make"]
    for kind, number in sorted(found.trainings.items()):
        seconds = found.seconds[kind]
        lines.append(f"{number} {TITLES[kind]} to train, about {seconds:.3g} s each")
    whole = sum(found.trainings.values())
    lines.append(
        f"at most {whole} trainings, about {found.hours:.2g} hours on this machine as it is now"
        " (timed on a few steps; maps and predictions come on top)"
    )
    return [*lines, *found.uncounted]
