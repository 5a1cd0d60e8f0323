"""Sensitivity of the ranking: what a choice that papers seldom state does to it."""

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor

from protocols.shared import Floats, Measured, living_maps, not_negative, records, whole_map_cells
from vinet_bench.localisation import mass_accuracy
from vinet_bench.masks import per_picture, replace, scale, top_k
from vinet_bench.metrics import probability_drops
from vinet_bench.networks_needed import Network, behind_budget, behind_maps, original
from vinet_bench.perturbations import blurred
from vinet_bench.plan import Plan
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import MASKED, Figure, Layout
from vinet_bench.seeds import picture_generators
from vinet_bench.workshop import Workshop

SIGNS = {"signed": "as-is", "positive": "positive", "absolute": "absolute"}
SHARES = ("positive", "absolute", "minmax")  # the scalings under which every map has a share


def _drop(key: str, heading: str) -> Figure:
    return Figure(key, key, heading, 1, interval=True, core=True, kinds=MASKED, better="high")


def _mass(scaling: str) -> Figure:
    return Figure(f"mass_{scaling}", f"mass_{scaling}", f"Mass {scaling} %", kinds=MASKED)


_DROPS = (
    _drop("drop_signed", "Drop signed"),
    _drop("drop_positive", "Drop positive"),
    _drop("drop_absolute", "Drop absolute"),
    _drop("drop_mean", "Drop mean fill"),
    _drop("drop_blurred", "Drop blurred fill"),
)
_MASSES = tuple(map(_mass, SHARES))


class Policies:
    """The occlusion drop at equal budget under each sign and each fill, and the relevance mass
    under each scaling, from maps and networks that are there already."""

    info = ProtocolInfo(
        name="policies",
        title="Sensitivity of the ranking",
        paper="Sturmfels et al. 2020, doi 10.23915/distill.00022; Arras et al. 2022",
        in_all=False,
    )
    layout = Layout(
        "policies",
        "policies",
        "Sensitivity of the ranking",
        "One choice at a time on {data}: the fall of the true class's probability of a {network}"
        " when as many of a map's highest pixels as VINet reserves go, by sign and by fill; and"
        " the share of the scaled map on the evidence, by scaling.",
        (*_DROPS, *_MASSES),
        notes=(
            "Signed: pixels in the order of the raw map, the removed set to zero (Table II at equal"
            " budget); min-max scaling keeps this order. Positive: negative pixels are all alike."
            " Absolute: the strongest first, of either sign. Mean, blurred: signed, the removed"
            " pixels take the picture's mean, or its blurred copy. Drops in percentage points.",
            "Mass: share of the scaled map's sum on the evidence, by scaling; unscaled maps with"
            " negative pixels have no share.",
        ),
        rankings=(tuple(f.key for f in _DROPS), tuple(f.key for f in _MASSES)),
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        return whole_map_cells(self.info.name, plan)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        return {*original(cell), *behind_maps(cell), *behind_budget(cell, plan)}

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        maps = living_maps(workshop, cell.method, cell.seed)
        found = Measured(_drops(cell, workshop, maps))
        evidence = workshop.part("test").evidence
        if evidence is not None and evidence.any():
            masses = {
                f"mass_{scaling}": mass_accuracy(not_negative(maps, scaling), evidence)
                for scaling in SHARES
            }
            found |= Measured(masses)
        return records(cell, workshop, found)


def _drops(cell: Cell, workshop: Workshop, maps: Tensor) -> dict[str, Floats]:
    """The fall of the true class's probability under each policy, (N,)."""
    examples = workshop.examples("test")
    pictures, labels = examples.pictures(slice(None)), examples.labels.numpy()
    before = workshop.original_probabilities(cell.seed)

    def fall(masks: Tensor, others: Tensor) -> Floats:
        after = workshop.predict_original(cell.seed, replace(pictures, masks, others))
        return probability_drops(before, after, labels)

    masks = {sign: _highest(cell, workshop, maps, how) for sign, how in SIGNS.items()}
    nothing = torch.zeros_like(pictures)
    by_sign = {f"drop_{sign}": fall(found, nothing) for sign, found in masks.items()}
    fills = _fills(workshop.settings.evaluation.blur)
    by_fill = {f"drop_{f}": fall(masks["signed"], make(pictures)) for f, make in fills.items()}
    return by_sign | by_fill


def _highest(cell: Cell, workshop: Workshop, maps: Tensor, scaling: str) -> Tensor:
    """The equal budget's pixels of each scaled map, ties as in `Workshop.masks`. (N, H, W)."""
    count = workshop.equal_pixels(cell.seed)

    def chosen(some: Tensor, images: Tensor) -> Tensor:
        return top_k(scale(some, scaling), count, picture_generators(images, "ties", cell.method))

    return per_picture(chosen, maps, workshop.examples("test").images)


def _fills(blur: float) -> dict[str, Callable[[Tensor], Tensor]]:
    """What removed pixels become, other than zero. (N, 1, H, W) float32 -> (N, 1, H, W)."""
    return {
        "mean": lambda pictures: pictures.mean((2, 3), keepdim=True).expand_as(pictures),
        "blurred": lambda pictures: blurred(pictures, blur),
    }
