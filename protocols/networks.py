"""Tables III and IV: VINet with one of its two networks exchanged."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import nn

from protocols.shared import Measured, mask_scores, own_map, records, scores
from vinet_bench.masks import reserved
from vinet_bench.metrics import importance_losses
from vinet_bench.networks import CLASSIFIERS, IMPORTANCE
from vinet_bench.plan import Plan
from vinet_bench.prediction import predict
from vinet_bench.protocols import ProtocolInfo, TableRow
from vinet_bench.records import Cell, Record
from vinet_bench.workshop import Workshop

TABLE_III = ("deeplabv3plus", "gridnet", "unet", "segnet")
TABLE_IV = ("seresnet50", "densenet121", "resnet50", "vgg19")
NONE = "none"


class ImportanceNetworks:
    """The plan's classifier with each importance network, and trained alone, without destruction
    (Gu et al. 2020, Sec. IV-F, Table III)."""

    info = ProtocolInfo(
        name="importance-networks",
        title="Importance networks",
        paper="Gu et al. 2020, Table III",
        in_all=False,
        trainings="a VINet each and the classifier alone, a seed",
    )

    def row_names(self) -> Collection[str]:
        return list(IMPORTANCE)

    def rows(self, plan: Plan) -> Sequence[TableRow]:
        classifier = plan.settings.vinet.classifier
        alone = TableRow(f"{NONE}+{classifier}", "None (classifier alone)", "reference")
        names = _wanted(plan, TABLE_III, IMPORTANCE, "smp:")
        return [alone, *(TableRow(f"{name}+{classifier}", name) for name in names)]

    def cells(self, plan: Plan) -> Iterable[Cell]:
        return _cells(self.info.name, self.rows(plan), plan)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        return _run(cell, workshop)


class Classifiers:
    """The plan's importance network with each classifier (Gu et al. 2020, Sec. IV-F, Table IV)."""

    info = ProtocolInfo(
        name="classifiers",
        title="Classifiers",
        paper="Gu et al. 2020, Table IV",
        in_all=False,
        trainings="a VINet each, a seed",
    )

    def row_names(self) -> Collection[str]:
        return list(CLASSIFIERS)

    def rows(self, plan: Plan) -> Sequence[TableRow]:
        importance = plan.settings.vinet.importance
        names = _wanted(plan, TABLE_IV, CLASSIFIERS, "timm:")
        return [TableRow(f"{importance}+{name}", name) for name in names]

    def cells(self, plan: Plan) -> Iterable[Cell]:
        return _cells(self.info.name, self.rows(plan), plan)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        return _run(cell, workshop)


def _wanted(
    plan: Plan, papers: Sequence[str], registry: Mapping[str, object], prefix: str
) -> list[str]:
    """The networks that --rows names, or the paper's that there are."""
    return [n for n in plan.rows or papers if n in registry or n.startswith(prefix)]


def _cells(protocol: str, rows: Sequence[TableRow], plan: Plan) -> Iterable[Cell]:
    for seed in plan.seeds:
        for row in rows:
            _, classifier = row.name.split("+", 1)
            budget = "everything" if row.kind == "reference" else "threshold"
            yield Cell(protocol, "vinet", seed, budget, network=classifier, variant=row.name)


def _run(cell: Cell, workshop: Workshop) -> list[Record]:
    importance, classifier = cell.variant.split("+", 1)
    wanted = workshop.settings.vinet.model_copy(update={"classifier": classifier})
    if importance == NONE:
        alone = workshop.with_vinet(wanted)
        return records(cell, workshop, _scores(alone, alone.alone(cell.seed), cell.seed))
    own = workshop.with_vinet(wanted.model_copy(update={"importance": importance}))
    maps = own_map(own, cell.seed, "test")
    found = _scores(own, own.explained("vinet", cell.seed), cell.seed)
    found |= Measured({"importance_loss": importance_losses(maps.numpy())})
    found |= mask_scores(reserved(maps, own.plan.threshold), workshop.part("test"))
    return records(cell, workshop, found)


def _scores(workshop: Workshop, model: nn.Module, seed: int) -> Measured:
    images = workshop.examples("test").images
    probabilities = predict(model, images, workshop.machine, seed).numpy()
    return scores(probabilities, workshop.part("test").labels)
