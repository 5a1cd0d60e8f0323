"""The command `vinet-bench`; torch is imported only where something is computed."""

import sys
from typing import Annotated

import typer

from vinet_bench import __version__, cli_data
from vinet_bench.cli_audit import audit
from vinet_bench.cli_check import check
from vinet_bench.cli_figures import figure
from vinet_bench.cli_list import list_command
from vinet_bench.cli_models import explain_command, train_command
from vinet_bench.cli_plan import plan_command
from vinet_bench.cli_report import report
from vinet_bench.cli_run import run_command
from vinet_bench.cli_status import status
from vinet_bench.consoles import BAD_INPUT, err_console, out_console
from vinet_bench.errors import UserError

HELP = "Saliency methods on medical images, compared so that a reviewer believes it."

app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False)
app.command("run")(run_command)
app.command("plan")(plan_command)
app.command()(status)
app.command()(report)
app.command()(audit)
app.command()(figure)
app.command("train")(train_command)
app.command("explain")(explain_command)
app.command()(check)
app.command("list")(list_command)
app.add_typer(cli_data.app, name="data")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out_console.print(__version__)
        raise typer.Exit


def main() -> None:
    """The console script: a user's mistake is one line and exit code 2."""
    try:
        app(prog_name="vinet-bench")
    except UserError as error:
        err_console.print(f"vinet-bench: {' '.join(str(error).splitlines())}")
        sys.exit(BAD_INPUT)
