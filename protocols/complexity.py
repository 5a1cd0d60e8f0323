"""Complexity and cost: how spread out maps are, and what one takes to make."""

import time
from collections.abc import Collection, Iterable

from protocols.shared import Measured, living_maps, records, whole_map_cells
from vinet_bench.complexity import effective_areas, entropies, ginis
from vinet_bench.masks import per_picture, scale
from vinet_bench.methods import method
from vinet_bench.networks_needed import Network, behind_maps
from vinet_bench.operations import count_operations
from vinet_bench.plan import Plan
from vinet_bench.prediction import predict
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import MASKED, METHOD, Figure, Layout
from vinet_bench.workshop import EXPLAIN_BATCH, Workshop


class Complexity:
    """Entropy, Gini's index and effective area of the scaled maps; maps a second on this machine,
    and the arithmetic of a map in forward passes of the network explained.

    No quality by themselves: the random control is the most spread out, a single pixel the least.
    """

    info = ProtocolInfo(
        name="complexity",
        title="Complexity and cost",
        paper="Bhatt et al. 2020, arXiv 2005.00631; Chalasani et al. 2020, arXiv 1810.06583",
        in_all=False,
    )
    layout = Layout(
        "complexity",
        "complexity",
        "Complexity and cost",
        "How spread out the scaled maps are on {data}, and what they cost. Entropy: of the shares"
        " of relevance, as a share of an even map's. Effective area: the fewest pixels that hold"
        " 90 % of the relevance. Cost: the arithmetic of a map, counted, in forward passes of the"
        " network explained. Maps a second: in a batch, on the machine of this run.",
        (
            Figure("entropy", "entropy", "Entropy %", 1, interval=True, kinds=MASKED),
            Figure("gini", "gini", "Gini %", 1, interval=True, kinds=MASKED),
            Figure(
                "effective_area", "effective_area", "Effective area %", 1, interval=True,
                kinds=MASKED,
            ),
            Figure("cost", "cost", "Cost in passes", 1, kinds=METHOD, percent=False),
            Figure(
                "maps_a_second", "maps_a_second", "Maps a second", 0, kinds=MASKED, percent=False
            ),
        ),
    )  # fmt: skip

    def cells(self, plan: Plan) -> Iterable[Cell]:
        return whole_map_cells(self.info.name, plan)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        return behind_maps(cell)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        raw = living_maps(workshop, cell.method, cell.seed)
        scaling = method(cell.method).info.scaling
        maps = per_picture(lambda some: scale(some, scaling).clamp(min=0), raw).numpy()
        spread = Measured(
            {
                "entropy": entropies(maps),
                "gini": ginis(maps),
                "effective_area": effective_areas(maps),
            }
        )
        return records(cell, workshop, spread | Measured(figures=_cost(cell, workshop)))


def _cost(cell: Cell, workshop: Workshop) -> dict[str, float]:
    """Of a batch of test pictures, explained anew: the kept maps cost nothing."""
    few = slice(0, EXPLAIN_BATCH)
    images = workshop.examples("test").images[few]
    targets = workshop.targets(cell.method, cell.seed, "test")[few]
    explain = workshop.explainer(cell.method, cell.seed)
    operations = count_operations(lambda: explain(images, targets))  # this one warms up, too
    start = time.perf_counter()
    explain(images, targets)
    found = {"maps_a_second": len(images) / (time.perf_counter() - start)}
    kind = method(cell.method).info.explains
    if kind == "nothing":
        return found
    model = workshop.explained(kind, cell.seed)
    once = count_operations(lambda: predict(model, images, workshop.machine, cell.seed))
    return found | {"cost": operations / once}
