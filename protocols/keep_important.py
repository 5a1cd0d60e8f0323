"""Table I: keep what a map calls important, retrain, and see what accuracy is left."""

from collections.abc import Iterable

from torch import Tensor

from protocols.shared import REFERENCES, mask_figures, records, reference, scores, shown
from vinet_bench.data.dataset import PARTS
from vinet_bench.plan import Plan
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
        higher_is_better=True,
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        for seed in plan.seeds:
            for name in REFERENCES:
                yield Cell(self.info.name, name, seed, budget="everything")
            for name in plan.retrained():
                for trained_on in ("pictures", "masks", "swapped"):
                    budget = natural_budget(name)
                    yield Cell(self.info.name, name, seed, budget=budget, trained_on=trained_on)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        if cell.method in REFERENCES:
            return reference(cell, workshop)
        masks = {p: workshop.masks(cell.method, cell.seed, p, cell.budget) for p in PARTS}
        examples = {part: shown(cell.trained_on, workshop, part, masks[part]) for part in PARTS}
        result = workshop.retrained(examples, cell.seed)
        labels = workshop.part("test").labels
        figures = scores(result.probabilities, labels) | result.convergence
        if cell.trained_on == "pictures":
            figures |= _mask_figures(cell, workshop, masks["test"])
        return records(cell, figures, len(labels))


def _mask_figures(cell: Cell, workshop: Workshop, masks: Tensor) -> dict[str, float]:
    """What is known of the test masks themselves and of the network that was explained."""
    test = workshop.part("test")
    figures = mask_figures(masks, test)
    figures["constant_maps"] = workshop.constant_share(cell.method, cell.seed, "test")
    explained = workshop.explained_probabilities(cell.method, cell.seed, "test")
    if explained is not None:
        figures["explained_accuracy"] = scores(explained, test.labels)["accuracy"]
    return figures
