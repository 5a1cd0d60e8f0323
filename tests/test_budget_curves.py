"""Budget curves: exact budgets, one mask network for both curves, and what is counted before."""

from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc
from torch import Tensor, nn

import baselines
from protocols.budget_curves import PERCENTS, _shown
from tests.tables import lines
from vinet_bench import cli
from vinet_bench.data import load_data
from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.splits import split_slices
from vinet_bench.errors import CellError, UserError
from vinet_bench.forecast import forecast, told
from vinet_bench.machine import Machine
from vinet_bench.methods import MethodInfo
from vinet_bench.metrics import curve_areas
from vinet_bench.plan import Plan, make_plan
from vinet_bench.progress import Silent
from vinet_bench.records import Cell
from vinet_bench.run import run
from vinet_bench.seeds import picture_hash
from vinet_bench.settings import Curves
from vinet_bench.store import Store
from vinet_bench.training import Fit, fit
from vinet_bench.workshop import Workshop

CHANGES = (
    "phantom.slices=60", "retrain.epochs=1", "vinet.epochs=1", "explained.epochs=1",
    "control_budget=0.3",
)  # fmt: skip


def plan_of(*methods: str, changes: tuple[str, ...] = (), seeds: int = 1) -> Plan:
    every = [*CHANGES, *changes]
    # At this threshold the barely trained VINet does not reserve everything.
    return make_plan(
        preset="smoke", methods=list(methods), changes=every, seeds=seeds, threshold=0.3
    )


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The networks that the training loop was given."""
    given: list[str] = []

    def counted(model: Any, *rest: Any) -> Any:
        given.append(type(model).__name__)
        return fit(model, *rest)

    monkeypatch.setattr("vinet_bench.trained.fit", counted)
    return given


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same; the networks stay as they were made, for who counts them alone."""
    given: list[str] = []

    def left(model: Any, *rest: Any) -> Fit:
        given.append(type(model).__name__)
        return Fit((1.0,), (1.0,), 1)

    monkeypatch.setattr("vinet_bench.trained.fit", left)
    return given


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    plan = plan_of("random")
    data = load_data(plan)
    split = split_slices(data, 1 / 6, 1 / 3, 0, "patient")
    store = Store(tmp_path / "shop")
    return Workshop(plan, data, split, store, Machine(torch.device("cpu"), False), Silent())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_the_area_is_scikit_learns_over_the_width(seed: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    places = sorted(rng.choice(PERCENTS, points, replace=False).tolist())
    scores = rng.random((points, 4))
    found = curve_areas(places, scores)
    expected = [auc(places, scores[:, i]) / (places[-1] - places[0]) for i in range(4)]
    assert found == pytest.approx(expected)
    assert (found <= scores.max(axis=0) + 1e-12).all()
    assert (found >= scores.min(axis=0) - 1e-12).all()


def test_budgets_are_exact_and_nested(shop: Workshop) -> None:
    masks = [shop.highest("random", 0, "test", k) for k in (1, 20, 102, 307)]
    for mask, k in zip(masks, (1, 20, 102, 307), strict=True):
        assert set(mask.sum(dim=(1, 2)).tolist()) == {k}
    for fewer, more in pairwise(masks):
        assert (fewer <= more).all()


def test_ties_do_not_change_the_budget(shop: Workshop) -> None:
    masks = shop.highest("outline", 0, "test", 500)  # more than any nodule has
    assert set(masks.sum(dim=(1, 2)).tolist()) == {500}


class Who:
    """Each map holds the number of the network that it is of, in the order of `fit`."""

    info: ClassVar[MethodInfo] = MethodInfo("who", "Who", "none")
    fitted: ClassVar[list[nn.Module]] = []

    def fit(self, model: nn.Module, data: SliceDataset) -> Self:
        self.fitted.append(model)
        return self

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        return torch.full((len(images), *images.shape[-2:]), float(len(self.fitted) - 1))


def test_what_is_kept_and_what_is_removed_make_the_picture(shop: Workshop) -> None:
    found = dict(_shown(Cell("budget-curves", "random", 0), shop, 30))
    for part in PARTS:
        whole = shop.examples(part)
        kept, removed = found["kar"][part], found["roar"][part]
        assert torch.equal(kept.images + removed.images, whole.images)
        assert not (kept.images * removed.images).any()
        assert torch.equal(kept.labels, whole.labels)
        assert set(found["masks"][part].images.flatten().tolist()) == {0, 255}


def test_as_many_trainings_as_were_foretold(tmp_path: Path, untrained: list[str]) -> None:
    plan, folder = plan_of("cam", "random", seeds=2), tmp_path / "run"
    found = forecast(["budget-curves"], plan, folder, "cpu")
    assert (untrained, folder.exists()) == ([], False)
    assert found.cells == 2 * 4
    # Per seed two methods at two budgets, three networks each, and Original.
    assert found.trainings == {"resnet18": 2 * (2 * 2 * 3 + 1), "classifier": 2}
    assert found.hours == pytest.approx(
        (26 * found.seconds["resnet18"] + 2 * found.seconds["classifier"]) / 3600
    )
    outcome = run(["budget-curves"], plan, folder, "cpu")
    assert outcome.failed == ()
    assert (untrained.count("ResNet"), untrained.count("VGGGAP"), len(untrained)) == (26, 2, 28)
    done = forecast(["budget-curves"], plan, folder, "cpu")
    assert (done.cells, done.trainings, done.hours) == (0, {}, 0)


@pytest.mark.parametrize("name", ["keep-important", "occlusion", "policies", "localisation"])
def test_other_protocols_are_counted_too(tmp_path: Path, untrained: list[str], name: str) -> None:
    plan = plan_of("vinet", "random", changes=("control_budget=vinet",))
    found = forecast([name], plan, tmp_path / "run", "cpu")
    assert not found.uncounted
    run([name], plan, tmp_path / "run", "cpu")
    assert len(untrained) == sum(found.trainings.values()) > 0


def test_who_does_not_say_is_named(tmp_path: Path) -> None:
    found = forecast(["destruction"], plan_of("vinet"), tmp_path / "run", "cpu")
    assert found.trainings == {}
    assert told(found)[-1].startswith("destruction is not counted: 12 VINets")


def test_the_table_has_every_budget_and_agrees_with_table_i(
    tmp_path: Path, fits: list[str]
) -> None:
    plan, folder = plan_of("random", "edges"), tmp_path / "run"
    assert run(["keep-important"], plan, folder, "cpu").failed == ()
    before = len(fits)
    assert run(["budget-curves"], plan, folder, "cpu").failed == ()
    # 30 % is Table I's budget here: its networks of pictures and of masks are there already.
    assert len(fits) - before == 2 * (2 * 3 - 2)
    curves, table = lines(folder, "budget-curves"), lines(folder, "table1")
    assert list(curves) == ["original", "majority", "random", "edges"]
    assert curves["original"]["accuracy"] == table["original"]["accuracy"]
    for name in ("random", "edges"):
        row = curves[name]
        assert row["kar_30"] == table[name]["accuracy"]
        assert row["masks_30"] == table[name]["masks_accuracy"]
        mean = (float(row["roar_2"]) + float(row["roar_30"])) / 2
        assert float(row["roar_area"]) == pytest.approx(mean, abs=1e-5)
        assert row["kar_10"] == ""


def test_one_budget_has_no_area(tmp_path: Path) -> None:
    plan, folder = plan_of("random", changes=("curves.percents=30",)), tmp_path / "run"
    assert run(["budget-curves"], plan, folder, "cpu").failed == ()
    row = lines(folder, "budget-curves")["random"]
    assert (row["kar_area"], row["error"]) == ("", "")
    assert 0 <= float(row["kar_30"]) <= 1


def test_percents_are_read_in_any_order_and_once() -> None:
    changed = plan_of("random", changes=("curves.percents=30, 2,30",))
    assert changed.settings.curves == Curves(percents=(2, 30))


@pytest.mark.parametrize("value", ["3", "2,x", "", "0.1"])
def test_other_percents_are_named(value: str) -> None:
    with pytest.raises(UserError, match=r"--set curves.percents=.*should be 1, 2, 5, 10"):
        plan_of("random", changes=(f"curves.percents={value}",))


def test_a_dry_run_prints_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [word for change in CHANGES for word in ("--set", change)]
    words = ["run", "budget-curves", "--dry-run", "--preset", "smoke", "--methods", "saliency"]
    monkeypatch.setattr(
        "sys.argv",
        ["vinet-bench", *words, "--cross-fit", "2", "--out", str(tmp_path / "x"), *changes],
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "3 cells to make" in printed
    assert "7 ResNet-18 to train" in printed
    assert "3 explained classifier to train" in printed  # the usual one, and one a fold
    assert "at most 10 trainings" in printed
    assert not (tmp_path / "x").exists()


# ---- cross-fitted maps


def test_no_network_explains_what_it_was_trained_on(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def watched(model: Any, task: Any, train: Any, *rest: Any) -> Any:
        seen.append({picture_hash(image) for image in train.images})
        return fit(model, task, train, *rest)

    monkeypatch.setattr("vinet_bench.trained.fit", watched)
    monkeypatch.setitem(baselines.METHODS, "who", Who)
    monkeypatch.setattr(Who, "fitted", [])
    maps = shop.cross_fitted(3).maps("who", 0, "train")
    assert len(seen) == 3
    train = shop.examples("train").images
    for image, number in zip(train, maps[:, 0, 0].int().tolist(), strict=True):
        assert picture_hash(image) not in seen[number]
    for number in range(3):  # each from the two other folds
        assert 0 < len(seen[number]) < len(train)
    patients = shop.part("train").patients
    for patient in np.unique(patients):
        assert len(set(maps[torch.from_numpy(patients == patient), 0, 0].tolist())) == 1


def test_test_maps_and_controls_know_no_folds(shop: Workshop) -> None:
    other = shop.cross_fitted(2)
    assert torch.equal(other.maps("saliency", 0, "test"), shop.maps("saliency", 0, "test"))
    assert torch.equal(other.maps("random", 0, "train"), shop.maps("random", 0, "train"))
    assert not torch.equal(other.maps("saliency", 0, "train"), shop.maps("saliency", 0, "train"))


def test_folds_are_counted_and_told(tmp_path: Path, untrained: list[str]) -> None:
    plan, folder = plan_of("saliency", changes=("curves.cross_fit=2",)), tmp_path / "run"
    found = forecast(["budget-curves"], plan, folder, "cpu")
    assert found.trainings == {"resnet18": 7, "classifier": 3}
    assert run(["budget-curves"], plan, folder, "cpu").failed == ()
    assert (untrained.count("ResNet"), untrained.count("VGGGAP")) == (7, 3)
    assert float(lines(folder, "budget-curves")["saliency"]["folds"]) == 2


@pytest.mark.parametrize("folds", [100, 10])
def test_more_folds_than_patients_or_than_any_class_has_is_a_reason(
    shop: Workshop, folds: int
) -> None:
    train = shop.part("train")
    assert np.bincount(train.labels).max() < 10 < len(np.unique(train.patients)) < 100
    with pytest.raises(CellError, match=f"{folds} folds need as many training patients"):
        shop.cross_fitted(folds).maps("saliency", 0, "train")


def test_one_fold_is_refused() -> None:
    with pytest.raises(UserError, match="one fold leaves nothing to train on"):
        plan_of("random", changes=("curves.cross_fit=1",))
