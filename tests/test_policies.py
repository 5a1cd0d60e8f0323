"""Sensitivity of the ranking: one choice at a time, against the tables that it must agree with."""

from pathlib import Path
from typing import ClassVar, Self

import pytest
import torch
from torch import Tensor, nn

import baselines
from protocols.policies import _fills
from tests.tables import lines
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.methods import MethodInfo
from vinet_bench.perturbations import blurred
from vinet_bench.plan import Plan, make_plan
from vinet_bench.run import run

CHANGES = ["phantom.slices=120", "retrain.epochs=3", "control_budget=0.05"]


class Signed:
    """Bright pixels count for, dark ones more strongly against."""

    info: ClassVar[MethodInfo] = MethodInfo("signed", "Signed", "none", "nothing")

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        bright = images[:, 0] - 0.3
        return torch.where(bright > 0, bright, 5 * bright)


def plan_of(*methods: str) -> Plan:
    return make_plan(preset="smoke", methods=list(methods), changes=CHANGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("policies") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(baselines.METHODS, "signed", Signed)
        plan = plan_of("signed", "random", "centre", "edges", "outline")
        assert run(["occlusion", "policies"], plan, out, "cpu").failed == ()
    return out


def test_the_signed_drop_is_the_one_of_table_ii(folder: Path) -> None:
    table, other = lines(folder, "policies"), lines(folder, "table2")
    for name in ("signed", "random", "centre", "edges", "outline"):
        assert table[name]["drop_signed"] == other[name]["equal_probability_drop"]


def test_a_map_without_negative_pixels_has_no_sign(folder: Path) -> None:
    table = lines(folder, "policies")
    for name in ("random", "centre", "edges"):
        for other in ("drop_positive", "drop_absolute"):
            assert table[name][other] == table[name]["drop_signed"]
        assert table[name]["mass_positive"] == table[name]["mass_absolute"]


def test_a_map_with_negative_pixels_has_one(folder: Path) -> None:
    row = lines(folder, "policies")["signed"]
    signed, positive, absolute = (
        float(row[f"drop_{k}"]) for k in ("signed", "positive", "absolute")
    )
    assert signed == pytest.approx(positive, abs=2e-6)  # the same masks in another batch's memory
    assert absolute != pytest.approx(signed, abs=1e-5)
    assert len({row["mass_positive"], row["mass_absolute"], row["mass_minmax"]}) == 3


def test_the_outline_has_all_the_mass(folder: Path) -> None:
    row = lines(folder, "policies")["outline"]
    for key in ("mass_positive", "mass_absolute", "mass_minmax"):
        assert float(row[key]) == pytest.approx(1)


def test_rankings_are_compared_in_words(folder: Path) -> None:
    lines(folder, "policies")
    told = (folder / "policies.md").read_text(encoding="utf-8")
    assert "by Drop signed and that by: Drop positive" in told
    assert "by Mass positive and that by: Mass absolute" in told
    assert "(4 rows)" in told  # the outline is no method


def test_fills_are_what_they_say() -> None:
    pictures = torch.rand(3, 1, 16, 20)
    found = {name: make(pictures) for name, make in _fills(0.1).items()}
    assert found["mean"].shape == pictures.shape
    assert torch.allclose(found["mean"][1], pictures[1].mean())
    assert torch.equal(found["blurred"], blurred(pictures, 0.1))
    assert found["blurred"].std() < pictures.std()
    even = torch.full((1, 1, 16, 16), 0.5)
    for make in _fills(0.1).values():
        assert torch.allclose(make(even), even)
