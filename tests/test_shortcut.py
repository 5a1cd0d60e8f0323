"""The planted marker: erased without a trace, and found by whoever uses it."""

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import baselines
from tests.tables import lines
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.phantom import PhantomSettings, phantom
from vinet_bench.markers import erase
from vinet_bench.methods import MethodInfo
from vinet_bench.plan import Plan, make_plan
from vinet_bench.run import run
from vinet_bench.seeds import picture_generators, picture_hash

WANTED = PhantomSettings(slices=30, size=32, confounder=1)


def pictures(data: SliceDataset) -> Tensor:
    return torch.from_numpy(data.images)[:, None]


def erased(data: SliceDataset, chosen: slice = slice(None)) -> Tensor:
    assert data.marker is not None
    images = pictures(data)[chosen]
    return erase(images, data.marker[chosen], picture_generators(images, "erased marker"))


def test_only_the_marker_goes_and_no_trace_stays() -> None:
    data, clean = phantom(WANTED), phantom(WANTED.model_copy(update={"confounder": None}))
    assert data.marker is not None
    found, marker = erased(data), torch.from_numpy(data.marker)[:, None]
    assert torch.equal(found[~marker], pictures(data)[~marker])
    assert (pictures(data)[marker] == 255).all()
    # As bright, and about as rough, as the same slices that never had one.
    there, without = found[marker].double(), pictures(clean)[marker].double()
    assert abs(there.mean() - without.mean()) < 5
    assert 0.8 < there.std() / without.std() < 1.25


def test_erasing_does_not_know_the_batch() -> None:
    data = phantom(WANTED)
    assert torch.equal(erased(data)[4:6], erased(data, slice(4, 6)))


def test_floating_pictures_are_erased_too() -> None:
    data = phantom(WANTED)
    assert data.marker is not None
    images = pictures(data).float() / 255
    found = erase(images, data.marker, picture_generators(images, "x"))
    assert found.dtype == torch.float32
    assert found[torch.from_numpy(data.marker)[:, None]].max() < 1


def test_a_picture_without_a_marker_stays() -> None:
    images = torch.randint(0, 255, (1, 1, 16, 16), dtype=torch.uint8)
    draws = picture_generators(images, "x")
    assert torch.equal(erase(images, np.zeros((1, 16, 16), bool), draws), images)


# ---- whole runs


class Marker:
    """Points at the marker, which it knows."""

    info: ClassVar[MethodInfo] = MethodInfo("marker", "Marker", "none", scaling="as-is")
    known: ClassVar[dict[str, Tensor]] = {}

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([self.known[picture_hash(image)] for image in images])


def plan_of(*methods: str, confounder: float | None = 1) -> Plan:
    return make_plan(
        preset="smoke",
        methods=list(methods),
        changes=[
            "phantom.slices=200", f"phantom.confounder={confounder}", "explained.epochs=1",
            "vinet.epochs=1", "retrain.epochs=12", "retrain.learning_rate=3e-3",
        ],
    )  # fmt: skip


def test_maps_on_the_marker_and_a_network_that_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = phantom(PhantomSettings(slices=200, size=32, confounder=1))
    assert data.marker is not None
    monkeypatch.setitem(baselines.METHODS, "marker", Marker)
    shown = torch.from_numpy(data.pictures())
    maps = torch.from_numpy(data.marker.astype(np.float32))
    monkeypatch.setattr(Marker, "known", dict(zip(map(picture_hash, shown), maps, strict=True)))
    plan = plan_of("vinet", "marker", "random", "outline")
    assert run(["shortcut"], plan, tmp_path / "run", "cpu").failed == ()
    found = lines(tmp_path / "run", "shortcut")
    for key in ("marker_mass", "marker_rank"):
        assert float(found["marker"][key]) == pytest.approx(1)
        assert float(found["outline"][key]) < 0.05
        area = float(found["random"]["marker_area"])
        assert float(found["random"][key]) == pytest.approx(area, abs=0.02)
    assert float(found["outline"]["evidence_mass"]) == pytest.approx(1)
    assert found["random"]["erased_accuracy"] == ""  # a control has no network
    original = found["original"]
    assert 0 <= float(original["erased_accuracy"]) <= 1
    assert original["marker_mass"] == ""


def test_a_vinets_noise_changes_no_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise comes from a picture's content, but the erased picture is given the same."""

    def one_grey_level(images: Tensor, *rest: object) -> Tensor:
        changed = images.clone()
        changed[:, :, 0, 0] += 1 - 2 * (changed[:, :, 0, 0] > 127).to(torch.uint8)
        return changed

    monkeypatch.setattr("protocols.shortcut.erase", one_grey_level)
    assert run(["shortcut"], plan_of("vinet"), tmp_path / "run", "cpu").failed == ()
    changed = float(lines(tmp_path / "run", "shortcut")["vinet"]["changed"])
    assert changed < 0.1  # with noise of its own: 0.36


def test_without_a_marker_each_cell_says_what_to_do(tmp_path: Path) -> None:
    outcome = run(["shortcut"], plan_of("random", confounder=None), tmp_path / "run", "cpu")
    assert len(outcome.failed) == 3
    for reason in outcome.failed:
        assert "--set phantom.confounder=0.9" in reason
