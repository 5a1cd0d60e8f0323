"""Tables of VINets: networks exchanged (Tables III, IV), destruction changed (Fig. 6)."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from protocols import PROTOCOLS
from protocols.destruction import VARIANTS, Destruction
from tests.tables import lines
from vinet_bench import networks
from vinet_bench.contracts import example_workshop
from vinet_bench.errors import UserError
from vinet_bench.networks import importance
from vinet_bench.plan import Plan, make_plan
from vinet_bench.protocols import OwnRows, protocol
from vinet_bench.records import Cell
from vinet_bench.report import tables, value_shares, write_report
from vinet_bench.report.layout import BINS
from vinet_bench.run import run
from vinet_bench.stored_run import read_run
from vinet_bench.training import Fit, fit
from vinet_bench.vinet import VINet

CHANGES = (
    "phantom.slices=60", "vinet.epochs=1", "explained.epochs=1", "retrain.epochs=1",
)  # fmt: skip


UNTRAINED = Fit((1.0,), (1.0,), 1)


def plan_of(
    *rows: str, changes: tuple[str, ...] = (), seeds: int = 1, methods: tuple[str, ...] = ("vinet",)
) -> Plan:
    return make_plan(
        preset="smoke", methods=list(methods), seeds=seeds, rows=list(rows) or None, threshold=0.3,
        changes=[*CHANGES, *changes],
    )  # fmt: skip


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the networks that the training loop was given; they are left as they are."""
    given: list[str] = []

    def counted(model: Any, *rest: Any) -> Fit:
        given.append(type(model).__name__)
        return UNTRAINED

    monkeypatch.setattr("vinet_bench.trained.fit", counted)
    return given


# ---- cells


def test_keys_of_tables_one_and_two_know_nothing_of_variants() -> None:
    assert "variant" not in Cell("occlusion", "cam", 0).identity()
    assert Cell("classifiers", "vinet", 0, variant="a+b").identity()["variant"] == "a+b"


def test_the_papers_networks_are_the_rows_as_far_as_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of()
    for name, papers in (
        ("importance-networks", ["deeplabv3plus", "gridnet", "unet", "segnet"]),
        ("classifiers", ["seresnet50", "densenet121", "resnet50", "vgg19"]),
    ):
        how = protocol(name)
        assert isinstance(how, OwnRows)
        known = set(how.row_names())
        titles = [row.title for row in how.rows(plan) if row.kind == "method"]
        assert titles == [n for n in papers if n in known]
    with_more = dict(networks.IMPORTANCE) | {"segnet": importance.unet}
    monkeypatch.setattr("protocols.networks.IMPORTANCE", with_more)
    how = PROTOCOLS["importance-networks"]()
    assert "segnet+resnet18" in {cell.variant for cell in how.cells(plan)}


def test_cells_carry_the_pair_that_they_train() -> None:
    how = protocol("importance-networks")
    found = list(how.cells(plan_of("unet", "smp:FPN", "resnet50", seeds=2)))
    assert [(c.variant, c.network, c.seed) for c in found[:3]] == [
        ("none+resnet18", "resnet18", 0),
        ("unet+resnet18", "resnet18", 0),
        ("smp:FPN+resnet18", "resnet18", 0),
    ]
    assert len(found) == 6
    found = list(protocol("classifiers").cells(plan_of("unet", "timm:x", "resnet50")))
    assert [c.variant for c in found] == ["unet+timm:x", "unet+resnet50"] or [
        c.variant for c in found
    ] == ["unet+resnet50", "unet+timm:x"]


def test_all_stays_the_papers_first_two_tables() -> None:
    members = [name for name, make in PROTOCOLS.items() if make().info.in_all]
    assert members == ["keep-important", "occlusion"]


def test_the_help_says_how_many_are_trained() -> None:
    different = {tuple(sorted(v.changes.items())) for v in VARIANTS.values() if v.changes}
    assert len(different) == 12
    assert Destruction.info.trainings == "12 VINets and 13 times 2 ResNet-18, a seed"


# ---- whole runs


def test_table_three(tmp_path: Path, fits: list[str]) -> None:
    first = run(["importance-networks"], plan_of("unet"), tmp_path, "cpu")
    assert (first.made, first.failed) == (2, ())
    assert sorted(fits) == ["ResNet", "VINet"]
    again = run(["importance-networks", "occlusion"], plan_of("unet"), tmp_path, "cpu")
    # The plan's own pair is the VINet of Table II; its original has another schedule than none.
    assert again.found == 2
    assert fits.count("VINet") == 1
    found = lines(tmp_path, "table3")
    assert list(found) == ["none+resnet18", "unet+resnet18"]
    alone, vinet = found.values()
    assert alone["importance_loss"] == alone["fraction_kept"] == ""
    assert 0 < float(vinet["importance_loss"]) < 1
    assert float(vinet["evidence_recall"]) > float(vinet["evidence_precision"]) > 0
    own = next(
        r.value
        for r in read_run(tmp_path).records
        if (r.cell.protocol, r.cell.method, r.metric, r.cell.budget)
        == ("occlusion", "vinet", "fraction_kept", "threshold")
    )
    assert own is not None
    assert float(vinet["fraction_kept"]) == pytest.approx(1 - own, abs=1e-6)


def test_rows_of_several_commands_stand_in_one_table(tmp_path: Path, fits: list[str]) -> None:
    run(["classifiers"], plan_of("vgg16"), tmp_path, "cpu")
    run(["occlusion"], plan_of(), tmp_path, "cpu")
    outcome = run(["classifiers"], plan_of("resnet18", seeds=2, methods=("cam",)), tmp_path, "cpu")
    assert (outcome.made, outcome.failed) == (2, ())
    made = tables(read_run(tmp_path))
    # What Table IV was asked for is nothing that Table II lacks.
    assert [row.name for row in made["table2"].rows] == ["original", "majority", "vinet"]
    assert not [note for note in made["table2"].notes if "missing" in note or "(yet)" in note]
    assert [row.title for row in made["table4"].rows] == ["VGG-16", "ResNet-18"]
    assert " [" in made["table4"].rows[1].cells[0]
    assert any("VGG-16: seed 1 missing" in note for note in made["table4"].notes)
    text = (tmp_path / "table4.md").read_text() if write_report(tmp_path) else ""
    assert "importance network U-Net" in text
    assert "DenseNet-121" in text.split("The paper's values")[1]


class Constant(torch.nn.Module):
    """An importance network with one value for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        return torch.ones_like(images) * self.level


def test_a_map_of_one_value_is_a_failed_row_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: list[str]
) -> None:
    more = dict(networks.IMPORTANCE) | {"gridnet": lambda width: Constant()}
    monkeypatch.setattr("vinet_bench.networks.IMPORTANCE", more)
    monkeypatch.setattr("protocols.networks.IMPORTANCE", more)
    outcome = run(["importance-networks"], plan_of("gridnet", "unet"), tmp_path, "cpu")
    assert len(outcome.failed) == 1
    found = lines(tmp_path, "table3")
    assert (
        "dead: its map is constant on 20 of 20 test pictures" in found["gridnet+resnet18"]["error"]
    )
    assert found["gridnet+resnet18"]["accuracy"] == ""
    assert found["unet+resnet18"]["accuracy"] != ""
    assert "| GridNet" in (tmp_path / "table3.md").read_text()
    assert "failed (1)" in (tmp_path / "table3.md").read_text()


def test_a_vinet_that_diverges_is_a_failed_row(tmp_path: Path) -> None:
    plan = plan_of("single", changes=("vinet.learning_rate=1e30", "vinet.epochs=3"))
    outcome = run(["destruction"], plan, tmp_path, "cpu")
    assert len(outcome.failed) == 1
    assert "diverged in epoch" in lines(tmp_path, "destruction")["single"]["error"]


def test_a_classifier_alone_is_built_for_the_datas_size(tmp_path: Path) -> None:
    """As the VINets' is: a transformer has as many places as pictures of that size have patches."""
    shop, name = example_workshop(tmp_path), "timm:vit_tiny_patch16_224"
    training, data = shop.settings.vinet, shop.data
    wanted = networks.build_classifier(name, data.num_classes, 0, training.width, data.size)
    found = shop._new_classifier(name, training)(0)
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in (wanted, found)]
    assert shapes[0] == shapes[1]


def test_rows_that_nobody_has_stop_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown row 'sinlge': did you mean 'single'"):
        run(["destruction"], plan_of("sinlge"), tmp_path / "run")
    with pytest.raises(UserError, match="--rows unet: occlusion has no rows"):
        run(["occlusion"], plan_of("unet"), tmp_path / "run")
    with pytest.raises(UserError, match="unknown row 'smp:FPN'"):
        run(["destruction", "classifiers"], plan_of("smp:FPN"), tmp_path / "run")
    with pytest.raises(UserError, match="unknown row 'timm:resnet18'"):  # beside the reference
        run(["importance-networks"], plan_of("timm:resnet18"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@lru_cache
def destroyed(folder: Path) -> dict[str, dict[str, str]]:
    rows = ("multi", "single", "released", "multiply", "no-noise", "minmax")

    def vinets_only(model: Any, *rest: Any) -> Fit:
        return fit(model, *rest) if isinstance(model, VINet) else UNTRAINED

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vinet_bench.trained.fit", vinets_only)
        outcome = run(["destruction"], plan_of(*rows), folder, "cpu")
    assert (outcome.made, outcome.failed) == (6, ())
    return lines(folder, "destruction")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("destruction")


def test_destruction_has_every_figure(folder: Path) -> None:
    found = destroyed(folder)
    assert list(found) == ["multi", "single", "released", "multiply", "no-noise", "minmax"]
    for line in found.values():
        for key in (
            "accuracy", "importance_loss", "fraction_kept", "kept_accuracy", "masks_accuracy",
            "occluded_accuracy", "probability_drop", "evidence_recall", "evidence_precision",
        ):  # fmt: skip
            assert -1 <= float(line[key]) <= 1, key
    losses = {name: line["importance_loss"] for name, line in found.items()}
    assert len({losses[n] for n in ("multi", "single", "released", "multiply")}) == 4
    # The same VINet and map; without noise it predicts otherwise, scaled it reserves otherwise.
    assert losses["multi"] == losses["no-noise"] == losses["minmax"]
    assert found["no-noise"]["fraction_kept"] == found["multi"]["fraction_kept"]
    assert found["minmax"]["fraction_kept"] != found["multi"]["fraction_kept"]
    assert found["no-noise"]["near_one"] == ""


def test_the_values_of_the_map_are_all_counted(folder: Path) -> None:
    destroyed(folder)
    shares = value_shares(read_run(folder))
    assert list(shares) == [
        "Multi-scale", "Single-scale", "Released code's places", "Times M, no noise",
    ]  # fmt: skip
    line = destroyed(folder)["multi"]
    for values in shares.values():
        assert len(values) == BINS
        assert np.sum(values) == pytest.approx(1)
    ends = shares["Multi-scale"]
    assert float(line["near_zero"]) == pytest.approx(sum(ends[:2]), abs=1e-3)
    assert float(line["near_one"]) == pytest.approx(sum(ends[-2:]), abs=1e-3)


def test_destruction_has_no_table_of_the_papers(folder: Path) -> None:
    destroyed(folder)
    md, tex = ((folder / f"destruction.{e}").read_text() for e in ("md", "tex"))
    assert "The paper's values" not in md
    assert "The rows after training (noise, min-max) are the plan's own VINet" in md
    assert "\\label{tab:destruction}" in tex
    assert tex.count("\\midrule") == 3  # places, claims, after training
    assert "Importance" in tex
    assert "$\\times$" in tex
