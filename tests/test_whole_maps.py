"""Protocols that train nothing: their tables, and that neither batch nor order matters."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocols import PROTOCOLS
from protocols.robustness import SHIFTS
from tests.tables import read_lines
from vinet_bench.machine import Examples, Machine
from vinet_bench.methods import method
from vinet_bench.metrics import curve_areas
from vinet_bench.plan import Plan, make_plan
from vinet_bench.protocols import protocol
from vinet_bench.records import Cell, Record
from vinet_bench.report import write_report
from vinet_bench.run import run
from vinet_bench.stored_run import Run, read_run
from vinet_bench.training import Fit
from vinet_bench.workshop import Workshop

NAMES = ("deletion", "road", "faithfulness", "complexity", "robustness")
METHODS = ("vinet", "cam", "ig", "random", "centre", "outline")
TIMED = "maps_a_second"


@pytest.fixture(scope="module", autouse=True)
def untrained() -> Iterator[list[str]]:
    """Networks stay as they were made: nothing here needs them to know anything."""
    given: list[str] = []

    def left(model: Any, *rest: Any) -> Fit:
        given.append(type(model).__name__)
        return Fit((1.0,), (1.0,), 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vinet_bench.trained.fit", left)
        yield given


def plan_of(*methods: str, changes: tuple[str, ...] = ()) -> Plan:
    return make_plan(
        preset="smoke", methods=list(methods or METHODS), changes=["phantom.slices=60", *changes]
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, untrained: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run(NAMES, plan_of(), folder, "cpu").failed == ()
    assert len(untrained) == 3  # VINet, VGG-16 and ResNet-18, once for all five protocols
    return folder


def scores(found: Run, name: str, how: str) -> dict[str, NDArray[Any]]:
    return found.scores(Cell(name, how, 0, budget="everything"))


@pytest.fixture(scope="module")
def report(done: Path) -> Path:
    write_report(done)
    return done


# -- tables


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_every_figure(name: str, report: Path) -> None:
    table, layout = read_lines(report, name), protocol(name).layout  # type: ignore[attr-defined]
    kinds = {how: method(how).info.kind for how in METHODS}
    wanted = {how for how, kind in kinds.items() if any(kind in f.kinds for f in layout.figures)}
    assert set(table) == wanted
    for how in wanted:
        for figure in layout.figures:
            assert (table[how][figure.key] != "") == (kinds[how] in figure.kinds), figure.key


def test_a_table_of_whole_maps_speaks_of_no_threshold(report: Path) -> None:
    for name in NAMES:
        words = (report / f"{name}.md").read_text(encoding="utf-8")
        assert "Threshold T" not in words
        assert "Equal budget" not in words
        assert "fewer seeds" not in words


def test_none_of_them_is_part_of_run_all() -> None:
    assert not any(PROTOCOLS[name]().info.in_all for name in NAMES)


# -- invariance


def records_of(folder: Path) -> dict[tuple[Cell, str], Record]:
    return {(r.cell, r.metric): r for r in read_run(folder).records if r.metric != TIMED}


@pytest.mark.slow
def test_no_figure_depends_on_the_size_of_batches(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The maps are those of the other run: how they are made is the methods' own contract."""
    (tmp_path / "artefacts").mkdir()
    for kept in ("networks", "fits", "maps"):
        (tmp_path / "artefacts" / kept).symlink_to(done / "artefacts" / kept)
    monkeypatch.setattr("vinet_bench.prediction.EVALUATION_BATCH", 3)
    monkeypatch.setattr("vinet_bench.workshop.EXPLAIN_BATCH", 3)
    monkeypatch.setattr("vinet_bench.imputation._FEW", 2)
    assert run(NAMES, plan_of(), tmp_path, "cpu").failed == ()
    before, after = records_of(done), records_of(tmp_path)
    assert before.keys() == after.keys()
    assert len(before) > 100
    for place, record in before.items():
        assert after[place].value == pytest.approx(record.value, abs=2e-3, nan_ok=True), place


# -- deletion and ROAD


class Reading:
    """A workshop whose original network reads nothing but the evidence: the probability of class 0
    is the share of the evidence's pixels that are as they were."""

    def __init__(self, shuffle: bool = False) -> None:
        rng = np.random.default_rng(0)
        images = torch.from_numpy(rng.random((6, 1, 12, 12)).astype(np.float32)) * 0.5 + 0.5
        self.evidence = torch.zeros(6, 12, 12)
        for i, mask in enumerate(self.evidence):
            mask[i : i + 4, 3:7] = 1
        noise = torch.from_numpy(rng.random((6, 12, 12)).astype(np.float32))
        order = torch.arange(6).flip(0) if shuffle else torch.arange(6)
        self.images, self.evidence, noise = images[order], self.evidence[order], noise[order]
        self.all_maps = {"outline": self.evidence, "random": noise, "centre": -self.evidence}
        settings = plan_of().settings
        evaluation = settings.evaluation.model_copy(update={"steps": 36})
        self.settings = settings.model_copy(update={"evaluation": evaluation})
        self.machine = Machine(torch.device("cpu"), bfloat16=False)
        self.kept: dict[str, NDArray[Any]] = {}

    def examples(self, part: str) -> Examples:
        return Examples(self.images, torch.zeros(len(self.images), dtype=torch.int64))

    def tested(self, name: str) -> NDArray[np.bool_]:
        return np.ones(len(self.images), np.bool_)

    def part(self, name: str) -> Any:
        class _Part(SimpleNamespace):
            def __len__(self) -> int:
                return 6

        return _Part(labels=np.zeros(6, np.int64))

    def living(self, name: str, seed: int, part: str) -> Tensor:
        return self.all_maps[name]

    def predict_original(self, seed: int, images: Tensor) -> NDArray[np.float32]:
        left = ((images - self.images).abs() < 1e-6)[:, 0] * self.evidence
        share = left.sum(dim=(1, 2)) / self.evidence.sum(dim=(1, 2))
        return torch.stack([share, 1 - share], dim=1).numpy()

    def original_probabilities(self, seed: int) -> NDArray[np.float32]:
        return self.predict_original(seed, self.images)

    def keep_scores(self, cell: Cell, arrays: dict[str, NDArray[Any]]) -> None:
        self.kept = dict(arrays)


def read(name: str, how: str, shop: Reading | None = None) -> dict[str, NDArray[Any]]:
    shop = shop or Reading()
    list(protocol(name).run(Cell(name, how, 0, budget="everything"), cast(Workshop, shop)))
    return shop.kept


def test_the_outline_is_best_its_opposite_worst_and_random_between() -> None:
    for name, gap in (("deletion", "gap_air"), ("deletion", "gap_blur"), ("road", "gap")):
        outline, random, opposite = (
            read(name, how)[gap].mean() for how in ("outline", "random", "centre")
        )
        assert outline > 0.2, name
        assert opposite < -0.2, name
        assert abs(random) < 0.1, name


def test_deletion_and_insertion_by_hand() -> None:
    """16 of 144 pixels are evidence: they go in the first 4 of 36 steps, or in the last 4."""
    found = read("deletion", "outline")
    steps = np.arange(37)
    assert found["fractions"] == pytest.approx(steps / 36)
    np.testing.assert_allclose(found["morf_air"][:, 4:], 0, atol=1e-6)
    np.testing.assert_allclose(found["lerf_air"][:, :33], 1, atol=1e-6)
    np.testing.assert_allclose(found["morf_air"][:, 0], 1, atol=1e-6)
    np.testing.assert_allclose(found["morf_air"][:, :5], [[1, 0.75, 0.5, 0.25, 0]] * 6)
    for metric, curve in (("deletion_air", "morf_air"), ("insertion_air", "lerf_air")):
        np.testing.assert_allclose(
            found[metric], curve_areas(steps / 36, found[curve].T), atol=1e-6
        )


def test_a_random_maps_areas_are_a_half() -> None:
    found = read("deletion", "random")
    assert found["deletion_air"].mean() == pytest.approx(0.5, abs=0.08)
    assert found["insertion_air"].mean() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("name", ["deletion", "road"])
@pytest.mark.parametrize("how", ["outline", "random"])
def test_pictures_in_another_order_have_the_same_scores(name: str, how: str) -> None:
    """Ties and noise too: the outline's map is nothing but ties."""
    one, other = read(name, how), read(name, how, Reading(shuffle=True))
    for metric in one.keys() - {"fractions"}:
        np.testing.assert_allclose(one[metric], other[metric][::-1], atol=1e-6)


@pytest.mark.parametrize("change", [lambda m: 4 * m, lambda m: m.exp(), lambda m: 8 * m**3])
@pytest.mark.parametrize("name", ["deletion", "road"])
def test_only_the_order_of_a_map_counts(name: str, change: Callable[[Tensor], Tensor]) -> None:
    shop = Reading()
    wide = (100 * shop.all_maps["random"]).round() / 16  # far enough apart to stay in order
    shop.all_maps["random"] = wide
    before = read(name, "random", shop)
    shop.all_maps["random"] = change(wide)
    after = read(name, "random", shop)
    for metric, values in before.items():
        np.testing.assert_array_equal(values, after[metric])


def test_deletion_is_quantus_pixel_flipping() -> None:
    quantus = pytest.importorskip("quantus")  # brings a second OpenCV along: not in the extras
    shop = Reading()
    flipping = quantus.PixelFlipping(
        features_in_step=4, perturb_baseline=0.0, return_auc_per_sample=False,
        abs=False, normalise=False, disable_warnings=True, display_progressbar=False,
    )  # fmt: skip

    class Net(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.from_numpy(shop.predict_original(0, images))

    theirs = flipping(
        Net().eval(), shop.images.numpy(), np.zeros(6, np.int64),
        shop.all_maps["random"][:, None].numpy().astype(np.float64), softmax=False, device="cpu",
    )  # fmt: skip
    ours = read("deletion", "random", shop)["morf_air"]
    np.testing.assert_allclose(np.array(theirs), ours[:, 1:], atol=1e-5)


# -- faithfulness and robustness


def test_costly_protocols_look_at_the_same_few_pictures(done: Path) -> None:
    found = read_run(done)
    few = [
        ~np.isnan(scores(found, "faithfulness", "cam")["infidelity"]),
        ~np.isnan(scores(found, "faithfulness", "random")["sensitivity_n"]),
        ~np.isnan(scores(found, "robustness", "ig")["max_sensitivity"]),
    ]
    assert all(np.array_equal(few[0], other) for other in few)
    assert few[0].sum() == plan_of().settings.evaluation.pictures


def test_controls_are_as_robust_as_they_must_be(done: Path) -> None:
    found = read_run(done)
    centre, random = (scores(found, "robustness", how) for how in ("centre", "random"))
    assert np.nanmax(centre["max_sensitivity"]) == 0
    for name in SHIFTS:
        assert np.nanmin(centre[name]) > 0.98, name
        assert abs(np.nanmean(random[name])) < 0.1, name
    # Two independent uniform maps: sqrt(2 var) over sqrt(mean square) is sqrt(1/2), the mean of
    # each being 1/2 and the mean square 1/3; the largest of three lies a little above.
    assert np.nanmean(random["max_sensitivity"]) == pytest.approx(0.5**0.5, abs=0.04)


def test_where_the_prediction_changes_there_is_no_agreement(done: Path) -> None:
    found = read_run(done)
    for how in ("vinet", "cam"):
        stored = scores(found, "robustness", how)
        for name in SHIFTS:
            unchanged = stored[f"{name}_unchanged"]
            np.testing.assert_array_equal(np.isnan(stored[name]), ~(unchanged == 1))


def test_integrated_gradients_cost_two_passes_a_step(done: Path) -> None:
    costs = {
        r.cell.method: r.value
        for r in read_run(done).records
        if (r.cell.protocol, r.metric) == ("complexity", "cost")
    }
    assert costs["ig"] == pytest.approx(2 * 16, rel=0.02)
    assert costs["cam"] == pytest.approx(1, rel=0.02)
    assert costs.keys() == {"vinet", "cam", "ig"}
