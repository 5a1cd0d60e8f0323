"""The paper's figures from a run's folder: what stands in them, and that nothing is trained."""

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vinet_bench import cli
from vinet_bench.errors import UserError
from vinet_bench.gallery import Gallery, plan_of, process
from vinet_bench.plan import make_plan
from vinet_bench.records import Cell
from vinet_bench.report import curves, draw
from vinet_bench.report.draw import VERMILION, Case, Strip, overlay
from vinet_bench.run import run
from vinet_bench.stored_run import read_run

KINDS = ("process", "cases", "methods", "destruction", "values", "curves")


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with VINet, CAM and VINet on a single scale."""
    folder = tmp_path_factory.mktemp("runs") / "pictures"
    changes = ["phantom.slices=60", "vinet.epochs=1", "explained.epochs=1", "retrain.epochs=1"]
    for names, rows in (
        (["occlusion", "deletion", "road"], None),
        (["destruction"], ["multi", "single"]),
    ):
        plan = make_plan(
            preset="smoke", methods=["vinet", "cam", "random"], changes=changes, rows=rows
        )
        assert run(names, plan, folder, "cpu").failed == ()
    return folder


@pytest.fixture(autouse=True)
def nothing_is_made(monkeypatch: pytest.MonkeyPatch, done: Path) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("a figure trains or explains nothing")

    monkeypatch.setattr("vinet_bench.trained.fit", refuse)
    monkeypatch.setattr("vinet_bench.workshop.Workshop._explain", refuse)


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["vinet-bench", "figure", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize("kind", KINDS)
def test_each_figure_is_a_png_and_a_pdf(
    kind: str, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = sorted(done.rglob("*.safetensors"))
    assert command(monkeypatch, kind, str(done), "--out", str(tmp_path / "a")) == 0
    png, pdf = (tmp_path / "a" / f"figure-{kind}.{ending}" for ending in ("png", "pdf"))
    out, err = capsys.readouterr()
    assert (out.splitlines(), err) == ([str(png), str(pdf)], "")
    with Image.open(png) as picture:
        assert picture.width > 900  # 3 inches at 300 dpi
        assert np.asarray(picture.convert("L")).std() > 5
    assert pdf.read_bytes().startswith(b"%PDF")
    assert sorted(done.rglob("*.safetensors")) == before
    assert command(monkeypatch, kind, str(done), "--out", str(tmp_path / "b")) == 0
    assert (tmp_path / "b" / png.name).read_bytes() == png.read_bytes()
    assert (tmp_path / "b" / pdf.name).read_bytes() == pdf.read_bytes()


def test_one_slice_of_each_class_is_drawn_by_the_seed(done: Path) -> None:
    drawn = []
    for seed in range(4):
        gallery = Gallery(done, [], seed)
        drawn.append([case.title for case in gallery.cases()])
        gallery.close()
        assert [title[-1] for title in drawn[-1]] == list("12345")
    assert len({tuple(titles) for titles in drawn}) > 1


def test_named_slices_come_with_their_own_maps(done: Path) -> None:
    gallery = Gallery(done, [], 0)
    names = [case.title.split(",")[0] for case in gallery.cases()]
    maps, cases = gallery.vinet().maps, gallery.cases()
    strips, lacking = gallery.methods()
    gallery.close()
    backwards = Gallery(done, names[::-1], 0)
    assert np.array_equal(backwards.vinet().maps, maps[::-1])
    assert np.array_equal(backwards.cases()[0].image, cases[-1].image)
    backwards.close()
    assert [strip.title for strip in strips] == ["VINet", "CAM"]
    assert lacking == []
    assert np.array_equal(strips[0].maps, maps)  # M is in [0, 1] as it is
    assert strips[1].maps.min() >= 0
    assert strips[1].maps.max() <= 1


def test_multi_and_single_scale_are_two_vinets(done: Path) -> None:
    gallery = Gallery(done, [], 0)
    multi, single = gallery.scales()
    assert np.array_equal(multi.maps, gallery.vinet().maps)
    assert not np.allclose(multi.maps, single.maps)
    gallery.close()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cases", "--cases", "nobody"], "unknown slice of the test part 'nobody'"),
        (["methods", "--out", "/proc/no"], "cannot write"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    words: list[str], told: str, done: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert command(monkeypatch, words[0], str(done), *words[1:]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"preset": None},
        {"preset": 3},
        {"settings": {"vinet": {"alpha": "x"}}},
        {"source": {"preset": "smoke"}},
        {"source": {"data": 7}},
    ],
    ids=str,
)
def test_a_plan_that_nobody_wrote_is_one_line(done: Path, change: dict[str, Any]) -> None:
    told = read_run(done).plan
    assert plan_of(told).preset == "smoke"
    strange = {key: value for key, value in (told | change).items() if value is not None}
    with pytest.raises(UserError, match="run the same command again"):
        plan_of(strange)


def test_what_an_earlier_version_noted_of_its_methods_is_left_out(done: Path) -> None:
    told = read_run(done).plan
    earlier = told | {"source": told["source"] | {"methods_given": True}}
    assert plan_of(earlier) == plan_of(told)


def test_a_run_without_the_maps_says_what_to_run(tmp_path: Path) -> None:
    plan = make_plan(preset="smoke", methods=[], changes=["phantom.slices=60", "retrain.epochs=1"])
    folder = tmp_path / "bare"
    outcome = run(["occlusion"], plan, folder, "cpu")
    assert outcome.made == 2  # the original fails here: nothing may be trained
    gallery = Gallery(folder, [], 0)
    for ask, told in ((gallery.vinet, "run all"), (gallery.scales, "run destruction")):
        with pytest.raises(UserError, match=told):
            ask()
    gallery.close()


def test_a_curve_is_the_mean_of_the_stored_ones(done: Path) -> None:
    found = read_run(done)
    drawn = curves(found)
    assert len(drawn) == 3 * 2 * 3  # methods, orders, what pixels become
    cam = [c for c in drawn if c.title == "CAM" and c.first == "least relevant first"]
    stored = found.scores(Cell("deletion", "cam", 0, budget="everything"))
    np.testing.assert_allclose(cam[0].heights, stored["lerf_air"].mean(axis=0))
    np.testing.assert_allclose(cam[0].fractions, stored["fractions"])
    assert [c.filled for c in cam] == ["air", "the blurred picture", "neighbours (ROAD)"]


def test_a_curve_leaves_out_what_a_costly_method_did_not_explain(done: Path) -> None:
    found = read_run(done)
    stored = found.scores(Cell("deletion", "cam", 0, budget="everything"))
    stored["gap_air"][2:] = np.nan  # read once, so that the curves are made from these
    cam = next(c for c in curves(found) if c.title == "CAM")
    np.testing.assert_allclose(cam.heights, stored["morf_air"][:2].mean(axis=0))


def test_without_curves_the_command_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(preset="smoke", methods=[], changes=["phantom.slices=60"])
    run(["occlusion"], plan, tmp_path, "cpu")  # only the majority's row comes through
    assert command(monkeypatch, "curves", str(tmp_path)) == 2
    assert "run deletion" in capsys.readouterr().err


def test_changed_data_are_not_drawn(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = read_run(done)
    told.plan["data"]["fingerprint"] = "another"
    monkeypatch.setattr("vinet_bench.gallery.read_run", lambda folder: told)
    with pytest.raises(UserError, match="phantom has changed since the run"):
        Gallery(done, [], 0)


# ---- by hand


def test_the_steps_add_up() -> None:
    image = np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)
    m = np.array([[1.0, 0.0], [0.5, 0.25]], dtype=np.float32)
    steps = process(image, m, torch.Generator().manual_seed(0))
    assert steps["normalised"].ravel().tolist() == pytest.approx([0, 1, 0.5, 0.5])
    assert steps["kept"].ravel().tolist() == pytest.approx([0, 0, 0.25, 0.125])
    np.testing.assert_allclose(steps["filled"], steps["noise"] * (1 - m), atol=1e-6)
    np.testing.assert_allclose(
        steps["destroyed"], 0.25 + 0.5 * (steps["kept"] + steps["filled"]), atol=1e-6
    )
    assert steps["destroyed"][0, 0] == image[0, 0]


def test_the_overlay_is_red_where_the_map_is_high() -> None:
    mixed = overlay(np.array([[0.4, 0.4]]), np.array([[0.0, 1.0]]))
    assert mixed[0, 0].tolist() == [0.4, 0.4, 0.4]
    np.testing.assert_allclose(mixed[0, 1], 0.3 * 0.4 + 0.7 * VERMILION)


def test_evidence_is_outlined_where_it_is_known() -> None:
    evidence = np.zeros((8, 8), dtype=np.bool_)
    evidence[:3, :3] = True  # at the border: its line is closed all the same
    known = Case("a, class 1", np.zeros((8, 8)), evidence)
    unknown = Case("b, class 2", np.zeros((8, 8)))
    figure = draw.strips_figure([known, unknown], [Strip("VINet", np.zeros((2, 8, 8)))])
    lines = [len(ax.collections) for ax in figure.axes[:4]]
    assert lines == [1, 0, 1, 0]


def test_doctests() -> None:
    assert doctest.testmod(draw).failed == 0
