"""Table I: keep what a map calls important, retrain, and see what accuracy is left."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from protocols.shared import REFERENCES, records, reference, scores
from vinet_bench.data.dataset import PARTS
from vinet_bench.masks import fraction, keep
from vinet_bench.metrics import evidence_precision, evidence_recall
from vinet_bench.plan import Plan
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.training import Examples
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
            for name in plan.methods:
                for trained_on in ("pictures", "masks", "swapped"):
                    budget = natural_budget(name)
                    yield Cell(self.info.name, name, seed, budget=budget, trained_on=trained_on)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        if cell.method in REFERENCES:
            return reference(cell, workshop)
        masks = {p: workshop.masks(cell.method, cell.seed, p, cell.budget) for p in PARTS}
        examples = {part: _seen(cell, workshop, part, masks[part]) for part in PARTS}
        result = workshop.retrained(examples, cell.seed)
        labels = workshop.part("test").labels
        figures = scores(result.probabilities, labels) | result.convergence
        if cell.trained_on == "pictures":
            figures |= _mask_figures(cell, workshop, masks["test"])
        return records(cell, figures, len(labels))


def _seen(cell: Cell, workshop: Workshop, part: str, masks: Tensor) -> Examples:
    """What the retrained network is shown."""
    examples = workshop.examples(part)
    if cell.trained_on == "masks":
        return Examples(_masks_as_pictures(masks, workshop.settings.mask_size), examples.labels)
    if cell.trained_on == "swapped":
        masks = masks[workshop.other_patients(part)]
    return Examples(keep(examples.images, masks), examples.labels)


def _masks_as_pictures(masks: Tensor, size: int) -> Tensor:
    """Masks as grey pictures (0..255), area-averaged. (N, H, W) -> (N, 1, size, size)."""
    grey = masks[:, None].float() * 255
    return F.interpolate(grey, size=(size, size), mode="area").round().to(torch.uint8)


def _mask_figures(cell: Cell, workshop: Workshop, masks: Tensor) -> dict[str, float]:
    """What is known of the test masks themselves and of the network that was explained."""
    figures = {
        "fraction_kept": fraction(masks),
        "constant_maps": workshop.constant_share(cell.method, cell.seed, "test"),
        "empty_masks": (~masks.flatten(1).any(dim=1)).double().mean().item(),
    }
    explained = workshop.explained_probabilities(cell.method, cell.seed, "test")
    test = workshop.part("test")
    if explained is not None:
        figures["explained_accuracy"] = scores(explained, test.labels)["accuracy"]
    if test.evidence is not None and test.evidence.any():
        reserved = masks.numpy().astype(np.bool_)
        figures["evidence_recall"] = evidence_recall(reserved, test.evidence)
        figures["evidence_precision"] = evidence_precision(reserved, test.evidence)
    return figures
