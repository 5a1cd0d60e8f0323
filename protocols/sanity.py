"""Sanity checks: whether maps depend on what the network has learnt."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from torch import Tensor, nn

from protocols.shared import (
    Floats,
    Measured,
    fewer_pictures,
    living_maps,
    of_all,
    records,
    whole_map_cells,
)
from vinet_bench.methods import method
from vinet_bench.metrics import hits, rank_correlations, structural_similarities
from vinet_bench.networks_needed import SHUFFLED, Network, behind_maps, explained_on
from vinet_bench.plan import Plan
from vinet_bench.prediction import predict
from vinet_bench.protocols import ProtocolInfo
from vinet_bench.randomisation import layers, randomised
from vinet_bench.records import Cell, Record
from vinet_bench.report.layout import METHOD, Figure, Layout
from vinet_bench.workshop import Workshop

STAGES = {"last": 0.0, "quarter": 0.25, "half": 0.5, "three_quarters": 0.75, "all": 1.0}
PRINTED = {
    "last": "last layer",
    "half": "half",
    "all": "all layers",
    "seed": "new seed",
    "labels": "random labels",
}
METRICS = {"spearman": rank_correlations, "ssim": structural_similarities}


def _figures() -> tuple[Figure, ...]:
    found = []
    for metric, title in (("spearman", "Rank"), ("ssim", "SSIM")):
        for network in (*STAGES, "seed", "labels"):
            heading = f"{title} {PRINTED[network]}" if network in PRINTED else ""
            name, rank = f"{metric}_{network}", metric == "spearman"
            found.append(
                Figure(name, name, heading, interval=rank, core=rank, kinds=METHOD, percent=False)
            )
    learnt = Figure("labels_learnt", "labels_learnt", "Labels learnt %", kinds=METHOD)
    return (*found, learnt)


class Sanity:
    """How like a method's maps are to those of the same network with its weights randomised from
    the last layer on, trained with another seed, and trained on shuffled labels
    (Adebayo et al. 2018)."""

    info = ProtocolInfo(
        name="sanity",
        title="Sanity checks",
        paper="Adebayo et al. 2018, arXiv 1810.03292",
        in_all=False,
        trainings="two more VINets and VGG-16, a seed",
    )
    layout = Layout(
        "sanity",
        "sanity",
        "Sanity checks",
        "Similarity of each method's maps on {data} to its maps of another network for the same"
        " classes. Rank: Spearman's correlation of the pixels; SSIM: of maps brought to [0, 1].",
        _figures(),
        notes=(
            "Last layer, half, all layers: weights randomised from the last layer on (VINet: of its"
            " importance network); random labels: a network trained on shuffled labels. A map that"
            " stays alike there does not show what the network learnt. New seed: the same network"
            " trained again; there alike is good. Random labels start from the new seed's first"
            " weights."
            " Labels learnt: the share of the shuffled training labels that it gives back; if it is"
            " no better than chance that network has learnt nothing rather than something false.",
        ),
    )

    def cells(self, plan: Plan) -> Iterable[Cell]:
        every = whole_map_cells(self.info.name, plan, again=True)
        return (cell for cell in every if method(cell.method).info.explains != "nothing")

    def networks(self, cell: Cell, plan: Plan) -> Collection[Network]:
        other = replace(cell, seed=_other_seed(cell, plan))
        (again,) = behind_maps(other)
        return {*behind_maps(cell), again, replace(again, what=explained_on(SHUFFLED))}

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        few = fewer_pictures(workshop)
        own = living_maps(workshop, cell.method, cell.seed)[few].numpy()
        images = workshop.examples("test").images[few]
        targets = workshop.targets(cell.method, cell.seed, "test")[few]
        found = Measured(figures={"labels_learnt": _labels_learnt(cell, workshop)})
        for network, model in _others(cell, workshop):
            maps = _maps(cell, workshop, model, images, targets)
            scores = {f"{name}_{network}": alike(own, maps) for name, alike in METRICS.items()}
            found |= of_all(Measured(scores), few, workshop)
        return records(cell, workshop, found)


def _maps(
    cell: Cell, workshop: Workshop, model: nn.Module, images: Tensor, targets: Tensor
) -> Floats:
    return workshop.explainer(cell.method, cell.seed, model)(images, targets).numpy()


def _others(cell: Cell, workshop: Workshop) -> Iterator[tuple[str, nn.Module]]:
    """Each other network by name."""
    kind = method(cell.method).info.explains
    model, fresh = workshop.explained(kind, cell.seed), workshop.untrained(kind, cell.seed)
    for stage, share in STAGES.items():
        count = max(1, round(share * len(layers(model))))
        yield stage, randomised(model, fresh, count)
    other = _other_seed(cell, workshop.plan)
    yield "seed", workshop.explained(kind, other)
    yield "labels", workshop.with_shuffled_labels().explained(kind, other)


def _other_seed(cell: Cell, plan: Plan) -> int:
    """The neighbour's: a run of several seeds has its network already. Shuffled labels are learnt
    from it too: from the same first weights the maps could be alike for that reason alone. With
    cross-validation the neighbour that learns from the same fold's patients."""
    folds = plan.settings.split.folds or 1
    pair, fold = divmod(cell.seed, folds)
    return (pair ^ 1) * folds + fold


def _labels_learnt(cell: Cell, workshop: Workshop) -> float:
    """The accuracy on the shuffled training labels of the network that learnt them."""
    shuffled = workshop.with_shuffled_labels()
    model = shuffled.explained(method(cell.method).info.explains, _other_seed(cell, workshop.plan))
    examples = shuffled.examples("train")
    probabilities = predict(model, examples.images, workshop.machine).numpy()
    return float(hits(probabilities, examples.labels.numpy()).mean())
