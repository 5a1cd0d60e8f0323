"""The tables: hand-worked cells, and all that a reader must be told beside them."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from tests.tables import read_lines
from vinet_bench.errors import UserError
from vinet_bench.records import Cell, Record, key_of
from vinet_bench.report import Sheet, Table, newest_run, tables, write_report
from vinet_bench.report.tables import rounded
from vinet_bench.store import Store
from vinet_bench.stored_run import read_run

ROWS = [
    {"name": "original", "title": "Original", "kind": "reference"},
    {"name": "majority", "title": "Majority", "kind": "reference"},
    {"name": "vinet", "title": "VINet", "kind": "method", "explains": "vinet", "scaling": "none"},
    {"name": "cam", "title": "CAM", "kind": "method", "explains": "vgg16", "scaling": "minmax"},
    {"name": "random", "title": "Random", "kind": "control"},
    {"name": "outline", "title": "Outline", "kind": "oracle"},
]


def a_plan(**changed: Any) -> dict[str, Any]:
    data = {
        "name": "phantom",
        "slices": 1800,
        "patients": 900,
        "patients_known": True,
        "parts": {"train": 1000, "validation": 200, "test": 600},
        "class_names": ["1", "2", "3", "4", "5"],
        "majority": 0.2,
        "notes": ["made here"],
        "fingerprint": "abc123",
        "split_by": "patient",
    }
    plan = {
        "preset": "quick",
        "seeds": [0],
        "threshold": 0.9,
        "precision": "bfloat16",
        "device": "cpu",
        "versions": {"vinet-bench": "0.1.0", "torch": "2.15.0"},
        "data": data | changed.pop("data", {}),
        "deviations": ["vinet.alpha = 1.0 (paper 0.25)"],
        "rows": ROWS,
        "settings": {},
    }
    return plan | changed


def keep(method: str, seed: int = 0, trained_on: str = "pictures", **metrics: Any) -> Any:
    budget = {"original": "everything", "random": "equal"}.get(method, "threshold")
    return Cell("keep-important", method, seed, budget, trained_on), metrics


def occlude(method: str, budget: str = "threshold", seed: int = 0, **metrics: Any) -> Any:
    return Cell("occlusion", method, seed, budget), metrics


EVERYTHING = [
    keep("original", fraction_kept=1.0, accuracy=0.8257, balanced_accuracy=0.8),
    keep("majority", accuracy=0.2, balanced_accuracy=0.2),
    keep("vinet", fraction_kept=0.02375, accuracy=0.82146, explained_accuracy=0.8, constant_maps=0),
    keep("vinet", trained_on="masks", accuracy=0.53),
    keep("vinet", trained_on="swapped", accuracy=0.21),
    keep("cam", fraction_kept=0.3622, accuracy=0.7, evidence_recall=0.975, constant_maps=0.035),
    keep("cam", trained_on="masks", accuracy=0.5301),
    keep("random", fraction_kept=0.02375, accuracy=0.3),
    keep("outline", fraction_kept=0.01, accuracy=0.9),
    keep("outline", trained_on="masks", accuracy=0.5),
    occlude("original", "everything", fraction_kept=1.0, accuracy=0.8257),
    occlude("majority", "everything", accuracy=0.2),
    occlude(
        "vinet",
        fraction_kept=1 - 0.02375,
        accuracy=0.0811,
        probability_drop=0.41249,
        commonest_class_share=0.97,
    ),
    occlude("vinet", "equal", probability_drop=-0.0123),
    occlude("cam", fraction_kept=0.6378, accuracy=0.3, commonest_class_share=0.8),
    occlude("random", "equal", fraction_kept=0.97, accuracy=0.7, probability_drop=0.0204),
]


def a_run(folder: Path, filled: list[Any], **plan: Any) -> Path:
    """A run's folder with invented records; an `error` instead of metrics is a failed cell."""
    store = Store(folder)
    store.start("plan", a_plan(**plan), now=1.0)
    for cell, metrics in filled:
        error = metrics.get("error", "")
        found = [Record(cell, m, v, n=600) for m, v in metrics.items() if m != "error"]
        records = [Record(cell, "failed", None, error=error)] if error else found
        store.add("plan", key_of(vars(cell)), cell, records)
    store.close()
    return folder


def cells(table: Sheet, name: str) -> dict[str, str]:
    row = next(row for row in table.rows if row.name == name)
    return dict(zip([c.key for c in table.columns], row.cells, strict=True))


def the_tables(folder: Path, filled: list[Any], **plan: Any) -> tuple[Table, Table]:
    made = tables(read_run(a_run(folder, filled, **plan)))
    return made["table1"], made["table2"]


def noted(table: Sheet, start: str) -> str:
    return next(note for note in table.notes if note.startswith(start))


def test_the_cells_are_those_worked_by_hand(tmp_path: Path) -> None:
    first, second = the_tables(tmp_path, EVERYTHING)
    assert cells(first, "vinet") == {
        "fraction_kept": "2.38",
        "accuracy": "82.15",
        "balanced_accuracy": "–",
        "masks_accuracy": "53.00",
        "swapped_accuracy": "21.00",
        "evidence_recall": "–",
        "explained_accuracy": "80.00",
    }
    assert cells(second, "vinet") == {
        "fraction_kept": "97.62",
        "accuracy": "8.11",
        "probability_drop": "41.2",
        "commonest_class_share": "97.00",
        "equal_probability_drop": "-1.2",
    }
    assert cells(first, "majority")["accuracy"] == "20.00"
    assert cells(first, "majority")["fraction_kept"] == "–"
    assert [heading for heading, _ in first.blocks()][-1] == "Controls and oracle"


def test_a_control_has_one_budget_and_fills_both_columns(tmp_path: Path) -> None:
    found = cells(the_tables(tmp_path, EVERYTHING)[1], "random")
    assert (found["fraction_kept"], found["accuracy"]) == ("97.00", "70.00")
    assert found["probability_drop"] == found["equal_probability_drop"] == "2.0"


@pytest.mark.parametrize("share", [0.02375, 0.00125, 0.362249999, 1 / 3, 0.1, 0.99995])
def test_what_is_kept_and_what_is_left_add_up(share: float) -> None:
    assert (
        math.fsum([float(rounded(100 * share, 2)), float(rounded(100 * (1 - share), 2))]) == 100.0
    )


def test_several_seeds_give_a_t_interval(tmp_path: Path) -> None:
    a, b, c = 0.80, 0.83, 0.82
    filled = [keep("vinet", seed, accuracy=v) for seed, v in enumerate((a, b, c))]
    filled += [occlude("vinet", seed=s, probability_drop=0.4 + s / 10) for s in range(3)]
    filled += [keep("original", s, fraction_kept=1.0) for s in range(3)]
    first, second = the_tables(tmp_path, filled, seeds=[0, 1, 2])
    mean = (a + b + c) / 3
    deviation = math.sqrt(((a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2) / 2)
    half = stats.t(df=2).ppf(0.975) * deviation / math.sqrt(3)
    assert cells(first, "vinet")["accuracy"] == f"{100 * mean:.2f} ± {100 * half:.2f}"
    assert cells(second, "vinet")["probability_drop"] == "50.0 ± 24.8"
    assert cells(first, "original")["fraction_kept"] == "100.00"
    assert "t interval" in noted(first, "Seeds 0, 1, 2")


def test_a_failed_row_says_why(tmp_path: Path) -> None:
    filled = [*EVERYTHING[:5], keep("cam", error="VGG-16\ndiverged"), *EVERYTHING[7:]]
    filled += [keep("cam", trained_on="masks", error="VGG-16\ndiverged")]
    first, _ = the_tables(tmp_path, filled)
    found = cells(first, "cam")
    assert found["accuracy"] == found["masks_accuracy"] == "failed (1)"
    assert found["swapped_accuracy"] == "–"
    assert noted(first, "(1)") == (
        "(1) Failed: CAM (masks alone, pictures; seed 0): VGG-16 diverged"
    )


def test_a_missing_seed_is_named_and_the_rest_is_averaged(tmp_path: Path) -> None:
    filled = [
        *(keep("vinet", seed, accuracy=0.8) for seed in (0, 1)),
        *(keep("cam", seed, accuracy=0.6) for seed in (0, 1)),
        keep("cam", 2, error="killed"),
        keep("majority", accuracy=0.2),
        occlude("cam", accuracy=0.5),
    ]
    first, _ = the_tables(tmp_path, filled, seeds=[0, 1, 2])
    assert cells(first, "vinet")["accuracy"] == "80.00 ± 0.00"
    assert "seed 2 missing (Accuracy)" in noted(first, "VINet:")
    assert noted(first, "(1)").startswith(
        "(1) Failed: CAM (pictures; seed 2; the mean is of the other seeds): killed"
    )
    assert cells(first, "majority")["accuracy"] == "20.00"
    assert not [note for note in first.notes if note.startswith("Majority:")]
    assert noted(first, "No records") == "No records (yet) for: Original, Random, Outline."


def test_the_notes_say_what_the_figures_mean(tmp_path: Path) -> None:
    first, second = the_tables(tmp_path, EVERYTHING)
    assert "importance is at least 1 - T = 0.1." in noted(first, "Threshold T = 0.9")
    assert noted(first, "Data:").startswith(
        "Data: phantom, 1800 slices of 900 patients, split by patient"
        " (train 1000, validation 200, test 600)."
    )
    assert "vinet.alpha = 1.0 (paper 0.25)" in noted(first, "Other than in the preset paper")
    assert noted(first, "Scaling").endswith(": none (VINet); minmax (CAM).")
    assert noted(second, "Collapsed").endswith("VINet 97.00 %.")  # CAM's 80 % is not over 80 %
    assert first.warnings == []


def test_untrustworthy_splits_are_warned_of_in_red(tmp_path: Path) -> None:
    folder = a_run(
        tmp_path, EVERYTHING, data={"patients_known": False, "patients": 0, "split_by": "slice"}
    )
    write_report(folder)
    for name in ("table1", "table2"):
        tex, md = ((folder / f"{name}.{e}").read_text(encoding="utf-8") for e in ("tex", "md"))
        assert tex.count(r"\textcolor{red}{\textbf{WARNING:}") == 2
        assert md.count('**<span style="color:red">WARNING: ') == 2
        assert "patients unknown: slices of one patient may stand on both sides" in tex


def test_names_are_escaped(tmp_path: Path) -> None:
    rows = [*ROWS[:3], ROWS[3] | {"title": "[C|A]_M <b>"}]
    folder = a_run(tmp_path, EVERYTHING, rows=rows, data={"name": "a_b&c%"})
    write_report(folder)
    tex, md = ((folder / f"table1.{e}").read_text(encoding="utf-8") for e in ("tex", "md"))
    assert r"Keep-important on a\_b\&c\%:" in tex
    assert "\n{}[C|A]\\_M \\textless{}b\\textgreater{} & 36.22" in tex
    assert r"Keep-important on a\_b&amp;c%:" in md
    assert r"| [C\|A]\_M &lt;b&gt; " in md


def test_the_csv_has_shares_and_the_same_columns_always(tmp_path: Path) -> None:
    write_report(a_run(tmp_path / "a", EVERYTHING), formats=["csv"])
    write_report(a_run(tmp_path / "b", [keep("vinet", error="no memory")]), formats=["csv"])
    lines = read_lines(tmp_path / "a", "table1")
    assert list(lines) == [row["name"] for row in ROWS]
    vinet = lines["vinet"]
    assert (vinet["fraction_kept"], vinet["masks_accuracy"]) == ("0.023750", "0.530000")
    assert (vinet["accuracy_ci"], vinet["seeds"], vinet["pictures"]) == ("", "0", "600")
    a, b = ((tmp_path / n / "table1.csv").read_text(encoding="utf-8").split("\n") for n in "ab")
    assert a[0] == b[0]
    assert b[3].endswith(",pictures seed 0: no memory")
    assert not (tmp_path / "b/table2.csv").exists()


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_report(a_run(tmp_path / "a", EVERYTHING))
    again = write_report(a_run(tmp_path / "b", EVERYTHING[::-1]), tmp_path / "elsewhere")
    assert [p.name for p in first] == [p.name for p in again]
    assert len(first) == 11  # six texts, the page, two figures as PNG and PDF
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    assert not list(tmp_path.rglob("*.part-*"))


def test_the_papers_values_stand_apart(tmp_path: Path) -> None:
    write_report(a_run(tmp_path, EVERYTHING))
    md = (tmp_path / "table2.md").read_text(encoding="utf-8")
    ours, papers = md.split("### The paper's values")
    assert "97.63" in papers
    assert "97.63" not in ours
    assert "97.63" not in (tmp_path / "table2.tex").read_text(encoding="utf-8")


OWN_ROWS = {
    "importance-networks": [
        {"name": "none+seresnet50", "title": "None (classifier alone)", "kind": "reference"},
        {"name": "unet+seresnet50", "title": "unet", "kind": "method"},
        {"name": "smp:FPN+seresnet50", "title": "smp:FPN", "kind": "method"},
    ],
    "destruction": [
        {"name": "multi", "title": "Multi-scale", "kind": "method", "block": "places"},
        {"name": "sigmoid", "title": "Sigmoid", "kind": "method", "block": "claims"},
    ],
}


def varied(protocol: str, variant: str, seed: int = 0, **metrics: Any) -> Any:
    return Cell(protocol, "vinet", seed, network="seresnet50", variant=variant), metrics


def test_networks_exchanged_are_rows_by_hand(tmp_path: Path) -> None:
    name = "importance-networks"
    filled = [
        (Cell(name, "vinet", 0, "everything", variant="none+seresnet50"), {"accuracy": 0.8343}),
        varied(name, "unet+seresnet50", accuracy=0.8063, importance_loss=0.0385),
        varied(name, "unet+seresnet50", 1, accuracy=0.8263, importance_loss=0.0385),
        varied(name, "smp:FPN+seresnet50", error="the importance network collapsed"),
    ]
    settings = {"vinet": {"classifier": "seresnet50", "importance": "unet"}}
    folder = a_run(tmp_path, filled, own_rows=OWN_ROWS, settings=settings, seeds=[0, 1])
    table = tables(read_run(folder))["table3"]
    assert table.first == "Importance network"
    assert [row.title for row in table.rows] == ["None (classifier alone)", "U-Net", "smp:FPN"]
    assert cells(table, "none+seresnet50")["accuracy"] == "83.43"
    assert cells(table, "none+seresnet50")["importance_loss"] == "–"
    found = cells(table, "unet+seresnet50")
    assert found["accuracy"] == "81.63 ± 12.71"  # t(0.975, 1) = 12.706, times 1 point
    assert found["importance_loss"] == "3.85 ± 0.00"
    assert set(cells(table, "smp:FPN+seresnet50").values()) == {"failed (1)"}
    assert "SEResNet-50" in table.caption
    assert "seed 1 missing (Accuracy)" in noted(table, "None (classifier alone): ")
    assert not [note for note in table.notes if "Majority" in note or "Equal budget" in note]
    write_report(folder)
    papers = (tmp_path / "table3.md").read_text(encoding="utf-8").split("### The paper's values")[1]
    for figure in ("83.43", "81.37", "2.95", "7.57", "GridNet"):
        assert figure in papers
    assert "76.78" not in (tmp_path / "table3.tex").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("deeplab", "segnet", "found"),
    [(0.02, 0.08, "no difference was found (2.00 beside 8.00)"), (None, 0.08, "")],
)
def test_what_the_paper_says_of_two_rows_is_answered(
    tmp_path: Path, deeplab: float | None, segnet: float, found: str
) -> None:
    rows = [
        {"name": "deeplabv3plus+seresnet50", "title": "deeplabv3plus", "kind": "method"},
        {"name": "segnet+seresnet50", "title": "segnet", "kind": "method"},
    ]
    name = "importance-networks"
    filled = [varied(name, "segnet+seresnet50", accuracy=0.8, importance_loss=segnet)]
    if deeplab is not None:
        filled += [varied(name, rows[0]["name"], accuracy=0.8, importance_loss=deeplab)]
    settings = {"vinet": {"classifier": "seresnet50", "importance": "unet"}}
    folder = a_run(tmp_path, filled, own_rows={name: rows}, settings=settings)
    notes = [n for n in tables(read_run(folder))["table3"].notes if "The paper (Table III)" in n]
    assert len(notes) == bool(found)
    assert all(found in note for note in notes)


def test_rows_of_one_block_stand_between_two_rules(tmp_path: Path) -> None:
    figures: dict[str, Any] = {
        "accuracy": 0.5,
        "importance_loss": 0.1,
        "near_zero": 0.75,
        "probability_drop": 0.3,
    }
    filled = [varied("destruction", row, **figures) for row in ("multi", "sigmoid")]
    table = tables(read_run(a_run(tmp_path, filled, own_rows=OWN_ROWS)))["destruction"]
    assert [heading for heading, _ in table.blocks()] == ["places", "claims"]
    assert cells(table, "multi") == {
        "accuracy": "50.00",
        "importance_loss": "10.00",
        "probability_drop": "30.0",
        "near_zero": "75.00",
    }
    assert "more is better" in noted(table, "Drop:")


def test_a_gap_that_rows_share_is_one_note(tmp_path: Path) -> None:
    filled = [keep(name, accuracy=0.5) for name in ("vinet", "cam")]
    table = tables(read_run(a_run(tmp_path, filled, seeds=[0, 1])))["table1"]
    assert noted(table, "VINet, CAM: seed 1 missing (Accuracy);")


def test_other_fills_do_not_mix_into_a_row(tmp_path: Path) -> None:
    blurred = (Cell("keep-important", "cam", 0, fill="blur"), {"accuracy": 0.1})
    first = tables(read_run(a_run(tmp_path, [*EVERYTHING, blurred])))["table1"]
    assert cells(first, "cam")["accuracy"] == "70.00"
    assert "fill blur" in noted(first, "In the records but not in this table")


def test_what_a_user_can_mend_is_said(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", EVERYTHING)
    with pytest.raises(UserError, match="unknown format 'latex': did you mean 'tex'"):
        write_report(folder, formats=["latex"])
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match=rf"cannot write {blocked}.*--out"):
        write_report(folder, blocked)
    with pytest.raises(UserError, match="has no records"):
        write_report(a_run(tmp_path / "empty", []))


def test_the_newest_run_is_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run below .*vinet-bench run"):
        newest_run(tmp_path / "results")
    for name, when in (("old", 1_000), ("new", 3_000), ("middle", 2_000)):
        database = a_run(tmp_path / name, EVERYTHING) / "records.sqlite"
        os.utime(database, (when, when))
    assert newest_run(tmp_path) == tmp_path / "new"


def test_torch_is_not_imported() -> None:
    code = "import sys, vinet_bench.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


needs_latex = pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")


def compiled(folder: Path, names: list[str]) -> str:
    """What LaTeX says of a document that reads these files, which must compile."""
    inputs = "".join(f"\\input{{{name}}}\n" for name in names)
    (folder / "all.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx,xcolor}\n"
        f"\\begin{{document}}\n{inputs}\\end{{document}}\n",
        encoding="utf-8",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@needs_latex
def test_the_tex_compiles(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[3] | {"title": r"[x]\~^{}#$%&_<> é"}]
    write_report(a_run(tmp_path, EVERYTHING, rows=rows, data={"split_by": "slice"}))
    assert "Overfull" not in compiled(tmp_path, ["table1", "table2"])
