"""The rows of a table, and their published names."""

from vinet_bench.report.figures import PlanRow
from vinet_bench.report.layout import Layout
from vinet_bench.stored_run import Run

NETWORKS = {
    **{"resnet18": "ResNet-18", "resnet50": "ResNet-50", "seresnet50": "SEResNet-50"},
    **{"densenet121": "DenseNet-121", "vgg16": "VGG-16", "vgg19": "VGG-19", "unet": "U-Net"},
    **{"deeplabv3plus": "DeepLabv3+", "gridnet": "GridNet", "segnet": "SegNet"},
    **{"shallow-unet": "Shallow U-Net"},
}


def rows_of(run: Run, layout: Layout) -> list[PlanRow]:
    """The rows of a table in their order, networks by their published names: the plan's, if the
    protocol has not its own alone, then the protocol's; of the kinds that the table is about."""
    plans: list[PlanRow] = [] if layout.own_rows else run.plan.get("rows", [])
    own: list[PlanRow] = run.plan.get("own_rows", {}).get(layout.protocol, [])
    return [
        {**row, "title": NETWORKS.get(row["title"], row["title"])}
        for row in [*plans, *own]
        if row["kind"] in layout.kinds
    ]
