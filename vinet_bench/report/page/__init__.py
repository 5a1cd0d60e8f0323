"""`report.html`: one file with everything that a run says, for any browser, without a network."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from vinet_bench import __version__
from vinet_bench.report.audit import Finding
from vinet_bench.report.curves import curves
from vinet_bench.report.draw import curves_figure
from vinet_bench.report.draw_rows import rows_figure
from vinet_bench.report.page.cases import gallery
from vinet_bench.report.page.drawings import svg
from vinet_bench.report.page.grids import Details, Grid, costs, grid
from vinet_bench.report.page.words import facts, verdict
from vinet_bench.report.table import Table
from vinet_bench.stored_run import Run

NAME = "report.html"
LIGHTS = {"fine": "●", "look": "▲", "broken": "■"}


@dataclass(frozen=True)
class Section:
    """A table of the page with its picture."""

    table: Table
    grid: Grid
    drawing: Markup | None


def to_html(run: Run, made: Mapping[str, Table]) -> str:
    """The page of a run's tables, escaped throughout."""
    details = Details(run)
    sections = [_section(number, table, details) for number, table in enumerate(made.values())]
    drawn = curves(run)
    page = _environment().get_template("page.html")
    return page.render(
        version=__version__,
        title=_title(run),
        facts=facts(run.plan),
        verdict=verdict(made),
        unfinished=_unfinished(made),
        sections=sections,
        curves=_drawing(curves_figure(drawn)) if drawn else None,
        audit=_by_table(made),
        lights=LIGHTS,
        costs=costs(run, made),
        gallery=gallery(run),
        settings=run.plan.get("settings", {}),
        deviations=run.plan.get("deviations", []),
        details={"cells": details.cells, "figures": details.figures},
        style=_asset("page.css"),
        script=_asset("page.js"),
    )


def _title(run: Run) -> str:
    name = run.plan.get("data", {}).get("name", "unnamed data")
    return f"{name}, {run.plan.get('preset', 'no preset')}"


def _unfinished(made: Mapping[str, Table]) -> list[str]:
    """What failed or is missing of every table."""
    return [f"{table.title}: {words}" for table in made.values() for words in table.unfinished]


def _section(number: int, table: Table, details: Details) -> Section:
    figure = rows_figure(table)
    return Section(table, grid(number, table, details), _drawing(figure) if figure else None)


def _drawing(figure: Figure) -> Markup:
    return Markup(svg(figure))


def _by_table(made: Mapping[str, Table]) -> list[tuple[str, list[Finding]]]:
    """The findings of the data once, then each table's own."""
    data = {f: None for f in chain.from_iterable(t.audit for t in made.values()) if not f.protocol}
    own = [(t.title, [f for f in t.audit if f.protocol]) for t in made.values()]
    return [(title, found) for title, found in [("Data", list(data)), *own] if found]


def _asset(name: str) -> Markup:
    return Markup(files("vinet_bench.report").joinpath("templates", name).read_text("utf-8"))


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vinet_bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
