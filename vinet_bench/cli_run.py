"""`vinet-bench run`: protocols on data, with their tables at the end."""

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from vinet_bench.cli_options import (
    Artefacts,
    Changes,
    Checkpoint,
    Classifier,
    CrossFit,
    Data,
    Deterministic,
    Device,
    DeviceName,
    DryRun,
    Explain,
    GpusPerTask,
    Importance,
    Maps,
    Methods,
    Out,
    Patients,
    PatientsKnown,
    PresetName,
    RayAddress,
    Rows,
    Seeds,
    Size,
    Threshold,
    Workers,
    all_changes,
    gpu_share,
    words,
)
from vinet_bench.cli_report import print_tables
from vinet_bench.consoles import FAILED_CELLS, INTERRUPTED, err_console, out_console

PROTOCOL_HELP = (
    "all: keep-important and occlusion; everything: every protocol that the data has something for;"
    " or names of `list protocols`, comma-separated. Some train many networks: see --dry-run."
)


def run_command(
    protocol: Annotated[str, typer.Argument(help=PROTOCOL_HELP)] = "all",
    data: Data = "phantom",
    methods: Methods = None,
    preset: PresetName = "quick",
    seeds: Seeds = None,
    threshold: Threshold = 0.9,
    device: DeviceName = Device.auto,
    out: Out = None,
    changes: Changes = None,
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
    workers: Workers = None,
    ray: RayAddress = None,
    deterministic: Deterministic = False,
    artefacts: Artefacts = None,
    gpus_per_task: GpusPerTask = 1.0,
) -> None:
    """Run a protocol, or all of them; what is done already is not computed again."""
    from vinet_bench.plan import make_plan

    plan = make_plan(
        data=data,
        preset=preset,
        methods=words(methods),
        seeds=seeds,
        threshold=threshold,
        size=size,
        patients=patients.value,
        changes=all_changes(changes, importance, classifier, cross_fit, explain),
        rows=words(rows),
        checkpoint=checkpoint,
        maps=maps,
        deterministic=deterministic,
        artefacts=artefacts,
    )
    if dry_run:
        _foretell(protocol, plan, out, device.value)
    else:
        _carry_out(protocol, plan, out, device.value, _cluster(workers, ray, gpus_per_task))


def _cluster(workers: int | None, address: str | None, gpus: float) -> Any:
    if workers is None and address is None:
        return None
    from vinet_bench.cluster import Cluster

    return Cluster(workers or 0, address or "", gpu_share(gpus))


def protocol_names(protocol: str) -> list[str]:
    """Those that the words stand for (all, everything, or a protocol's own), each once."""
    return list(dict.fromkeys(name for word in words(protocol) or () for name in _named(word)))


def _named(protocol: str) -> list[str]:
    from vinet_bench.protocols import protocols

    if protocol == "everything":
        return list(protocols())
    in_all = [name for name, make in protocols().items() if make().info.in_all]
    return in_all if protocol == "all" else [protocol]


def _foretell(protocol: str, plan: Any, out: Path | None, device: str) -> None:
    from vinet_bench.forecast import forecast, told

    for line in told(forecast(protocol_names(protocol), plan, out, device)):
        out_console.print(line, soft_wrap=True)


def _carry_out(protocol: str, plan: Any, out: Path | None, device: str, cluster: Any) -> None:
    # Known remarks of libraries that a user can do nothing about.
    warnings.filterwarnings("ignore", category=UserWarning, module="(torch|captum|timm|zennit)")
    from vinet_bench.progress import Shown
    from vinet_bench.report import TEXTS, write_report
    from vinet_bench.run import run

    bars = Shown(err_console) if err_console.is_terminal else nullcontext()
    try:
        with bars as progress:
            outcome = run(protocol_names(protocol), plan, out, device, progress, cluster)
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
