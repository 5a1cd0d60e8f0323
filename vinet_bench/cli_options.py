"""Options that several commands have."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vinet_bench.errors import UserError


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Patients(StrEnum):
    """Whether the data says whose slice is whose."""

    column = "column"
    unknown = "unknown"


def _on_a_disk(out: Path | None) -> Path | None:
    """Raises UserError for an address: it would become a folder of that name."""
    if out is not None and re.match(r"\w{2,}:/", str(out)):
        raise UserError(
            f"--out {out}: a run's folder lies on a disk; mount the bucket, or copy the folder"
            " there when the run has ended"
        )
    return out


Data = Annotated[
    str, typer.Option(help="'phantom', a folder with labels.csv, or a prepared data set.")
]
Methods = Annotated[
    str | None, typer.Option(help="Comma-separated; default: the paper's, three more, controls.")
]
PresetName = Annotated[str, typer.Option("--preset", help="See `list presets`.")]
Seeds = Annotated[int | None, typer.Option(help="How many seeds (default: the preset's).")]
Threshold = Annotated[
    float, typer.Option(help="T of Eq. 9, between 0 and 1: pixels of 1 - T or more are reserved.")
]
DeviceName = Annotated[Device, typer.Option("--device", help="Where to compute.")]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic", help="On a GPU: only kernels that give the same bits twice; slower."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="The run's folder (default: results/<data>-<preset>).", callback=_on_a_disk),
]
Artefacts = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Keep networks and maps there, for other runs too: s3://BUCKET/..., or a folder.",
    ),
]
Changes = Annotated[
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
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Make cells in so many processes of this machine (needs Ray)."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Make cells on a Ray cluster: auto, or ray://HOST:10001."
    ),
]
GpusPerTask = Annotated[
    float,
    typer.Option(
        metavar="SHARE", help="Of a GPU, that a task takes on a cluster: 0.25 lets four share one."
    ),
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


def all_changes(
    changes: list[str] | None,
    importance: str | None,
    classifier: str | None,
    cross_fit: int | None = None,
    explain: str | None = None,
    section: str = "vinet",
) -> list[str]:
    """Those of --set, and the settings that the other options stand for.

    section: whose importance network and classifier.
    """
    named = {
        f"{section}.importance": importance,
        f"{section}.classifier": classifier,
        "curves.cross_fit": cross_fit,
        "explained.network": explain,
    }
    return [*(changes or []), *(f"{key}={v}" for key, v in named.items() if v is not None)]


def words(text: str | None) -> list[str] | None:
    """Of a list with commas."""
    return None if text is None else [word.strip() for word in text.split(",")]


def gpu_share(share: float) -> float:
    """Raises UserError for what Ray does not hand out: it splits one GPU, not two."""
    if not (0 < share <= 1 or (share > 1 and share == int(share))):
        raise UserError(
            f"--gpus-per-task {share:g}: give a share of one GPU, e.g. 0.25, or a whole number"
        )
    return share
