"""A run's slices and kept maps, ready to be drawn; nothing is trained or explained here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vinet_bench.data import load_data
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.splits import split_as
from vinet_bench.destruction import DELTA
from vinet_bench.errors import UserError, unknown_name
from vinet_bench.machine import Machine
from vinet_bench.masks import scale
from vinet_bench.plan import Plan
from vinet_bench.progress import Silent
from vinet_bench.report.draw import Case, Strip
from vinet_bench.settings import Settings
from vinet_bench.shared_artefacts import shared_at
from vinet_bench.store import Store
from vinet_bench.stored_run import read_run
from vinet_bench.vinet import destroy, uniform_noise
from vinet_bench.workshop import Workshop

Array = NDArray[np.float32]


def plan_of(told: Mapping[str, Any]) -> Plan:
    """The plan that a run's folder tells of. Raises UserError if an older version wrote it, or
    none did."""
    if "source" not in told:
        raise UserError("this run does not say where its data are: run the same command again")
    try:
        return Plan(
            **{key: value for key, value in told["source"].items() if key in Plan.model_fields},
            preset=told["preset"],
            methods=tuple(row["name"] for row in told["rows"] if row["kind"] != "reference"),
            seeds=tuple(told["seeds"]),
            threshold=told["threshold"],
            settings=Settings.model_validate(told["settings"]),
        )
    except (KeyError, TypeError, ValueError):  # pydantic's are ValueErrors
        raise UserError(
            "this run's plan lacks settings, or holds some that vinet-bench does not write"
            " (another version's, or damaged?): run the same command again"
        ) from None


def _same_data(plan: Plan, told: Mapping[str, Any]) -> SliceDataset:
    data = load_data(plan)
    if data.fingerprint != told["data"]["fingerprint"]:
        raise UserError(f"{plan.data} has changed since the run: its maps are of other pictures")
    return data


class Gallery:
    """What a run kept for some of its test slices; of several seeds the first.

    artefacts: the address of its networks and maps, if they are not in its folder.
    Raises UserError for a folder without a run, changed data, or an unknown slice.
    """

    def __init__(self, folder: Path, wanted: Sequence[str], draw: int, artefacts: str = "") -> None:
        told = read_run(folder).plan
        plan = plan_of(told)
        data = _same_data(plan, told)
        machine = Machine(
            torch.device(told["device"]),
            told["precision"] == "bfloat16",
            told.get("threads", 0),
            told.get("deterministic", False),
        )
        self._rows: list[dict[str, str]] = told["rows"]
        self._seed = plan.seeds[0]
        self._store = Store(folder, shared_at(artefacts), read_only=True)
        split = split_as(data, plan.settings.split)
        self._shop = Workshop(plan, data, split, self._store, machine, Silent()).at(self._seed)
        self._test = self._shop.part("test")
        self._chosen = _chosen(self._test, wanted, draw)

    def close(self) -> None:
        self._store.close()

    def cases(self) -> list[Case]:
        """The chosen test slices."""
        test = self._test
        return [
            Case(
                f"{test.ids[i]}, class {test.class_names[test.labels[i]]}",
                test.pictures(np.array([i]))[0, 0],
                None if test.evidence is None else test.evidence[i],
            )
            for i in self._chosen
        ]

    def vinet(self) -> Strip:
        """M of the plan's own VINet. Raises UserError if the run has none."""
        maps = self._shop.kept_maps("vinet", self._seed, "test")
        if maps is None:
            raise UserError("this run has no maps of VINet: run `vinet-bench run all` first")
        return Strip("VINet", maps.numpy()[self._chosen])

    def methods(self) -> tuple[list[Strip], list[str]]:
        """Each method's scaled maps, and the titles of those that have none."""
        found, lacking = [], []
        for row in self._rows:
            if row["kind"] == "method":
                maps = self._shop.kept_maps(row["name"], self._seed, "test")
                chosen = None if maps is None else maps[torch.from_numpy(self._chosen)]
                if chosen is None or chosen.isnan().any():  # a costly method explains a few only
                    lacking.append(row["title"])
                else:
                    found.append(Strip(row["title"], scale(chosen, row["scaling"]).numpy()))
        return found, lacking

    def scales(self) -> list[Strip]:
        """M with destruction on several scales, and on the input alone (Fig. 6).

        Raises UserError if the run lacks one of them.
        """
        found = []
        for title, name in (("Multi-scale", "multi"), ("Single-scale", "single")):
            vinet = self._shop.settings.vinet.model_copy(update={"destruction": name})
            maps = self._shop.with_vinet(vinet).kept_maps("vinet", self._seed, "test")
            if maps is None:
                raise UserError(
                    f"this run has no {title.lower()} maps: run"
                    " `vinet-bench run destruction --rows multi,single` first"
                )
            found.append(Strip(title, maps.numpy()[self._chosen]))
        return found


def _chosen(test: SliceDataset, wanted: Sequence[str], draw: int) -> NDArray[np.int64]:
    """The named slices, or one of each class drawn by a seed."""
    if wanted:
        places = {name: i for i, name in enumerate(test.ids.tolist())}
        for name in wanted:
            if name not in places:
                raise unknown_name("slice of the test part", name, places)
        return np.array([places[name] for name in wanted])
    rng = np.random.default_rng(draw)
    return np.array([rng.choice(np.flatnonzero(test.labels == c)) for c in np.unique(test.labels)])


def process(image: Array, m: Array, generator: torch.Generator) -> dict[str, Array]:
    """The steps of Eq. 3 to 5 on one slice (Fig. 3). image, m (H, W) -> arrays (H, W) by name."""
    p, importance = (torch.from_numpy(a)[None, None] for a in (image, m))
    noise = uniform_noise(p, generator)
    low = p.min()
    normalised = (p - low) / (p.max() - low + DELTA)
    steps: dict[str, Tensor] = {
        "p": p,
        "normalised": normalised,
        "m": importance,
        "kept": normalised * importance,
        "noise": noise,
        "inverse": 1 - importance,
        "filled": noise * (1 - importance),
        "destroyed": destroy(p, importance, noise),
    }
    return {name: step[0, 0].numpy() for name, step in steps.items()}
