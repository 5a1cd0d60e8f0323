"""A run's records as tables."""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

from vinet_bench.errors import UserError
from vinet_bench.report.audit import Finding, audit
from vinet_bench.report.context import Context, reasons
from vinet_bench.report.figures import Figures, PlanRow
from vinet_bench.report.gaps import unfinished
from vinet_bench.report.layout import ABSENT, DESTRUCTION, Figure, Layout, layouts_of
from vinet_bench.report.notes import all_notes, all_warnings
from vinet_bench.report.rows import NETWORKS, rows_of
from vinet_bench.report.table import Column, Row, Table
from vinet_bench.report.uncertainty import Interval, Uncertainty
from vinet_bench.stored_run import Run, read_run

LONGEST = 1e15  # of numbers that are written out: a diverged metric may be of any size
INTERVAL_DIGITS = 1  # of a percentage: its ends are never surer than that
_FILLS = {"zero": "set to zero"}


def rounded(value: float, digits: int) -> str:
    """Halves go to the even digit, so that S and 100 - S add up to 100.

    >>> rounded(2.375, 2), rounded(97.625, 2), rounded(-1e30, 2)
    ('2.38', '97.62', '-1.0e+30')
    """
    if not abs(value) < LONGEST:
        return f"{value:.1e}"
    exact = Decimal(f"{value:.9f}")
    return str(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN) + 0)


def bracketed(figure: Figure, interval: Interval) -> str:
    """The ends of a figure's interval, as every table has them."""
    digits, scale = (INTERVAL_DIGITS, 100) if figure.percent else (figure.digits, 1)
    low, high = (rounded(scale * end, digits) for end in interval)
    return f"[{low}, {high}]"


def _cell(context: Context, row: PlanRow, figure: Figure) -> str:
    figures = context.figures
    found = figures.estimate(row, figure)
    if found is None:
        failed = figures.failures(row, figure)
        return f"failed ({context.reasons[failed[0].reason]})" if failed else ABSENT
    values, scale = figures.values(row, figure), 100 if figure.percent else 1
    mean = rounded(scale * found.mean, figure.digits)
    interval = context.uncertainty.interval(row, figure) if figure.interval else None
    if interval is not None:
        return f"{mean} {bracketed(figure, interval)}{context.uncertainty.marks(row, figure)}"
    if found.half is None or (row["kind"] == "reference" and len(set(values.values())) == 1):
        return mean  # the same for every seed by definition, not by luck: no interval
    return f"{mean} ± {rounded(scale * found.half, figure.digits)}"


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
        network=NETWORKS.get(network, network),
        importance=NETWORKS.get(importance, importance),
        classifier=NETWORKS.get(classifier, classifier),
        filled=_FILLS.get(fill, f"filled ({fill})"),
    )


def _table(layout: Layout, run: Run, figures: Figures, findings: Sequence[Finding]) -> Table:
    rows = rows_of(run, layout)
    shown = _shown(layout, figures, rows)
    uncertainty = Uncertainty(figures, layout, rows)
    context = Context(run.plan, rows, layout, figures, reasons(figures, rows), uncertainty)
    cells = {row["name"]: tuple(_cell(context, row, f) for f in shown) for row in rows}
    return Table(
        layout.name,
        layout.title,
        layout.protocol,
        layout.first,
        _caption(layout, context),
        tuple(Column(f.key, f.heading) for f in shown),
        tuple(
            Row(r["name"], r["title"], r["kind"], cells[r["name"]], r.get("block", ""))
            for r in rows
        ),
        all_notes(context),
        all_warnings(context.data),
        [f for f in findings if f.protocol in ("", layout.protocol)],
        layout=layout,
        uncertainty=uncertainty,
        unfinished=unfinished(context),
    )


def value_shares(run: Run) -> dict[str, list[float]]:
    """By title of a row of the table `destruction`, how its map's values are spread (see BINS)."""
    figures = Figures(run, DESTRUCTION.protocol)
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
    found = ((layout, Figures(run, layout.protocol)) for layout in layouts_of(run.plan))
    findings = audit(run)
    return {
        layout.name: _table(layout, run, figures, findings) for layout, figures in found if figures
    }


def audit_run(folder: Path) -> dict[str, list[Finding]]:
    """What the audit says of a run, by the data and by table.

    Raises UserError if the folder holds no run, or one without records.
    """
    run = read_run(folder)
    findings = audit(run)
    titles = {"": "Data"} | {layout.protocol: layout.title for layout in layouts_of(run.plan)}
    found = {
        title: [f for f in findings if f.protocol == protocol] for protocol, title in titles.items()
    }
    if not findings:
        raise UserError(f"{folder} has no records to audit yet: run it to its end first")
    return {title: lines for title, lines in found.items() if lines}
