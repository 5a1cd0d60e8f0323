"""The command `vinet-bench`; torch is imported only where something is computed."""

import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table as Grid

from vinet_bench import __version__, cli_data
from vinet_bench.cli_audit import audit
from vinet_bench.cli_check import check
from vinet_bench.cli_figures import figure
from vinet_bench.cli_report import print_tables, report
from vinet_bench.cli_status import status
from vinet_bench.consoles import BAD_INPUT, FAILED_CELLS, INTERRUPTED, err_console, out_console
from vinet_bench.errors import UserError

HELP = "Saliency methods on medical images, compared so that a reviewer believes it."

app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(cli_data.app, name="data")


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Patients(StrEnum):
    """Whether the data says whose slice is whose."""

    column = "column"
    unknown = "unknown"


class Listing(StrEnum):
    """What `list` lists."""

    methods = "methods"
    protocols = "protocols"
    datasets = "datasets"
    networks = "networks"
    presets = "presets"
    settings = "settings"


Data = Annotated[
    str, typer.Option(help="'phantom', a folder with labels.csv, or a prepared data set.")
]
Methods = Annotated[
    str | None, typer.Option(help="Comma-separated; default: the paper's, two more, controls.")
]
PresetName = Annotated[str, typer.Option("--preset", help="See `list presets`.")]
Seeds = Annotated[int | None, typer.Option(help="How many seeds (default: the preset's).")]
Threshold = Annotated[
    float, typer.Option(help="T of Eq. 9, between 0 and 1: pixels of 1 - T or more are reserved.")
]
DeviceName = Annotated[Device, typer.Option("--device", help="Where to compute.")]
Out = Annotated[
    Path | None, typer.Option(help="The run's folder (default: results/<data>-<preset>).")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; see `list settings`."),
]
Size = Annotated[int | None, typer.Option(help="Resample all pictures to this side, in pixels.")]
PatientsKnown = Annotated[
    Patients, typer.Option("--patients", help="'unknown' if labels.csv cannot say.")
]
Importance = Annotated[
    str | None, typer.Option(help="VINet's importance network; see `list networks`.")
]
Classifier = Annotated[str | None, typer.Option(help="VINet's classifier; see `list networks`.")]

Explain = Annotated[
    str | None, typer.Option(help="The classifier that methods explain; see `list networks`.")
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Its weights (safetensors or .pt), instead of training it.")
]
Maps = Annotated[
    list[str] | None,
    typer.Option(metavar="[NAME=]DIR", help="A row of maps that were made elsewhere."),
]
Rows = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated networks or variants, for protocols with rows of their own."
    ),
]
CrossFit = Annotated[
    int | None,
    typer.Option(
        metavar="FOLDS",
        help="budget-curves: explain training pictures by networks that did not see them.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Count the trainings and estimate the hours; run nothing.")
]
PROTOCOL_HELP = (
    "all: keep-important and occlusion; everything: every protocol that the data has something for;"
    " or one of `list protocols`. Some train many networks: see --dry-run."
)


@app.command("run")
def run_command(
    protocol: Annotated[str, typer.Argument(help=PROTOCOL_HELP)] = "all",
    data: Data = "phantom",
    methods: Methods = None,
    preset: PresetName = "quick",
    seeds: Seeds = None,
    threshold: Threshold = 0.9,
    device: DeviceName = Device.auto,
    out: Out = None,
    changes: Set = None,
    size: Size = None,
    patients: PatientsKnown = Patients.column,
    importance: Importance = None,
    classifier: Classifier = None,
    rows: Rows = None,
    cross_fit: CrossFit = None,
    dry_run: DryRun = False,
    explain: Explain = None,
    checkpoint: Checkpoint = None,
    maps: Maps = None,
) -> None:
    """Run a protocol, or all of them; what is done already is not computed again."""
    from vinet_bench.plan import make_plan

    changed = [*(changes or []), *network_changes(importance, classifier)]
    changed += [] if cross_fit is None else [f"curves.cross_fit={cross_fit}"]
    changed += [] if explain is None else [f"explained.network={explain}"]
    plan = make_plan(
        data,
        preset,
        _words(methods),
        seeds,
        threshold,
        size,
        patients.value,
        changed,
        _words(rows),
        checkpoint,
        maps,
    )
    if dry_run:
        _foretell(protocol, plan, out, device.value)
    else:
        _carry_out(protocol, plan, out, device.value)


def network_changes(importance: str | None, classifier: str | None) -> list[str]:
    """The settings that --importance and --classifier stand for."""
    named = {"vinet.importance": importance, "vinet.classifier": classifier}
    return [f"{key}={name}" for key, name in named.items() if name is not None]


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",")]


def _names(protocol: str) -> list[str]:
    from vinet_bench.protocols import protocols

    if protocol == "everything":
        return list(protocols())
    in_all = [name for name, make in protocols().items() if make().info.in_all]
    return in_all if protocol == "all" else [protocol]


def _foretell(protocol: str, plan: Any, out: Path | None, device: str) -> None:
    from vinet_bench.forecast import forecast, told

    for line in told(forecast(_names(protocol), plan, out, device)):
        out_console.print(line, soft_wrap=True)


def _carry_out(protocol: str, plan: Any, out: Path | None, device: str) -> None:
    # Known remarks of libraries that a user can do nothing about.
    warnings.filterwarnings("ignore", category=UserWarning, module="(torch|captum|timm|zennit)")
    from vinet_bench.progress import Shown
    from vinet_bench.report import TEXTS, write_report
    from vinet_bench.run import run

    bars = Shown(err_console) if err_console.is_terminal else nullcontext()
    try:
        with bars as progress:
            outcome = run(_names(protocol), plan, out, device, progress)
    except KeyboardInterrupt:  # here, since typer would swallow it before main() sees it
        err_console.print("stopped; the same command goes on where it was")
        raise typer.Exit(INTERRUPTED) from None
    for reason in outcome.failed:
        err_console.print(f"failed: {reason}", style="red")
    print_tables(outcome.folder)
    done = f"{outcome.made} cells made, {outcome.found} found in {outcome.folder}"
    written = write_report(outcome.folder, formats=(*TEXTS, "html"))
    files = ", ".join(path.name for path in written)
    out_console.print(f"{done}; with the notes in {files}", soft_wrap=True)
    if outcome.failed:
        raise typer.Exit(FAILED_CELLS)


app.command()(report)
app.command()(figure)
app.command()(audit)
app.command()(check)
app.command()(status)


@app.command("list")
def list_command(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List what can be named in options."""
    grid = Grid(box=None, show_header=False, padding=(0, 2, 0, 0))
    for cells in LISTINGS[what]():
        grid.add_row(*cells)
    out_console.print(grid)


def _list_methods() -> list[tuple[str, ...]]:
    from vinet_bench.methods import methods

    infos = [factory().info for factory in methods().values()]
    named = [(i.name, i.kind, f"explains {i.explains}", i.paper, _cost(i)) for i in infos]
    return [*named, ("blurred:NAME", "control", "any of these, smoothed", "", "as NAME")]


def _cost(info: Any) -> str:
    return f"{info.forwards} forward, {info.backwards} backward{', costly' * info.costly}"


def _list_protocols() -> list[tuple[str, ...]]:
    from vinet_bench.protocols import protocols

    infos = [factory().info for factory in protocols().values()]
    return [(i.name, i.title, i.paper, f"trains {i.trainings}" * bool(i.trainings)) for i in infos]


def _list_datasets() -> list[tuple[str, ...]]:
    from vinet_bench.data import sources

    named = [(name, (source.__doc__ or "").strip()) for name, source in sources().items()]
    return [
        *named,
        ("DIR", "any folder with labels.csv: image, label, patient; mask, split"),
        ("DIR", "what `data prepare` wrote: LUNA16, LIDC, NoduleMNIST3D"),
    ]


def _list_networks() -> list[tuple[str, ...]]:
    from vinet_bench.networks import CLASSIFIERS, IMPORTANCE

    return [
        *((name, "classifier", build.__doc__ or "") for name, build in CLASSIFIERS.items()),
        ("timm:NAME", "classifier", "any of timm's, e.g. timm:convnext_tiny"),
        *((name, "importance", build.__doc__ or "") for name, build in IMPORTANCE.items()),
        (
            "smp:NAME",
            "importance",
            "any of segmentation_models_pytorch's, e.g. smp:FPN",
        ),
    ]


def _list_presets() -> list[tuple[str, ...]]:
    from vinet_bench.presets import PRESETS

    return [(name, preset.about) for name, preset in PRESETS.items()]


def _list_settings() -> list[tuple[str, ...]]:
    from vinet_bench.settings import setting_names

    return list(setting_names().items())


LISTINGS: dict[Listing, Callable[[], list[tuple[str, ...]]]] = {
    Listing.methods: _list_methods,
    Listing.protocols: _list_protocols,
    Listing.datasets: _list_datasets,
    Listing.networks: _list_networks,
    Listing.presets: _list_presets,
    Listing.settings: _list_settings,
}


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out_console.print(__version__)
        raise typer.Exit


from vinet_bench import cli_models  # noqa: E402 (here, since it takes its options from above)

cli_models.register(app)


def main() -> None:
    """The console script: a user's mistake is one line and exit code 2."""
    try:
        app(prog_name="vinet-bench")
    except UserError as error:
        err_console.print(f"vinet-bench: {' '.join(str(error).splitlines())}")
        sys.exit(BAD_INPUT)
