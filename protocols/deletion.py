"""Deletion and insertion: take a picture away pixel by pixel, and see when the decision goes."""

from collections.abc import Collection, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols.shared import Floats, Measured, ranks, records, whole_map_cells, whole_map_figure
from vinet_bench.machine import as_pictures
from vinet_bench.masks import ORDERS, replace
from vinet_bench.metrics import class_probabilities, curve_areas
from vinet_bench.networks_needed import Network, behind_maps, original
from vinet_bench.perturbations import blurred
from vinet_bench.plan import Plan
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import Layout
from vinet_bench.workshop import Workshop


class Deletion:
    """The area under the original ResNet-18's probability of the class that it gives the untouched
    picture, while pixels are replaced in the map's order (Petsiuk et al. 2018).

    Most relevant first (MoRF) is deletion. Least relevant first (LeRF), read backwards, is
    insertion: the start picture with its most relevant pixels put in. One computation is both.
    """

    info = ProtocolInfo(
        name="deletion",
        title="Deletion and insertion",
        paper="Petsiuk et al. 2018, arXiv 1806.07421",
        in_all=False,
    )
    layout = Layout(
        "deletion",
        "deletion",
        "Deletion and insertion",
        "Deletion (most relevant pixels first) and insertion (least relevant first, read backwards)"
        " on {data}: the area under the probability, from a {network} trained on the original"
        " pictures, of the class that it gives the untouched picture. Pixels become air, or those"
        " of the blurred picture. Gap: insertion less deletion.",
        (
            whole_map_figure("deletion_air", "Deletion AUC %", "low"),
            whole_map_figure("insertion_air", "Insertion AUC %", "high"),
            whole_map_figure("gap_air", "Gap", "high"),
            whole_map_figure("deletion_blur", "Deletion, blur %", "low"),
            whole_map_figure("insertion_blur", "Insertion, blur %", "high"),
            whole_map_figure("gap_blur", "Gap, blur", "high"),
        ),
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        return whole_map_cells(self.info.name, plan)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        return {*original(cell), *behind_maps(cell)}

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        images = as_pictures(workshop.examples("test").images)
        order = ranks(workshop, cell.method, cell.seed)
        settings = workshop.settings.evaluation
        fractions = np.linspace(0, 1, settings.steps + 1)
        found = Measured(kept={"fractions": fractions})
        before = workshop.original_probabilities(cell.seed)
        classes = before.argmax(axis=1)

        def chosen(pictures: Tensor) -> Floats:
            return class_probabilities(workshop.predict_original(cell.seed, pictures), classes)

        fills = {"air": torch.zeros_like(images), "blur": blurred(images, settings.blur)}
        between = [round(f * order[0].numel()) for f in fractions[1:-1]]
        for name, fill in fills.items():
            ends = class_probabilities(before, classes), chosen(fill)  # of both orders
            steps = {
                way: [chosen(replace(images, go(order, k), fill)) for k in between]
                for way, go in ORDERS.items()
            }
            curves = {way: np.stack([ends[0], *s, ends[1]], axis=1) for way, s in steps.items()}
            found |= _areas(name, curves, fractions)
        return records(cell, workshop, found)


def _areas(fill: str, curves: dict[str, Floats], fractions: NDArray[np.float64]) -> Measured:
    deletion, insertion = (curve_areas(fractions, curves[way].T) for way in ("morf", "lerf"))
    return Measured(
        {
            f"deletion_{fill}": deletion,
            f"insertion_{fill}": insertion,
            f"gap_{fill}": insertion - deletion,
        },
        kept={f"{way}_{fill}": values for way, values in curves.items()},
    )
