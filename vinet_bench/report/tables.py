"""A run's records as tables."""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal

from vinet_bench.report.figures import Figures, PlanRow, estimate
from vinet_bench.report.layout import DESTRUCTION, LAYOUTS, Figure, Layout
from vinet_bench.report.notes import Context, all_notes, all_warnings, reasons
from vinet_bench.report.table import ABSENT, Column, Row, Table
from vinet_bench.store import Run

_NETWORKS = {
    **{"resnet18": "ResNet-18", "resnet50": "ResNet-50", "seresnet50": "SEResNet-50"},
    **{"densenet121": "DenseNet-121", "vgg16": "VGG-16", "vgg19": "VGG-19", "unet": "U-Net"},
    **{"deeplabv3plus": "DeepLabv3+", "gridnet": "GridNet", "segnet": "SegNet"},
}
_FILLS = {"zero": "set to zero"}


def percent(share: float, digits: int) -> str:
    """A share in percent; halves go to the even digit, so S and 1 - S add up to 100.

    >>> percent(0.02375, 2), percent(1 - 0.02375, 2)
    ('2.38', '97.62')
    """
    exact = Decimal(f"{100 * share:.9f}")
    return str(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN) + 0)


def _bracket(figures: Figures, row: PlanRow, figure: Figure) -> str:
    """The bootstrap interval of a single seed, if it is recorded."""
    ends = [
        figures.mean(row, Figure("", f"{figure.metric}_{end}", equal=figure.equal))
        for end in ("low", "high")
    ]
    texts = [percent(e, figure.digits) for e in ends if e is not None]
    return f" [{', '.join(texts)}]" if len(texts) == 2 else ""


def _cell(context: Context, row: PlanRow, figure: Figure) -> str:
    figures = context.figures
    values = list(figures.values(row, figure).values())
    if not values:
        failed = figures.failures(row, figure)
        return f"failed ({context.reasons[failed[0].reason]})" if failed else ABSENT
    found = estimate(values)
    mean = percent(found.mean, figure.digits)
    if found.half is None:
        return mean + (_bracket(figures, row, figure) if figure.interval else "")
    if row["kind"] == "reference" and len(set(values)) == 1:
        return mean  # the same by definition, not by luck: no interval
    return f"{mean} ± {percent(found.half, figure.digits)}"


def _shown(layout: Layout, figures: Figures, rows: Sequence[PlanRow]) -> list[Figure]:
    """The printed figures, without those that no row has."""
    return [
        f
        for f in layout.figures
        if f.heading and (f.core or any(figures.values(row, f) for row in rows))
    ]


def _caption(layout: Layout, context: Context) -> str:
    fill, network = context.figures.variants[0]
    vinet = context.plan.get("settings", {}).get("vinet", {})
    importance, classifier = (vinet.get(key, "?") for key in ("importance", "classifier"))
    return layout.caption.format(
        data=context.data.get("name", "unnamed data"),
        network=_NETWORKS.get(network, network),
        importance=_NETWORKS.get(importance, importance),
        classifier=_NETWORKS.get(classifier, classifier),
        filled=_FILLS.get(fill, f"filled ({fill})"),
    )


def rows_of(run: Run, layout: Layout) -> list[PlanRow]:
    """The rows of a table in their order, networks by their published names."""
    found: list[PlanRow] = (
        run.plan.get("own_rows", {}).get(layout.protocol, [])
        if layout.own_rows
        else run.plan.get("rows", [])
    )
    return [{**row, "title": _NETWORKS.get(row["title"], row["title"])} for row in found]


def _table(layout: Layout, run: Run, figures: Figures) -> Table:
    rows = rows_of(run, layout)
    shown = _shown(layout, figures, rows)
    context = Context(run.plan, rows, layout, figures, reasons(figures, rows))
    cells = {row["name"]: tuple(_cell(context, row, f) for f in shown) for row in rows}
    return Table(
        layout.name,
        layout.title,
        _caption(layout, context),
        tuple(Column(f.key, f.heading, f.digits) for f in shown),
        tuple(
            Row(r["name"], r["title"], r["kind"], cells[r["name"]], r.get("block", ""))
            for r in rows
        ),
        all_notes(context),
        all_warnings(context),
        layout.first,
    )


def value_shares(run: Run) -> dict[str, list[float]]:
    """By title of a row of the table `destruction`, how its map's values are spread (see BINS)."""
    figures = Figures(run.records, DESTRUCTION.protocol)
    bins = [f for f in DESTRUCTION.figures if f.metric.startswith("values_")]
    found = {}
    for row in rows_of(run, DESTRUCTION):
        means = [figures.mean(row, figure) for figure in bins]
        known = [mean for mean in means if mean is not None]
        if len(known) == len(bins):
            found[row["title"]] = known
    return found


def tables(run: Run) -> dict[str, Table]:
    """'table1' (keep-important), 'table2' (occlusion) and so on; without records none."""
    found = ((layout, Figures(run.records, layout.protocol)) for layout in LAYOUTS)
    return {layout.name: _table(layout, run, figures) for layout, figures in found if figures}
