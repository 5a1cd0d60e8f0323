"""`vinet-bench data`: prepare, check and show data sets."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table as Grid

from vinet_bench.cli_options import Changes
from vinet_bench.consoles import INTERRUPTED, err_console, out_console
from vinet_bench.errors import UserError

if TYPE_CHECKING:
    from vinet_bench.data.cutting import Cut
    from vinet_bench.data.dataset import SliceDataset
    from vinet_bench.data.prepare import Result, Source

PROBLEMS = 1
MOST_REASONS = 10

app = typer.Typer(help="Prepare, check and show data sets.", no_args_is_help=True)
prepare_app = typer.Typer(
    help="Cut scans into one prepared data set that `run --data` takes.", no_args_is_help=True
)
app.add_typer(prepare_app, name="prepare")

Out = Annotated[Path, typer.Option(help="The prepared data set; must not exist yet.")]
LidcXml = Annotated[
    Path | None, typer.Option(help="LIDC's own XML files, read in place of the shipped table.")
]
Size = Annotated[int, typer.Option(help="Side of the slices in pixels.")]
Slices = Annotated[
    str, typer.Option(help="Of each nodule: 'largest', 'all', or how many of the largest.")
]
Spacing = Annotated[
    str, typer.Option(help="Of the pixels: 'native', or millimetres to resample to (0.7, say).")
]
Jitter = Annotated[
    int | None,
    typer.Option(help="The nodule is off centre by at most so many pixels (default: size / 8)."),
]
Label = Annotated[str, typer.Option(help="'median' of the readers' malignancy, or 'mean'.")]
Seed = Annotated[int, typer.Option(help="Of the jitter.")]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes, about 130 MB each; more help on a fast disk only.")
]
Folder = Annotated[Path, typer.Argument(help="A prepared data set, or a folder with labels.csv.")]
OwnSize = Annotated[int | None, typer.Option(help="Resample to this side, in pixels.")]
PatientsKnown = Annotated[
    str, typer.Option("--patients", help="'column', or 'unknown' if the data cannot say.")
]


@prepare_app.command("luna16")
def prepare_luna16(
    luna: Annotated[Path, typer.Option(help="LUNA16: subset0..9/*.mhd and annotations.csv.")],
    out: Out,
    annotations: Annotated[
        Path | None, typer.Option(help="Where annotations.csv lies, if not in --luna.")
    ] = None,
    lidc_xml: LidcXml = None,
    size: Size = 128,
    slices: Slices = "largest",
    spacing: Spacing = "native",
    jitter: Jitter = None,
    label: Label = "median",
    seed: Seed = 0,
    workers: Workers = 2,
) -> None:
    """LUNA16's nodules with LIDC's malignancy, masks and patients."""
    cut = _cut(size, slices, spacing, jitter, label, seed)

    def source() -> "Source":
        from vinet_bench.data.luna16 import luna16_source

        return luna16_source(luna, annotations, lidc_xml)

    _prepare(source, cut, out, workers)


@prepare_app.command("lidc")
def prepare_lidc(
    dicom: Annotated[Path, typer.Option(help="LIDC's DICOM series, in any folders below.")],
    out: Out,
    lidc_xml: LidcXml = None,
    size: Size = 128,
    slices: Slices = "largest",
    spacing: Spacing = "native",
    jitter: Jitter = None,
    label: Label = "median",
    seed: Seed = 0,
    workers: Workers = 2,
) -> None:
    """All of LIDC's nodules of three or more readers, from its DICOM series."""
    cut = _cut(size, slices, spacing, jitter, label, seed)

    def source() -> "Source":
        from vinet_bench.data.luna16 import lidc_source

        return lidc_source(dicom, lidc_xml)

    _prepare(source, cut, out, workers)


@prepare_app.command("nodulemnist3d")
def prepare_nodulemnist(
    out: Out,
    root: Annotated[
        Path | None, typer.Option(help="Folder with nodulemnist3d.npz (default: download it).")
    ] = None,
    size: Annotated[int, typer.Option(help="28 or 64 pixels.")] = 28,
    slices: Annotated[int, typer.Option(help="Middle slices of each volume.")] = 1,
) -> None:
    """NoduleMNIST3D: benign or malignant, no patient ids (needs the extra medmnist)."""
    from vinet_bench.data.nodulemnist import prepare_nodulemnist3d

    data = prepare_nodulemnist3d(out, root, size, slices)
    out_console.print(f"{out}: {len(data)} slices, classes {', '.join(data.class_names)}")
    err_console.print(
        "WARNING: no patient ids; a patient may stand on both sides of MedMNIST's split, and every "
        "table says so",
        style="red",
    )
    _next(out, " --patients unknown")


def _cut(size: int, slices: str, spacing: str, jitter: int | None, label: str, seed: int) -> "Cut":
    """The options, checked. Raises UserError that names the option."""
    from pydantic import ValidationError

    from vinet_bench.data.cutting import Cut

    given: dict[str, Any] = {
        "size": size,
        "slices": slices,
        "spacing_mm": None if spacing == "native" else spacing,
        "jitter": size // 8 if jitter is None else jitter,
        "label": label,
        "seed": seed,
    }
    try:
        return Cut.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        # A fault of two options together has no place of its own: the jitter against the size.
        name = str(first["loc"][0]) if first["loc"] else "jitter"
        told = [e["msg"] for e in error.errors() if e["loc"][:1] == first["loc"][:1]]
        text = ", or ".join(told).replace("Input should", "it should").replace("Value error, ", "")
        raise UserError(f"--{name.removesuffix('_mm')} {given[name]}: {text}") from None


def _prepare(find: "Callable[[], Source]", cut: "Cut", out: Path, workers: int) -> None:
    from vinet_bench.data.prepare import prepare

    with _stoppable(), _progress() as progress:
        result = prepare(find(), cut, out, workers, progress)
    _tell(result)
    _next(out, "")


@contextmanager
def _stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:  # here, since typer would swallow it before main() sees it
        err_console.print("stopped; the same command goes on where it was")
        raise typer.Exit(INTERRUPTED) from None


def _progress() -> Any:
    from vinet_bench.progress import Shown, Silent

    return Shown(err_console) if err_console.is_terminal else nullcontext(Silent())


def _tell(result: "Result") -> None:
    labels = ", ".join(f"{name}: {result.labels[name]}" for name in sorted(result.labels))
    out_console.print(
        f"{result.folder}: {result.slices} slices of {result.nodules} nodules of {result.patients} "
        f"patients; malignancy {labels}",
        soft_wrap=True,
    )
    out_console.print(
        f"human ceiling: a single reader agrees with the others' median in "
        f"{100 * result.ceiling:.1f} % of cases",
        soft_wrap=True,
    )
    left = sorted(result.left_out.items(), key=lambda item: -item[1])
    if left:
        total = sum(result.left_out.values())
        out_console.print(f"left out: {total}, each with its reason in report.csv")
    for reason, count in left[:MOST_REASONS]:
        out_console.print(f"  {count:5d}  {reason}", soft_wrap=True)
    if len(left) > MOST_REASONS:
        out_console.print(f"         and {len(left) - MOST_REASONS} more reasons")


def _next(out: Path, more: str) -> None:
    out_console.print(f"next: vinet-bench run all --data {out}{more}", soft_wrap=True)


@app.command()
def check(
    folder: Folder,
    size: OwnSize = None,
    patients: PatientsKnown = "column",
    preset: Annotated[str, typer.Option(help="Whose split is checked.")] = "quick",
    changes: Changes = None,
) -> None:
    """Patients, labels in each part, overlaps, intensities, pictures that are there twice."""
    from vinet_bench.data.inspection import inspect_data
    from vinet_bench.plan import make_plan

    wanted = make_plan(preset=preset, size=size, changes=changes).settings.split
    data = _load(folder, size, patients)
    found = inspect_data(data, wanted)
    out_console.print(f"{data.name}, fingerprint {data.fingerprint}", soft_wrap=True)
    grid = Grid(*found.header, box=box.SIMPLE_HEAD)
    for row in found.parts:
        grid.add_row(*row)
    out_console.print(grid)
    for fact in (*found.facts, *data.notes):
        out_console.print(fact, soft_wrap=True)
    for problem in found.problems:
        out_console.print(f"PROBLEM {problem}", style="red", soft_wrap=True)
    if found.problems:
        raise typer.Exit(PROBLEMS)


@app.command()
def show(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(help="The PNG to write (default: NAME-samples.png).")
    ] = None,
    each: Annotated[int, typer.Option(min=1, max=50, help="Slices of each class.")] = 6,
    seed: Annotated[int, typer.Option(help="Which slices are drawn.")] = 0,
    size: OwnSize = None,
    patients: PatientsKnown = "column",
) -> None:
    """A picture with samples of each class and their outlines."""
    from vinet_bench.data.inspection import draw_samples
    from vinet_bench.data.prepared import write_errors
    from vinet_bench.writing import replacing

    data = _load(folder, size, patients)
    path = out or Path(f"{Path(data.name).name}-samples.png")
    if path.suffix.lower() != ".png":
        raise UserError(f"--out {path}: name a .png file")
    with write_errors(path), replacing(path) as beside:
        draw_samples(data, beside, each, seed)
    out_console.print(str(path), soft_wrap=True)


def _load(folder: Path, size: int | None, patients: str) -> "SliceDataset":
    """At its own size, where it has one."""
    from vinet_bench.data.folder import load_folder
    from vinet_bench.data.prepared import is_prepared, load_prepared
    from vinet_bench.errors import unknown_name

    if patients not in ("column", "unknown"):
        raise unknown_name("value of --patients", patients, ("column", "unknown"))
    if is_prepared(folder):
        return load_prepared(folder, size, patients)
    return load_folder(folder, size, None, "unknown" if patients == "unknown" else "column")
