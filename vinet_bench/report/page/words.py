"""The page's words: what was run, and a verdict made from the figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from vinet_bench.data.dataset import PARTS
from vinet_bench.report.figures import PlanRow
from vinet_bench.report.layout import Figure
from vinet_bench.report.rows import NETWORKS
from vinet_bench.report.table import Table
from vinet_bench.stats import LEVEL

Plan = Mapping[str, Any]
_KEEP = "keep-important"


def facts(plan: Plan) -> list[tuple[str, str]]:
    """What was run and on what, as terms and words."""
    data, settings = plan.get("data", {}), plan.get("settings", {})
    versions = plan.get("versions", {})
    found = [
        ("Data", _data(data)),
        ("Split", _split(data)),
        ("Classes", ", ".join(map(str, data.get("class_names", [])))),
        ("Networks", _networks(settings)),
        ("Seeds", ", ".join(map(str, plan.get("seeds", [])))),
        ("Preset", f"{plan.get('preset', '?')}, T = {plan.get('threshold', '?')}"),
        ("Computed on", _machine(plan)),
        ("Versions", ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))),
        ("Commit", plan.get("commit", "")),
    ]
    return [(term, words) for term, words in found if words]


def _data(data: Plan) -> str:
    patients = data.get("patients") if data.get("patients_known", True) else "an unknown number of"
    mark = f" (fingerprint {data['fingerprint']})" if data.get("fingerprint") else ""
    name, slices = data.get("name", "unnamed"), data.get("slices", "?")
    return f"{name}: {slices} slices of {patients} patients{mark}"


def _split(data: Plan) -> str:
    parts = data.get("parts", {})
    sizes = ", ".join(f"{parts[p]} {p}" for p in PARTS if p in parts)
    folds = f" in {data['folds']} folds" if data.get("folds") else ""
    return f"by {data.get('split_by', 'patient')}{folds}: {sizes}"


def _networks(settings: Plan) -> str:
    vinet, explained = settings.get("vinet", {}), settings.get("explained", {})
    if not vinet:
        return ""
    importance, classifier = (_named(vinet[key]) for key in ("importance", "classifier"))
    network = explained.get("network", "?")
    return (
        f"VINet of {importance} and {classifier} (a = {vinet.get('alpha')}); the other methods"
        f" explain {_named(network)}"
    )


def _machine(plan: Plan) -> str:
    threads = f", {plan['threads']} threads" if plan.get("threads") else ""
    return f"{plan.get('device', '?')}, {plan.get('precision', '?')}{threads}"


def _named(network: str) -> str:
    return NETWORKS.get(network, network)


def verdict(made: Mapping[str, Table]) -> list[str]:
    """A few sentences, each made from the figures of one table; the audit's last."""
    said = [_retrained(table) for table in made.values() if table.layout.protocol == _KEEP]
    said += [_best(table) for table in made.values()]
    return [words for words in [*said, _audited(list(made.values()))] if words]


def printed(table: Table, name: str, key: str) -> str:
    """A cell's text with its unit and without its marks; empty if there is no such figure."""
    places = {column.key: place for place, column in enumerate(table.columns)}
    cells = next((row.cells for row in table.rows if row.name == name), ())
    text = cells[places[key]].rstrip("†‡") if cells and key in places else ""
    if not (text[:1].isdigit() or text[:1] == "-"):
        return ""
    figure = next(f for f in table.layout.figures if f.key == key)
    mean, *interval = text.split(" ", 1)
    return " ".join([mean, "%", *interval]) if figure.percent else text


def _retrained(table: Table) -> str:
    """How Table I's first comparison came out, and what the masks alone are worth."""
    kept, reached = (printed(table, "vinet", key) for key in ("fraction_kept", "accuracy"))
    whole, masks = printed(table, "original", "accuracy"), printed(table, "vinet", "masks_accuracy")
    if not (kept and reached and whole):
        return ""
    words = (
        f"A network trained and tested on what VINet reserves ({kept} of the pixels) reaches an"
        f" accuracy of {reached}; on whole pictures {whole}"
    )
    return words + (f", and on the shape of VINet's masks alone {masks}." if masks else ".")


def _best(table: Table) -> str:
    """The best method by the figure that the table is judged by (see Layout)."""
    tested = (f for f in table.layout.figures if f.better and f.heading and f.interval)
    tested = (f for f in tested if any(c.key == f.key for c in table.columns))
    # Where controls have one budget only, methods are compared at it.
    own = table.layout.judged_by
    figure = min(tested, key=lambda f: (f.key != own, not f.equal), default=None)
    of = table.uncertainty
    best = of.figures.best(of.rows, "method", figure) if figure else None
    if figure is None or best is None:
        return ""
    title, named = table.title.split(". ", 1)[-1], figure.heading.removesuffix(" %")
    said = f"{title} ({named}): {_told(table, best, figure)} is best"
    return f"{said}{_vinet(table, best, figure)}{_control(table, best, figure)}."


def _told(table: Table, row: PlanRow, figure: Figure) -> str:
    return f"{row['title']} with {printed(table, row['name'], figure.key)}"


def _vinet(table: Table, best: PlanRow, figure: Figure) -> str:
    text = printed(table, "vinet", figure.key)
    if best["name"] == "vinet" or not text:
        return ""
    _, compared = table.uncertainty.comparisons(figure)
    p = compared.p.get("vinet") if compared else None
    if p is None:
        return f"; VINet has {text}"
    if p >= LEVEL:
        return f"; VINet with {text} cannot be told from it"
    return f"; VINet with {text} differs (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})"


def _control(table: Table, best: PlanRow, figure: Figure) -> str:
    figures = table.uncertainty.figures
    control = figures.best(table.uncertainty.rows, "control", figure)
    if control is None:
        return ""
    beaten = figures.merit(best, figure) > figures.merit(control, figure)
    words = "; the best control is " + _told(table, control, figure)
    return words if beaten else f"{words}, which no method beats"


def _audited(made: Sequence[Table]) -> str:
    """One finding of the data stands under every table."""
    findings = {(f.protocol, f.topic): f for table in made for f in table.audit}.values()
    if not findings:
        return ""
    counted = {
        words: [f.topic for f in findings if f.verdict == verdict]
        for verdict, words in (("broken", "broken"), ("look", "to look at"))
    }
    told = [_counted(words, topics) for words, topics in counted.items()]
    return f"The audit of {len(findings)} points finds {' and '.join(told)}."


def _counted(words: str, topics: Sequence[str]) -> str:
    """'2 broken (split, maps)'."""
    if not topics:
        return f"nothing {words}"
    return f"{len(topics)} {words} ({', '.join(dict.fromkeys(topics))})"
