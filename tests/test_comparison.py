"""Two runs side by side: hand-worked differences, and the interval that is right for each pair."""

import csv
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.test_report import (
    EVERYTHING,
    OWN_ROWS,
    ROWS,
    cells,
    compiled,
    keep,
    needs_latex,
    noted,
    occlude,
    varied,
)
from tests.test_report import a_run as without_scores
from tests.test_uncertainty import EACH, PATIENTS, Hits, N, a_run, hits
from vinet_bench.cli import app
from vinet_bench.errors import UserError
from vinet_bench.records import Cell
from vinet_bench.report import Comparison, Sheet, compare, write_comparison
from vinet_bench.report.difference import Measured, mover
from vinet_bench.stats import clustered_intervals
from vinet_bench.store import Store
from vinet_bench.stored_run import read_run


def sheet(made: list[Comparison], key: str, table: str = "table1") -> Sheet:
    own = next(comparison for comparison in made if comparison.layout.name == table)
    return next(s for s in own.sheets if s.name == f"difference-{table}-{key}")


def interval(measured: Measured | None) -> tuple[float, float]:
    assert measured is not None
    assert measured.interval is not None
    return measured.interval


def worse(own: Hits, patients: int) -> Hits:
    """The same hits with all pictures of the first right patients wrong."""
    changed = own.copy()
    changed[np.flatnonzero(own)[: patients * EACH]] = 0
    return changed


def lines(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {(line["method"], line["figure"]): line for line in csv.DictReader(file)}


def with_content(folder: Path, picture: int, content: Any) -> Path:
    """The same run with other pixels in one picture, as their hash tells them."""
    store = Store(folder)
    facts = store.load("pictures", "facts")
    assert facts is not None
    facts["content"][picture] = facts["content"][content] if isinstance(content, int) else content
    store.save("pictures", "facts", facts)
    store.close()
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """B's VINet is wrong in six patients of a hundred more than A's, and right in no other."""
    own = hits(0.7, 0)
    a = a_run(tmp_path / "a", {("vinet", 0): own, ("cam", 0): hits(0.5, 1)})
    b = a_run(tmp_path / "b", {("vinet", 0): worse(own, 6), ("cam", 0): hits(0.5, 1)})
    return a, b


def test_the_difference_is_worked_by_hand(tmp_path: Path) -> None:
    a = without_scores(tmp_path / "a", EVERYTHING)
    changed = [keep("vinet", fraction_kept=0.03, accuracy=0.8), keep("cam", accuracy=0.7)]
    b = without_scores(tmp_path / "b", changed)
    made = compare(a, b)
    assert [comparison.name for comparison in made] == ["difference-table1"]
    accuracy, kept = sheet(made, "accuracy"), sheet(made, "fraction_kept")
    assert cells(accuracy, "vinet") == {"a": "82.15", "b": "80.00", "difference": "+2.15"}
    assert cells(accuracy, "cam")["difference"] == "0.00"
    assert cells(kept, "vinet") == {"a": "2.38", "b": "3.00", "difference": "-0.62"}
    assert "VINet, CAM" in noted(accuracy, "No interval, for want of stored scores")


def test_the_same_pictures_are_paired(pair: tuple[Path, Path]) -> None:
    shown = sheet(compare(*pair), "accuracy")
    a, b = (read_run(folder).scores for folder in pair)
    cell = Cell("keep-important", "vinet", 0)
    own, other = (scores(cell)["accuracy"].astype(float) for scores in (a, b))
    made = clustered_intervals((own - other)[None, None], PATIENTS)
    found = cells(shown, "vinet")["difference"]
    assert own.sum() - other.sum() == 6 * EACH
    assert found == f"+6.00 [{100 * made.low[0]:.2f}, {100 * made.high[0]:.2f}]*"
    assert cells(shown, "cam")["difference"] == "0.00 [0.00, 0.00]"
    assert "paired" in noted(shown, "95 % interval")
    assert "for 1 of 2 differences here and 1 of 2 in all" in noted(shown, "*:")
    assert noted(shown, "One seed")


def test_other_pictures_are_not_paired_and_less_sure(pair: tuple[Path, Path]) -> None:
    a, b = pair
    paired = compare(a, b)[0].differences[0]
    unpaired = compare(a, with_content(b, 0, np.zeros(8)))[0].differences[0]
    assert (paired.paired, unpaired.paired) == (True, False)
    assert paired.marked
    assert not unpaired.marked
    (low, high), ends = interval(paired.apart), interval(unpaired.apart)
    assert ends[1] - ends[0] > 2 * (high - low)
    assert unpaired.a
    assert unpaired.b
    expected = mover(unpaired.a.mean, interval(unpaired.a), unpaired.b.mean, interval(unpaired.b))
    assert ends == pytest.approx(expected)
    shown = sheet(compare(a, b), "accuracy")
    assert noted(shown, "95 % interval").endswith("since the test pictures are not the same.")
    assert noted(shown, "The data are the same and the test parts are not")


def test_mover_by_hand() -> None:
    low, high = mover(0.8, (0.7, 0.85), 0.6, (0.5, 0.75))
    assert low == pytest.approx(0.2 - math.sqrt(0.1**2 + 0.15**2))
    assert high == pytest.approx(0.2 + math.sqrt(0.05**2 + 0.1**2))
    assert mover(0.8, (0.7, 0.85), 0.6, (0.6, 0.6)) == pytest.approx((0.1, 0.25))


def test_a_run_and_itself_do_not_differ(pair: tuple[Path, Path]) -> None:
    a, _ = pair
    made = compare(a, a)
    assert {d.apart.mean for c in made for d in c.differences if d.apart} == {0.0}
    assert not any(d.marked for c in made for d in c.differences)
    assert noted(made[0].sheets[0], "The settings of A and B are the same.")


def test_only_seeds_of_both_are_paired_and_named(tmp_path: Path) -> None:
    own = {seed: hits(0.5 + 0.1 * seed, seed) for seed in range(3)}
    a = a_run(tmp_path / "a", {("vinet", seed): own[seed] for seed in range(3)})
    b = a_run(tmp_path / "b", {("vinet", seed): worse(own[seed], 3) for seed in (1, 2)})
    shown = sheet(compare(a, b), "accuracy")
    found = cells(shown, "vinet")
    mean = 100 * (own[1].mean() + own[2].mean()) / 2
    assert found["a"].startswith(f"{mean:.2f} [")
    assert found["difference"] == "+3.00 " + found["difference"].split(" ", 1)[1]
    assert noted(shown, "Not over all seeds of a run (A seeds 1, 2; B seeds 1, 2): VINet.")
    c = a_run(tmp_path / "c", {("vinet", 7): own[0]})
    apart = sheet(compare(a, c), "accuracy")
    assert "no seed is in both" in noted(apart, "95 % interval")
    assert cells(apart, "vinet")["b"].startswith(f"{100 * own[0].mean():.2f} [")


def test_the_paper_is_taken_as_exact(tmp_path: Path) -> None:
    own = hits(0.8, 0)
    run = a_run(tmp_path, {("vinet", 0): own, ("lrp", 0): hits(0.3, 1)})
    shown = sheet(compare(run, None), "accuracy")
    ends = clustered_intervals(own[None, None], PATIENTS)
    low, high = 100 * ends.low[0] - 82.15, 100 * ends.high[0] - 82.15
    mean = 100 * own.mean() - 82.15
    assert cells(shown, "vinet")["b"] == "82.15"
    assert cells(shown, "vinet")["difference"].rstrip("*") == f"{mean:.2f} [{low:.2f}, {high:.2f}]"
    assert cells(shown, "lrp")["difference"].endswith("*")
    assert cells(shown, "cam") == {"a": "–", "b": "78.35", "difference": "–"}
    assert "exact" in noted(shown, "95 % interval")
    assert "10.1109/TMM" in noted(shown, "B: the paper, Table I")
    assert noted(shown, "Other in A than in the preset paper: vinet.alpha = 1.0 (paper 0.25)")
    assert noted(shown, "In B alone: Original, VBP, CAM.")


def test_the_papers_networks_stand_beside_ours(tmp_path: Path) -> None:
    name = "importance-networks"
    alone = Cell(name, "vinet", 0, "everything", variant="none+seresnet50")
    filled = [
        (alone, {"accuracy": 0.8443}),
        varied(name, "unet+seresnet50", accuracy=0.8063, importance_loss=0.0485),
    ]
    made = compare(without_scores(tmp_path, filled, own_rows=OWN_ROWS), None)
    accuracy, loss = (sheet(made, key, "table3") for key in ("accuracy", "importance_loss"))
    assert cells(accuracy, "none+seresnet50")["difference"] == "+1.00"
    assert cells(loss, "unet+seresnet50")["difference"] == "+1.00"
    assert cells(loss, "gridnet") == {"a": "–", "b": "3.46", "difference": "–"}


def test_rows_of_one_run_and_failures_are_told(tmp_path: Path) -> None:
    a = without_scores(tmp_path / "a", [keep("vinet", accuracy=0.8), keep("cam", accuracy=0.7)])
    filled = [keep("vinet", accuracy=0.7), keep("random", accuracy=0.3), keep("outline", error="x")]
    b = without_scores(tmp_path / "b", [*filled, keep("majority", error="no_memory")])
    shown = sheet(compare(a, b), "accuracy")
    assert cells(shown, "cam") == {"a": "70.00", "b": "–", "difference": "–"}
    assert cells(shown, "random") == {"a": "–", "b": "30.00", "difference": "–"}
    assert cells(shown, "outline") == {"a": "–", "b": "failed", "difference": "–"}
    assert noted(shown, "In A alone: CAM.")
    assert noted(shown, "In B alone: Random.")
    assert noted(shown, "Failed in B: Outline: x")


def test_a_row_of_one_run_stands_with_its_kind(tmp_path: Path) -> None:
    fewer = [row for row in ROWS if row["name"] != "cam"]
    filled = [keep(name, accuracy=0.5) for name in ("original", "vinet", "random")]
    a = without_scores(tmp_path / "a", filled, rows=fewer)
    b = without_scores(tmp_path / "b", [*filled, keep("cam", accuracy=0.4)])
    names = [row.name for row in sheet(compare(a, b), "accuracy").rows]
    assert names == ["original", "vinet", "cam", "random"]


def test_what_differs_is_listed(tmp_path: Path) -> None:
    settings = {"vinet": {"alpha": 2.0, "width": 1.0}, "size": 64, "weights": ""}
    a = without_scores(tmp_path / "a", EVERYTHING, settings=settings)
    rows = [row | {"scaling": "none"} if row["name"] == "cam" else row for row in ROWS]
    changed: dict[str, Any] = {"vinet": {"alpha": 0.25, "width": 1.0}, "size": 64}
    b = without_scores(
        tmp_path / "b",
        EVERYTHING,
        settings=changed,
        rows=rows,
        preset="standard",
        data={"fingerprint": "other", "split_by": "slice"},
    )
    first, second = compare(a, b)[0].sheets[:2]
    assert noted(first, "Settings that differ").endswith(
        "(A | B): preset: quick | standard; vinet.alpha: 2 | 0.25; CAM scaling: minmax | none."
    )
    assert noted(first, "The data of A and B are not the same")
    assert noted(first, "A: a, data phantom (fingerprint abc123, 600 test pictures), preset quick,")
    assert [warning[:20] for warning in first.warnings] == ["B: split by slice: s"]
    assert noted(second, f"What A and B are, and what differs between them: see {first.title}")


def test_what_an_audit_calls_broken_stands_beside_the_difference(pair: tuple[Path, Path]) -> None:
    a, b = pair
    assert compare(a, b)[0].sheets[0].audit == []
    made = compare(a, with_content(b, N, 0))  # a picture to train with is the first test picture
    (found,) = made[0].sheets[0].audit
    assert (found.topic, found.verdict) == ("B, identical pictures", "broken")
    assert made[0].differences[0].paired


def test_nothing_in_common_is_said(tmp_path: Path) -> None:
    a = without_scores(tmp_path / "a", [keep("vinet", accuracy=0.8)])
    b = without_scores(tmp_path / "b", [occlude("vinet", accuracy=0.8)])
    c = without_scores(tmp_path / "c", [keep("cam", accuracy=0.8)])
    with pytest.raises(UserError, match=r"nothing to compare.*/a holds keep-.*/b holds occlusion"):
        compare(a, b)
    with pytest.raises(UserError, match="no row and figure is in both"):
        compare(a, c)
    with pytest.raises(UserError, match="has no records"):
        compare(a, without_scores(tmp_path / "empty", []))
    only = without_scores(tmp_path / "random", [keep("random", accuracy=0.8)])
    with pytest.raises(UserError, match="the paper has Tables I to IV"):
        compare(only, None)


def test_the_csv_has_every_difference_as_shares(pair: tuple[Path, Path], tmp_path: Path) -> None:
    made, written = write_comparison(*pair, tmp_path / "out", ["csv"])
    assert written == [tmp_path / "out" / "difference-table1.csv"]
    line = lines(written[0])["vinet", "accuracy"]
    assert list(line) == (
        [
            "table",
            "method",
            "figure",
            "a",
            "a_low",
            "a_high",
            "b",
            "b_low",
            "b_high",
            "difference",
            "low",
            "high",
            "paired",
        ]
    )
    assert float(line["a"]) - float(line["b"]) == pytest.approx(0.06)
    assert (line["table"], line["difference"], line["paired"]) == ("table1", "0.060000", "yes")
    apart = next(d for d in made[0].differences if d.row["name"] == "vinet").apart
    found = float(line["low"]), float(line["high"])
    assert found == pytest.approx(interval(apart), abs=1e-6)


def test_names_are_escaped(tmp_path: Path) -> None:
    rows = [*ROWS[:3], ROWS[3] | {"title": "[C|A]_M <b>"}]
    a = without_scores(tmp_path / "a_b&c%", EVERYTHING, rows=rows)
    write_comparison(a, a, tmp_path)
    tex, md = (
        (tmp_path / f"difference-table1.{e}").read_text(encoding="utf-8") for e in ("tex", "md")
    )
    assert "\n{}[C|A]\\_M \\textless{}b\\textgreater{} & 70.00 & 70.00 & 0.00" in tex
    assert r"a\_b\&c\%" in tex
    assert r"| [C\|A]\_M &lt;b&gt; " in md
    assert r"a\_b&amp;c%" in md
    assert tex.count(r"\begin{table*}") == md.count("\n## ") + 1 == 4


def run_report(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["report", *arguments])


def test_the_command_prints_and_writes(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    ended = run_report(str(a), str(b), "--format", "md")
    assert ended.exit_code == 0
    assert (a / "difference-table1.md").is_file()
    assert not list(b.glob("difference*"))
    monkeypatch.chdir(a.parent)
    assert run_report("a", "paper", "--out", "p", "--format", "tex").exit_code == 0
    assert "the paper" in Path("p/difference-table1.tex").read_text(encoding="utf-8")
    b.rename("paper")
    assert run_report("a", "./paper", "--out", "q", "--format", "tex").exit_code == 0
    assert "the paper" not in Path("q/difference-table1.tex").read_text(encoding="utf-8")


def test_mistakes_of_the_command_are_one_line(pair: tuple[Path, Path]) -> None:
    a, b = map(str, pair)
    for arguments, words in (
        ((a, b, a), "3 runs are named"),
        (("paper", a), f"vinet-bench report {a} paper"),
        ((a, f"{b}/missing"), "holds no run"),
        ((a, b, "--format", "pdf"), "unknown format 'pdf'"),
    ):
        found = run_report(*arguments).exception
        assert isinstance(found, UserError)
        assert words in str(found)


def test_torch_is_not_imported(pair: tuple[Path, Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from vinet_bench.report import write_comparison;"
        "write_comparison(*map(Path, sys.argv[1:])); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, pair)], check=False)
    assert done.returncode == 0
    assert (pair[0] / "difference-table1.csv").is_file()


@needs_latex
def test_the_tex_compiles(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[3] | {"title": r"[x]\~^{}#$%&_<> é"}]
    own = hits(0.7, 0)
    a = a_run(tmp_path / "a", {("vinet", 0): own, ("cam", 0): hits(0.5, 1)})
    b = a_run(tmp_path / "b_%", {("vinet", 0): worse(own, 6), ("cam", 0): hits(0.5, 2)})
    write_comparison(a, b, tmp_path)
    written = without_scores(tmp_path / "c", EVERYTHING, rows=rows, data={"split_by": "slice"})
    write_comparison(written, None, tmp_path / "paper")
    names = ["difference-table1", "paper/difference-table1", "paper/difference-table2"]
    assert "Overfull" not in compiled(tmp_path, names)
