"""Table II: take away what a map calls important, and see what a trained network still knows."""

from collections.abc import Collection, Iterable

from protocols.shared import (
    REFERENCES,
    Measured,
    occluded,
    records,
    reference,
    reference_cells,
    reference_networks,
)
from vinet_bench.networks_needed import Network, behind_budget, behind_maps, original
from vinet_bench.plan import Plan
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.workshop import Workshop, natural_budget


class Occlusion:
    """A ResNet-18 trained once on the original pictures; in the test set the reserved pixels
    become zero (Gu et al. 2020, Eq. 10, Table II).

    Twice: at Eq. 9's threshold, as in the paper, and with exactly as many pixels as VINet reserves.
    """

    info = ProtocolInfo(
        name="occlusion",
        title="Occlusion",
        paper="Gu et al. 2020, Table II",
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        for seed in plan.seeds:
            yield from reference_cells(self.info.name, seed)
            for name in plan.methods:
                for budget in sorted({natural_budget(name), "equal"}, reverse=True):
                    yield Cell(self.info.name, name, seed, budget=budget)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        if cell.method in REFERENCES:
            return reference_networks(cell)
        return {*original(cell), *behind_maps(cell), *behind_budget(cell, plan)}

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        if cell.method in REFERENCES:
            return reference(cell, workshop)
        masks = workshop.masks(cell.method, cell.seed, "test", cell.budget)
        where = workshop.tested(cell.method)
        left = {"fraction_kept": (~masks).double().mean(dim=(1, 2)).numpy()[where]}
        if cell.budget == "equal":
            left["tied_pixels"] = workshop.tied_shares(cell.method, cell.seed)[where]
        found = occluded(workshop, cell.seed, masks, where) | Measured(left).spread(where)
        return records(cell, workshop, found)
