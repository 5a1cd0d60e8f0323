"""The command that holds somebody's method to its contract."""

import warnings
from typing import Annotated

import typer

from vinet_bench.consoles import FAILED_CELLS, out_console


def check(
    name: Annotated[
        str, typer.Argument(metavar="MODULE:CLASS", help="A method, e.g. mypackage:MyMethod.")
    ],
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="How far maps may differ, as a share of their largest value."),
    ] = 1e-5,
) -> None:
    """Check a saliency method: a line for each thing that it must hold; exit code 1 if one fails.

    It explains three slices of a phantom to a small, untrained network.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module="(torch|captum|timm|zennit)")
    from vinet_bench.check_one import example_case, named_factory
    from vinet_bench.checks import METHOD_CHECKS, method_checks

    failed = 0
    for what, failure in method_checks(example_case(named_factory(name), tolerance)):
        failed += bool(failure)
        words, style = (f"FAILED  {what}: {failure}", "red") if failure else (f"ok      {what}", "")
        out_console.print(words, style=style, soft_wrap=True)
    if failed:
        out_console.print(f"{failed} of {len(METHOD_CHECKS)} checks failed")
        raise typer.Exit(FAILED_CELLS)
