"""`vinet-bench figure`: the paper's figures from what a run kept."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vinet_bench.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vinet_bench.gallery import Gallery


class Kind(StrEnum):
    """What is drawn."""

    process = "process"
    cases = "cases"
    methods = "methods"
    destruction = "destruction"
    values = "values"
    curves = "curves"


def figure(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="process: the steps of destruction (Fig. 3); cases: slice, overlay, map (Fig. 4);"
            " methods: every method (Fig. 5); destruction: multi beside single (Fig. 6); values:"
            " how M's values are spread; curves: deletion and ROAD, step by step."
        ),
    ],
    run: Annotated[
        Path | None, typer.Argument(help="A run's folder (default: the newest).")
    ] = None,
    cases: Annotated[
        str | None,
        typer.Option(help="Slices of the test part by id, comma-separated; process: the last."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws one slice of each class.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to write (default: the run).")] = None,
    artefacts: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="That of the run, if it had one.")
    ] = None,
) -> None:
    """Draw one of the paper's figures from a run, as PNG and PDF; nothing is trained."""
    from vinet_bench.report import newest_run
    from vinet_bench.report.draw import save

    folder = run or newest_run()
    if kind in _OF_SCORES:
        drawn = _OF_SCORES[kind](folder)
    else:
        named = [] if cases is None else [name.strip() for name in cases.split(",")]
        drawn = _pictures(kind, folder, named, seed, artefacts or "")
    for path in save(drawn, out or folder, f"figure-{kind.value}"):
        typer.echo(str(path))


def _pictures(kind: Kind, folder: Path, named: list[str], seed: int, artefacts: str) -> "Figure":
    from vinet_bench.gallery import Gallery

    gallery = Gallery(folder, named, seed, artefacts)
    try:
        return _drawn(kind, gallery, seed)
    finally:
        gallery.close()


def _drawn(kind: Kind, gallery: "Gallery", seed: int) -> "Figure":
    from vinet_bench.gallery import process
    from vinet_bench.report.draw import cases_figure, process_figure, strips_figure
    from vinet_bench.seeds import generator

    cases = gallery.cases()
    if kind is Kind.process:
        last = cases[-1]
        steps = process(last.image, gallery.vinet().maps[-1], generator("process", seed))
        return process_figure(last, steps)
    if kind is Kind.cases:
        return cases_figure(cases, gallery.vinet())
    if kind is Kind.destruction:
        return strips_figure(cases, gallery.scales())
    strips, lacking = gallery.methods()
    if not strips:
        raise UserError("this run has no maps: run `vinet-bench run all` first")
    if lacking:
        typer.echo(f"no maps of {', '.join(lacking)}: left out", err=True)
    return strips_figure(cases, strips)


def _values(folder: Path) -> "Figure":
    from vinet_bench.report import value_shares
    from vinet_bench.report.draw import values_figure
    from vinet_bench.stored_run import read_run

    shares = value_shares(read_run(folder))
    if not shares:
        raise UserError(f"{folder} has no table destruction: `vinet-bench run destruction` first")
    return values_figure(shares)


def _curves(folder: Path) -> "Figure":
    from vinet_bench.report import curves
    from vinet_bench.report.draw import curves_figure
    from vinet_bench.stored_run import read_run

    found = curves(read_run(folder))
    if not found:
        raise UserError(f"{folder} has no curves: `vinet-bench run deletion` or `run road` first")
    return curves_figure(found)


_OF_SCORES = {Kind.values: _values, Kind.curves: _curves}
