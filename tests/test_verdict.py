"""The page's verdict: sentences from the figures and tests of the tables, and from nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import test_uncertainty
from tests.test_layouts import RANKED, ranked
from tests.test_report import EVERYTHING, a_run, keep, occlude
from vinet_bench.report import tables
from vinet_bench.report.layout import MASKED, Figure
from vinet_bench.report.page.words import verdict
from vinet_bench.stored_run import read_run


def said(folder: Path, start: str) -> str:
    """The one sentence that begins so; the audit's stands last, and is there always."""
    words = verdict(tables(read_run(folder)))
    assert words[-1].startswith("The audit of ")
    return next((sentence for sentence in words if sentence.startswith(start)), "")


def test_what_is_reserved_is_held_against_whole_pictures_and_bare_masks(tmp_path: Path) -> None:
    assert said(a_run(tmp_path, EVERYTHING), "A network") == (
        "A network trained and tested on what VINet reserves (2.38 % of the pixels) reaches an"
        " accuracy of 82.15 %; on whole pictures 82.57 %, and on the shape of VINet's masks alone"
        " 53.00 %."
    )


def test_without_whole_pictures_nothing_is_held_against_them(tmp_path: Path) -> None:
    alone = [keep("vinet", fraction_kept=0.02375, accuracy=0.82146)]
    assert said(a_run(tmp_path, alone), "A network") == ""


def test_occlusion_is_judged_at_equal_budget_where_a_control_is_ahead(tmp_path: Path) -> None:
    """CAM is ahead at the budget of its own map, which no control has."""
    filled = [*EVERYTHING, occlude("cam", "equal", probability_drop=-0.05)]
    assert said(a_run(tmp_path, filled), "Occlusion") == (
        "Occlusion (Drop at equal budget): VINet with -1.2 % is best; the best control is"
        " Random with 2.0 %, which no method beats."
    )


@pytest.mark.parametrize(
    ("shared", "words"), [(0.8, "cannot be told"), (0.3, "differs (p < 0.001)")]
)
def test_vinet_is_told_from_the_best_row_by_the_tables_own_test(
    tmp_path: Path, shared: float, words: str
) -> None:
    best, rest = test_uncertainty.hits(0.8, 0), test_uncertainty.hits(shared, 1)
    if shared == 0.8:
        rest = best.copy()
        rest[best.argmax()] = 0  # one picture apart
    folder = test_uncertainty.a_run(tmp_path, {("lrp", 0): best, ("vinet", 0): rest})
    sentence = said(folder, "Keep-important")
    assert sentence.startswith("Keep-important (Accuracy): LRP with ")
    assert f"is best; VINet with {100 * rest.mean():.2f} % [" in sentence
    assert words in sentence


def _judged(tmp_path: Path, judged_by: str, **figures: Any) -> str:
    tested = tuple(
        Figure(key, key, key.title(), kinds=MASKED, interval=True, better="high")
        for key in ("one", "other")
    )
    layout = replace(RANKED, figures=tested, judged_by=judged_by)
    return next(
        words
        for words in verdict({"ranked": ranked(tmp_path, figures, layout)})
        if words.startswith("Ranked")
    )


@pytest.mark.parametrize(
    ("judged_by", "best"),
    [("", "(One): CAM with 90.00 %"), ("other", "(Other): VINet with 80.00 %")],
)
def test_a_table_says_by_which_figure_it_is_judged(
    tmp_path: Path, judged_by: str, best: str
) -> None:
    assert best in _judged(tmp_path, judged_by, vinet=(0.1, 0.8), cam=(0.9, 0.2))


def test_a_table_without_that_figure_is_judged_by_its_first(tmp_path: Path) -> None:
    """Pictures without outlines have no mass."""
    nothing = float("nan")
    sentence = _judged(tmp_path, "other", vinet=(0.1, nothing), cam=(0.9, nothing))
    assert "(One): CAM with 90.00 %" in sentence
