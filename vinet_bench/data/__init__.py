"""Data sources: each gives a SliceDataset."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.folder import load_folder
from vinet_bench.data.phantom import PHANTOM_SIZES, phantom
from vinet_bench.data.prepared import is_prepared, load_prepared
from vinet_bench.errors import UserError, unknown_name
from vinet_bench.outside import entry_points

if TYPE_CHECKING:
    from vinet_bench.plan import Plan

Source = Callable[["Plan"], SliceDataset]


def _phantom(plan: "Plan") -> SliceDataset:
    """CT-like slices with known evidence; no download."""
    settings = plan.settings
    if plan.patients == "unknown":
        raise UserError("--patients unknown: the phantom knows its patients; leave it out")
    if not PHANTOM_SIZES[0] <= settings.size <= PHANTOM_SIZES[1]:
        raise UserError(
            f"--size {settings.size}: a phantom has {PHANTOM_SIZES[0]} to {PHANTOM_SIZES[1]} pixels"
        )
    return phantom(settings.phantom.model_copy(update={"size": settings.size}))


def sources() -> Mapping[str, Source]:
    """Every data source that has a name: the built-in ones and those of the entry point
    vinet_bench.datasets. Any other data set is a folder: prepared, or with a labels.csv."""
    outside = {e.name: e.load() for e in entry_points(group="vinet_bench.datasets")}
    return {"phantom": _phantom, **outside}


def load_data(plan: "Plan") -> SliceDataset:
    """The plan's data: a named source, else a folder. Raises UserError for bad input."""
    named = sources()
    if plan.data in named:
        return named[plan.data](plan)
    folder = Path(plan.data)
    if not folder.exists() and folder.name == plan.data:
        error = unknown_name("data set", plan.data, named)
        raise UserError(f"{error}; or give a folder with a labels.csv, or a prepared one")
    side = plan.settings.size
    given = side if plan.size_given else None
    if is_prepared(folder):
        data = load_prepared(folder, side, plan.patients)
        if data.num_classes < 2:
            raise UserError(f"{folder} has one class only: a benchmark needs two or more")
        return data
    unknown = plan.patients == "unknown"
    return load_folder(folder, given, side, "unknown" if unknown else "column")
