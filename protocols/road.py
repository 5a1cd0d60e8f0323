"""ROAD: remove pixels so that the picture stays likely, and debias what is left."""

from collections.abc import Collection, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols.shared import Measured, ranks, records, whole_map_cells, whole_map_figure
from vinet_bench.imputation import impute
from vinet_bench.machine import as_pictures
from vinet_bench.masks import ORDERS
from vinet_bench.metrics import class_probabilities, hits
from vinet_bench.networks_needed import Network, behind_maps, original
from vinet_bench.perturbations import normal_noise
from vinet_bench.plan import Plan
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import Layout
from vinet_bench.seeds import picture_generators
from vinet_bench.workshop import Workshop

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)


class Road:
    """Accuracy of the original ResNet-18 without the most and the least relevant pixels, which
    become the noisy mean of their neighbours (Rong et al. 2022), averaged over the fractions.

    Beside it the probability of the class that it gives the untouched picture, and the gap.
    """

    info = ProtocolInfo(
        name="road",
        title="ROAD",
        paper="Rong et al. 2022, arXiv 2202.00449",
        in_all=False,
    )
    layout = Layout(
        "road",
        "road",
        "ROAD",
        "Remove and debias on {data}: a {network} trained on the original pictures, tested without"
        " the most relevant pixels (MoRF) or the least (LeRF), which become the noisy mean of their"
        " neighbours; averaged over 10, 20, 30, 40 and 50 % of the pixels. Probability: of the"
        " class that it gives the untouched picture. Gap: LeRF less MoRF.",
        (
            whole_map_figure("morf_accuracy", "MoRF accuracy %", "low"),
            whole_map_figure("lerf_accuracy", "LeRF accuracy %", "high"),
            whole_map_figure("morf_probability", "MoRF probability %", "low"),
            whole_map_figure("lerf_probability", "LeRF probability %", "high"),
            whole_map_figure("gap", "Gap", "high"),
        ),
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        return whole_map_cells(self.info.name, plan)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        return {*original(cell), *behind_maps(cell)}

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        order = ranks(workshop, cell.method, cell.seed)
        classes = workshop.original_probabilities(cell.seed).argmax(axis=1)
        labels = workshop.part("test").labels
        found = Measured(kept={"fractions": np.array(FRACTIONS)})
        for way in ORDERS:
            steps = _imputed_probabilities(workshop, cell.seed, order, way)
            chosen = np.stack([class_probabilities(p, classes) for p in steps], axis=1)
            right = np.stack([hits(p, labels) for p in steps], axis=1)
            means = {
                f"{way}_accuracy": right.mean(axis=1),
                f"{way}_probability": chosen.mean(axis=1),
            }
            found |= Measured(means, kept={f"{way}_imputed": chosen, f"{way}_hits": right})
        gap = found.pictures["lerf_probability"] - found.pictures["morf_probability"]
        return records(cell, workshop, found | Measured({"gap": gap}))


def _imputed_probabilities(
    workshop: Workshop, seed: int, order: Tensor, way: str
) -> list[NDArray[np.float32]]:
    """The original network's probabilities, (N, K), at each of FRACTIONS.

    A picture's noise is the same for every method, order and fraction, so that they are paired.
    """
    images, device = as_pictures(workshop.examples("test").images), workshop.machine.device
    noise = normal_noise(images, picture_generators(images, "road"))
    pictures, noise = images.to(device), noise.to(device)
    found = []
    for fraction in FRACTIONS:
        masks = ORDERS[way](order, round(fraction * order[0].numel()))
        with torch.no_grad():
            imputed = impute(pictures, masks.to(device), noise)
        found.append(workshop.predict_original(seed, imputed))
    return found
