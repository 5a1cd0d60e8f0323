"""What a run notes of its plan, so that a report needs the run's folder alone."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from vinet_bench import __version__
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.splits import Split, majority_share
from vinet_bench.machine import Machine
from vinet_bench.methods import MethodInfo, method
from vinet_bench.plan import Plan
from vinet_bench.presets import deviations
from vinet_bench.protocols import EvalProtocol, MoreRows, OwnRows, OwnTable
from vinet_bench.training import CHECKPOINT_RULE

# What a plan is made of again, beside its rows, seeds and settings.
_SOURCE = {"data", "patients", "size_given", "named"}


def describe(plan: Plan, data: SliceDataset, split: Split, machine: Machine) -> dict[str, Any]:
    """The plan as a report needs it: rows in their order, data, versions, deviations."""
    tested = split.tested(plan.seeds)
    return ({"deterministic": True} if machine.fixed_kernels else {}) | {
        "preset": plan.preset,
        "source": plan.model_dump(mode="json", include=_SOURCE),
        "seeds": list(plan.seeds),
        "threshold": plan.threshold,
        "precision": "bfloat16" if machine.bfloat16 else "float32",
        "threads": machine.threads,
        "device": machine.device.type,
        "versions": _versions(),
        "commit": _commit(),
        "deviations": deviations(plan.settings, _trains_sealed(plan)),
        "settings": plan.settings.model_dump(mode="json"),
        "rows": _rows(plan),
        "checkpoint": CHECKPOINT_RULE,
        "data": {
            "name": data.name,
            "slices": len(data),
            "patients": len(np.unique(data.patients)),
            "patients_known": data.patients_known,
            "parts": _sizes(split, len(tested)),
            "class_names": list(data.class_names),
            "majority": majority_share(data.labels[tested]),
            "notes": list(data.notes),
            "fingerprint": data.fingerprint,
            "split_by": plan.settings.split.by,
        }
        | ({"folds": len(split.folds)} if split.folds else {}),
    }


def _trains_sealed(plan: Plan) -> bool:
    """True, too, where rows are not methods: they may be sealed VINets."""
    return not plan.methods or any(method(n).info.explains == "sealed" for n in plan.methods)


def _sizes(split: Split, tested: int) -> dict[str, int]:
    """How many slices each part has; with cross-validation those that any seed tests."""
    if split.folds:
        return {"test": tested}
    return {name: len(place) for name, place in split.parts().items()}


def _versions() -> dict[str, str]:
    names = ("torch", "timm", "captum", "grad-cam", "zennit", "numpy")
    # Our own not as it was installed: a checkout may be newer.
    own = {"python": platform.python_version(), "vinet-bench": __version__}
    return own | {name: version(name) for name in names}


def _commit() -> str:
    """Of the checkout that this program runs from; empty for an installed package."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return ""
    words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _rows(plan: Plan) -> list[dict[str, str]]:
    infos = [method(name).info for name in plan.methods]
    infos.sort(key=lambda info: info.kind != "method")  # stable: methods, then controls
    references = [("original", "Original"), ("majority", "Majority")]
    rows = [
        {"name": n, "title": t, "kind": "reference", "explains": "", "scaling": ""}
        for n, t in references
    ]
    return rows + [_row(info, plan) for info in infos]


def _row(info: MethodInfo, plan: Plan) -> dict[str, str]:
    """A method as the report needs it; a control's map is ranked, never scaled."""
    names = ("name", "title", "kind", "variant")
    return {k: getattr(info, k) for k in names} | {
        "explains": _explained_name(info, plan),
        "scaling": "" if info.kind == "control" else info.scaling,
        "costly": "yes" * info.costly,
    }


def _explained_name(info: MethodInfo, plan: Plan) -> str:
    """'vgg16', 'vinet', '' for a control; of a checkpoint also the file and its content's hash."""
    if info.explains != "classifier":
        return "" if info.explains == "nothing" else info.explains
    chosen = plan.settings.explained
    if not chosen.weights:
        return chosen.network
    file = Path(plan.checkpoint).name
    return f"{chosen.network} with the weights of {file}, {chosen.weights}, not trained here"


def by_protocol(
    plan: Plan, chosen: Sequence[EvalProtocol], earlier: Mapping[str, Any]
) -> dict[str, Any]:
    """Each protocol's seeds, own rows and layout, with those that the same tables hold already."""
    seeds = dict(earlier.get("protocol_seeds", {}))
    rows = dict(earlier.get("own_rows", {}))
    layouts = dict(earlier.get("layouts", {}))
    for how in chosen:
        name = how.info.name
        seeds[name] = sorted({*seeds.get(name, ()), *plan.seeds})
        if isinstance(how, OwnRows):
            rows[name] = _own_rows(plan, how, rows.get(name, []))
        if isinstance(how, MoreRows):
            rows[name] = [asdict(row) for row in how.more_rows(plan)]
        if isinstance(how, OwnTable):
            layouts[name] = how.layout.stored()
    return {"protocol_seeds": seeds, "own_rows": rows, "layouts": layouts}


def _own_rows(plan: Plan, how: OwnRows, earlier: list[dict[str, str]]) -> list[dict[str, str]]:
    """A protocol's rows, the new and the earlier ones, the usual ones first and in their order."""
    there = {row["name"]: row for row in earlier}
    there |= {row.name: asdict(row) for row in how.rows(plan)}
    usual = [row.name for row in how.rows(plan.model_copy(update={"rows": ()}))]
    return [there[name] for name in dict.fromkeys([*usual, *there]) if name in there]
