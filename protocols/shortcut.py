"""Whether a network uses a planted marker, and whether its maps say so."""

from collections.abc import Collection, Iterable

import numpy as np
from torch import Tensor

from protocols.shared import (
    REFERENCES,
    Floats,
    Measured,
    living_maps,
    not_negative,
    ranks,
    records,
    reference,
    reference_cells,
    reference_networks,
    whole_map_cells,
)
from vinet_bench.errors import CellError
from vinet_bench.localisation import Masks, mass_accuracy, rank_accuracy
from vinet_bench.markers import erase
from vinet_bench.masks import as_many
from vinet_bench.methods import method
from vinet_bench.metrics import hits
from vinet_bench.networks_needed import Network, behind_maps
from vinet_bench.plan import Plan
from vinet_bench.prediction import predict_logits
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import MASKED, METHOD, Figure, Layout
from vinet_bench.seeds import picture_generators
from vinet_bench.workshop import Workshop

_OF_NETWORKS = frozenset({"reference", "method"})


def _share(key: str, heading: str = "", kinds: frozenset[str] = MASKED) -> Figure:
    return Figure(key, key, heading, interval=bool(heading), kinds=kinds)


class Shortcut:
    """The explained network's accuracy with the phantom's planted marker and without it, and how
    much of each map lies on the marker and on the evidence (Adebayo et al. 2020, Sec. 4)."""

    info = ProtocolInfo(
        name="shortcut",
        title="Shortcut",
        paper="Adebayo et al. 2020, arXiv 2011.05429",
        in_all=False,
        needs="marker",
    )
    layout = Layout(
        "shortcut",
        "shortcut",
        "Shortcut",
        "Networks on {data} with a planted marker that tells the label with a given probability"
        " (below), and where the maps of the marked test pictures lie.",
        (
            Figure("accuracy", "accuracy", "With marker %", interval=True, core=True),
            _share("erased_accuracy", "Without marker %", _OF_NETWORKS),
            _share("changed", "Predictions changed %", _OF_NETWORKS),
            _share("marker_mass", "Mass on marker %"),
            _share("evidence_mass", "Mass on evidence %"),
            _share("marker_rank", "Rank on marker %"),
            _share("evidence_rank", "Rank on evidence %"),
            _share("decided_marker_mass", "Mass where it decides %", METHOD),
            _share("marker_area"),
            _share("evidence_area"),
        ),
        notes=(
            "Accuracy of the network that each method explains. Without marker: its pixels are"
            " drawn anew from those around it. Predictions changed: by that. Mass: the share of the"
            " scaled map on the marker or on the evidence. Rank: the share of it among as many"
            " highest pixels. Where it decides: mass on the marker in the pictures whose prediction"
            " changed; a map with little there hides that its network cheats. Chance: the row"
            " Random, or the areas in the CSV file.",
        ),
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        for seed in plan.seeds:
            yield from reference_cells(self.info.name, seed)
        yield from whole_map_cells(self.info.name, plan)

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        if cell.method in REFERENCES:
            return reference_networks(cell)
        return behind_maps(cell)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        test = workshop.part("test")
        if test.marker is None or not test.marker.any():
            raise CellError(
                f"no marker is planted in {test.name}: give the phantom one with"
                " --set phantom.confounder=0.9 (how often it tells the label) and another --out"
            )
        if cell.method == "majority":
            return reference(cell, workshop)
        networks = _networks(cell, workshop, test.marker)
        if cell.method == "original":
            return records(cell, workshop, networks)
        return records(cell, workshop, networks | _maps(cell, workshop, test.marker, networks))


def _networks(cell: Cell, workshop: Workshop, marker: Masks) -> Measured:
    """What the network behind the row makes of the test part with and without the marker."""
    images, labels = workshop.examples("test").images, workshop.part("test").labels
    erased = erase(images, marker, picture_generators(images, "erased marker"))
    before, after = (_probabilities(cell, workshop, shown) for shown in (images, erased))
    if before is None or after is None:
        return Measured()
    return Measured(
        {
            "accuracy": hits(before, labels),
            "erased_accuracy": hits(after, labels),
            "changed": (before.argmax(axis=1) != after.argmax(axis=1)).astype(np.float64),
        }
    )


def _probabilities(cell: Cell, workshop: Workshop, images: Tensor) -> Floats | None:
    """The row's network's, (N, K); None for a control."""
    if cell.method == "original":
        return workshop.predict_original(cell.seed, images)
    kind = method(cell.method).info.explains
    if kind == "nothing":
        return None
    model = workshop.explained(kind, cell.seed)
    # A VINet's noise stays the one of the untouched picture: it must not change predictions too.
    untouched = workshop.examples("test").images
    logits = predict_logits(model, images, workshop.machine, cell.seed, untouched)
    found: Floats = logits.softmax(dim=1).numpy()
    return found


def _maps(cell: Cell, workshop: Workshop, marker: Masks, networks: Measured) -> Measured:
    """How much of each map lies on the marker and, where it is known, on the evidence."""
    raw = living_maps(workshop, cell.method, cell.seed)
    relevance = not_negative(raw, method(cell.method).info.scaling)
    order = ranks(workshop, cell.method, cell.seed)
    found = _on("marker", marker, relevance, order)
    evidence = workshop.part("test").evidence
    if evidence is not None and evidence.any():
        found |= _on("evidence", evidence, relevance, order)
    if "changed" in networks.pictures:
        decided = networks.pictures["changed"] > 0
        found["decided_marker_mass"] = np.where(decided, found["marker_mass"], np.nan)
    return Measured(found)


def _on(name: str, pixels: Masks, relevance: Floats, order: Tensor) -> dict[str, Floats]:
    top = as_many(order, pixels.sum(axis=(1, 2)).tolist()).numpy()
    return {
        f"{name}_mass": mass_accuracy(relevance, pixels),
        f"{name}_rank": rank_accuracy(top, pixels),
        f"{name}_area": pixels.mean(axis=(1, 2), dtype=np.float64),
    }
