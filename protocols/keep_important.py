"""Table I: keep what a map calls important, retrain, and see what accuracy is left."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from protocols.shared import (
    REFERENCES,
    Measured,
    mask_scores,
    records,
    reference,
    reference_cells,
    reference_networks,
    scores,
    shown,
)
from vinet_bench.data.dataset import PARTS
from vinet_bench.data.stacks import made
from vinet_bench.masks import constant
from vinet_bench.metrics import commonest_class_share
from vinet_bench.networks_needed import Network, behind_budget, behind_maps, retrained
from vinet_bench.plan import Plan
from vinet_bench.probe import areas, forest_predictions, shares_in_cells
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.workshop import Workshop, natural_budget


class KeepImportant:
    """Reserved pixels stay, the rest become zero; a ResNet-18 is trained from scratch and tested
    on the masked pictures (Gu et al. 2020, Sec. IV-D, Table I).

    Beside it, what no honest reading can do without: the same network on the masks alone, and on
    pictures masked with another patient's mask.
    """

    info = ProtocolInfo(
        name="keep-important",
        title="Keep important",
        paper="Gu et al. 2020, Table I",
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        for seed in plan.seeds:
            yield from reference_cells(self.info.name, seed)
            for name in plan.retrained():
                for trained_on in ("pictures", "masks", "swapped"):
                    budget = natural_budget(name)
                    yield Cell(self.info.name, name, seed, budget=budget, trained_on=trained_on)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        if cell.method in REFERENCES:
            return reference_networks(cell)
        return {retrained(cell), *behind_maps(cell), *behind_budget(cell, plan)}

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        if cell.method in REFERENCES:
            return reference(cell, workshop)
        masks = {p: workshop.masks(cell.method, cell.seed, p, cell.budget) for p in PARTS}
        examples = {part: shown(cell.trained_on, workshop, part, masks[part]) for part in PARTS}
        result = workshop.retrained(examples, cell.seed, cell.trained_on == "masks")
        found = scores(result.probabilities, workshop.part("test").labels)
        found |= Measured(figures=result.convergence)
        if cell.trained_on == "pictures":
            found |= _of_the_maps(cell, workshop, masks["test"])
        if cell.trained_on == "masks":
            found |= _given_away(cell, workshop, masks)
        return records(cell, workshop, found)


def _of_the_maps(cell: Cell, workshop: Workshop, masks: Tensor) -> Measured:
    """What is known of the test maps and masks themselves, and of the network explained."""
    test = workshop.part("test")
    maps = workshop.maps(cell.method, cell.seed, "test")
    found = mask_scores(masks, test) | Measured({"constant_maps": constant(maps).double().numpy()})
    if cell.budget == "equal":
        found |= Measured({"tied_pixels": workshop.tied_shares(cell.method, cell.seed)})
    explained = workshop.explained_probabilities(cell.method, cell.seed, "test")
    if explained is None:
        return found
    found |= scores(explained, test.labels).renamed({"accuracy": "explained_accuracy"})
    similarity = workshop.untrained_similarity(cell.method, cell.seed)
    return found | Measured(
        figures={
            "explained_commonest_class_share": commonest_class_share(explained),
            "untrained_similarity": cast(float, similarity),
        },
    )


def _given_away(cell: Cell, workshop: Workshop, masks: Mapping[str, Tensor]) -> Measured:
    """Whether a forest reads the class off the masks: off their area, and off their shape."""
    labels, truth = (workshop.part(part).labels for part in ("train", "test"))
    found = {}
    for metric, features in (("area_accuracy", areas), ("shape_accuracy", shares_in_cells)):
        train, test = (_of_each(features, masks[part].numpy()) for part in ("train", "test"))
        given = forest_predictions(train, labels, test, cell.seed)
        found[metric] = (given == truth).astype(np.float64)
    return Measured(found)


def _of_each(
    features: Callable[[NDArray[np.bool_]], NDArray[np.float64]], masks: NDArray[np.bool_]
) -> NDArray[Any]:
    """A mask's features depend on no other, so that a few masks are looked at at a time."""
    return made(len(masks), lambda some: features(masks[some]))
