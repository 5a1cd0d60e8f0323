"""The commands that train one VINet and explain pictures with it."""

import json
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich import box
from rich.table import Table as Grid

from vinet_bench.cli_options import (
    Changes,
    Classifier,
    Data,
    Deterministic,
    Device,
    DeviceName,
    Importance,
    Patients,
    PatientsKnown,
    PresetName,
    Size,
    all_changes,
)
from vinet_bench.consoles import FAILED_CELLS, INTERRUPTED, err_console, out_console

if TYPE_CHECKING:
    from vinet_bench.explain import Explanation

T = TypeVar("T")
GOES_ON = "the same command goes on where it was, five minutes back at most"
ModelOut = Annotated[
    Path | None,
    typer.Option(help="The model's folder (default: results/<data>-<preset>-<method><seed>)."),
]
Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPG, .npy, DICOM, .mhd or .mha.")
]


def train_command(
    data: Data = "phantom",
    preset: PresetName = "quick",
    method: Annotated[
        str, typer.Option(help="Whose VINet: vinet, the paper's, or vinet-sealed.")
    ] = "vinet",
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and noise.")] = 0,
    out: ModelOut = None,
    changes: Changes = None,
    importance: Importance = None,
    classifier: Classifier = None,
    device: DeviceName = Device.auto,
    size: Size = None,
    patients: PatientsKnown = Patients.column,
    deterministic: Deterministic = False,
) -> None:
    """Train one VINet and save it: weights, config, metrics and training curves."""
    from vinet_bench.models import own_method
    from vinet_bench.plan import make_plan
    from vinet_bench.run import default_folder

    section = own_method(method).info.explains
    changed = all_changes(changes, importance, classifier, section=section)
    plan = make_plan(
        data,
        preset,
        size=size,
        patients=patients.value,
        changes=changed,
        deterministic=deterministic,
    )
    folder = out or Path(f"{default_folder(plan)}-{method}{seed}")
    _quietly(lambda: _train(plan, method, seed, folder, device.value), GOES_ON)
    _print_trained(folder)


def _train(plan: Any, method: str, seed: int, folder: Path, device: str) -> None:
    from vinet_bench.errors import CellError
    from vinet_bench.progress import Shown
    from vinet_bench.train_one import train_vinet

    bars = Shown(err_console) if err_console.is_terminal else nullcontext()
    try:
        with bars as progress:
            train_vinet(plan, seed, folder, device, progress, method)
    except CellError as error:
        err_console.print(f"failed: {error}", style="red")
        raise typer.Exit(FAILED_CELLS) from None


def _print_trained(folder: Path) -> None:
    from vinet_bench.train_one import METRICS

    test = json.loads((folder / METRICS).read_text(encoding="utf-8"))["test"]
    accuracy, reserved = 100 * test["accuracy"], 100 * test["fraction_reserved"]
    out_console.print(
        f"test accuracy {accuracy:.2f} %, {reserved:.2f} % of the pixels reserved;"
        f" weights, config, metrics and curves are in {folder}",
        soft_wrap=True,
    )


def explain_command(
    images: Images,
    model: Annotated[Path, typer.Option(help="A folder that `train` wrote.")],
    method: Annotated[
        str | None, typer.Option(help="Another method that explains such a VINet.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("results/explained"),
    slice_number: Annotated[
        int | None,
        typer.Option("--slice", help="Which slice of a volume, from 0 (default: the middle)."),
    ] = None,
    device: DeviceName = Device.auto,
) -> None:
    """Print class probabilities, and draw slice, overlay and map side by side."""

    def explain_all() -> "tuple[tuple[str, ...], list[Explanation]]":
        from vinet_bench.explain import explain
        from vinet_bench.models import TrainedVINet
        from vinet_bench.run import choose_machine

        trained = TrainedVINet.load(model, choose_machine(device.value, "float32"))
        made = explain(images, trained, out, method, slice_number)
        return trained.config.class_names, made

    _print_explained(*_quietly(explain_all, "nothing was saved"))


def _print_explained(class_names: tuple[str, ...], made: "list[Explanation]") -> None:
    grid = Grid(title="Class probabilities, %", title_justify="left", box=box.SIMPLE_HEAD)
    grid.add_column("Image", overflow="fold")
    grid.add_column("Predicted")
    for name in class_names:
        grid.add_column(name, justify="right")
    for one in made:
        best = class_names[int(one.probabilities.argmax())]
        grid.add_row(str(one.image), best, *(f"{100 * p:.2f}" for p in one.probabilities))
    out_console.print(grid)
    for one in made:
        if one.note:
            out_console.print(one.note, soft_wrap=True)
        out_console.print(str(one.figure), soft_wrap=True)


def _quietly(work: Callable[[], T], stopped: str) -> T:
    """The work without the remarks of libraries; Ctrl-C ends it in one line, which says this."""
    warnings.filterwarnings("ignore", category=UserWarning, module="(torch|timm)")
    try:
        return work()
    except KeyboardInterrupt:  # here, since typer would swallow it before main() sees it
        err_console.print(f"stopped; {stopped}")
        raise typer.Exit(INTERRUPTED) from None
