"""Costly methods explain a few test pictures, the same for all of them, and the tables say so."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.test_report import noted
from vinet_bench.plan import Plan, make_plan
from vinet_bench.report import tables
from vinet_bench.run import run
from vinet_bench.stored_run import Run, read_run

FEW = 7
CHANGES = (
    "phantom.slices=60", "explained.epochs=1", "retrain.epochs=1", "control_budget=0.1",
    f"costly_pictures={FEW}",
)  # fmt: skip


def plan_of(given: bool) -> Plan:
    names = ("saliency", "occlusion", "scorecam")
    plan = make_plan(preset="smoke", methods=list(names), changes=list(CHANGES))
    return plan if given else plan.model_copy(update={"named": ()})


def test_one_that_is_named_beside_all_is_named() -> None:
    plan = make_plan(preset="smoke", methods=["all", "rise"])
    assert plan.named == ("rise",)
    assert "rise" in plan.retrained()
    assert "scorecam" in plan.methods
    assert "scorecam" not in plan.retrained()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("costly")
    outcome = run(["keep-important", "occlusion"], plan_of(given=False), folder, "cpu")
    assert outcome.failed == ()
    return read_run(folder)


def explained_pictures(run: Run, method: str) -> set[int]:
    cells = [c for c in run.keys if (c.protocol, c.method) == ("occlusion", method)]
    places = [np.flatnonzero(np.isfinite(run.scores(c)["accuracy"])).tolist() for c in cells]
    assert all(found == places[0] for found in places)  # at both budgets the same
    return set(places[0])


def test_they_share_the_pictures(done: Run) -> None:
    assert len(explained_pictures(done, "occlusion")) == FEW
    assert explained_pictures(done, "occlusion") == explained_pictures(done, "scorecam")
    assert len(explained_pictures(done, "saliency")) == 20


def test_one_that_is_named_later_explains_every_picture(done: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(done.folder, tmp_path / "run")
    assert run(["occlusion"], plan_of(given=True), folder, "cpu").made == 4
    assert len(explained_pictures(read_run(folder), "scorecam")) == 20
    assert run(["occlusion"], plan_of(given=False), folder, "cpu").made == 0
    assert len(explained_pictures(read_run(folder), "scorecam")) == FEW


def test_figures_are_of_those_pictures_alone(done: Run) -> None:
    for record in done.records:
        if (record.cell.method, record.metric) == ("scorecam", "accuracy"):
            scores = done.scores(record.cell)["accuracy"]
            assert record.n == FEW
            assert record.value == pytest.approx(np.nanmean(scores))


def test_the_tables_say_so(done: Run) -> None:
    first, second = (tables(done)[name] for name in ("table1", "table2"))
    assert noted(first, "Costly, and so left out").endswith(": Score-CAM, Occlusion map.")
    assert noted(second, "Costly, and so of 7 of the 20 test pictures").endswith(
        ": Score-CAM, Occlusion map."
    )


def test_named_they_explain_every_picture(tmp_path: Path) -> None:
    plan = plan_of(given=True).model_copy(update={"methods": ("occlusion",)})
    assert run(["occlusion"], plan, tmp_path, "cpu").failed == ()
    assert len(explained_pictures(read_run(tmp_path), "occlusion")) == 20
