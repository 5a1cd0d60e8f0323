"""A protocol from anywhere brings its own table along, and a report needs nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.test_report import EVERYTHING, a_run, cells
from vinet_bench.records import Cell
from vinet_bench.report import tables, write_report
from vinet_bench.report.layout import KEEP, MASKED, Figure, Layout
from vinet_bench.report.table import Table
from vinet_bench.stored_run import read_run

SECONDS = Figure("seconds", "seconds", "Seconds", digits=3, percent=False)
SPEED = Layout("speed", "speed", "Speed", "Seconds a map on {data}.", (SECONDS,))


def brought(**metrics: float) -> Any:
    return Cell("speed", "cam", 0), metrics


def test_a_layout_survives_the_store() -> None:
    for layout in (KEEP, SPEED, RANKED):
        assert Layout.of(json.loads(json.dumps(layout.stored()))) == layout


def test_a_brought_table_stands_beside_the_papers(tmp_path: Path) -> None:
    filled = [*EVERYTHING, brought(seconds=1.5)]
    folder = a_run(tmp_path, filled, layouts={"speed": SPEED.stored()})
    made = tables(read_run(folder))
    assert list(made) == ["table1", "table2", "speed"]
    assert cells(made["speed"], "cam") == {"seconds": "1.500"}
    assert {"speed.tex", "speed.csv", "speed.md"} <= {path.name for path in write_report(folder)}


def test_without_its_layout_a_foreign_protocol_has_no_table(tmp_path: Path) -> None:
    folder = a_run(tmp_path, [*EVERYTHING, brought(seconds=1.5)])
    assert list(tables(read_run(folder))) == ["table1", "table2"]


ONE, OTHER = (Figure(key, key, key.title(), kinds=MASKED) for key in ("one", "other"))
RANKED = Layout(
    "ranked", "ranked", "Ranked", "On {data}.", (ONE, OTHER), notes=("Read it so.",),
    rankings=(("one", "other"),),
)  # fmt: skip


def ranked(
    tmp_path: Path, figures: dict[str, tuple[float, float]], layout: Layout = RANKED, **plan: Any
) -> Table:
    """The table of a layout with two figures, by row."""
    filled = [
        (Cell("ranked", name, 0, "everything"), {"one": one, "other": other})
        for name, (one, other) in figures.items()
    ]
    folder = a_run(tmp_path, filled, layouts={"ranked": layout.stored()}, **plan)
    return tables(read_run(folder))["ranked"]


def test_rows_of_a_kind_without_a_figure_do_not_stand_there(tmp_path: Path) -> None:
    table = ranked(tmp_path, {"vinet": (0.1, 0.2)})
    assert {row.kind for row in table.rows} == {"method", "control", "oracle"}
    assert not any("Original" in note for note in table.notes)


def test_a_protocols_notes_stand_under_its_table_and_of_budgets_none(tmp_path: Path) -> None:
    notes = ranked(tmp_path, {"vinet": (0.1, 0.2)}).notes
    assert "Read it so." in notes
    assert not any(note.startswith(("Threshold", "Equal budget")) for note in notes)


def test_rankings_are_kendalls_over_methods_and_controls(tmp_path: Path) -> None:
    figures = {"vinet": (0.1, 0.1), "cam": (0.2, 0.4), "random": (0.3, 0.3), "outline": (0.4, 0.0)}
    (told,) = [note for note in ranked(tmp_path, figures).notes if "Kendall" in note]
    # One of three pairs disagrees; the outline, which would turn it round, is no method.
    assert "by One and that by: Other 0.33 (3 rows)" in told


def test_a_figure_of_which_less_is_better_is_ranked_the_other_way_round(tmp_path: Path) -> None:
    low = replace(RANKED, figures=(ONE, replace(OTHER, better="low")))
    figures = {"vinet": (0.1, 0.4), "cam": (0.2, 0.3), "random": (0.3, 0.1)}
    (told,) = [note for note in ranked(tmp_path, figures, low).notes if "Kendall" in note]
    assert "Other 1.00" in told


def test_rows_beside_the_methods_stand_under_them(tmp_path: Path) -> None:
    more = [{"name": "readers", "title": "Readers", "kind": "oracle", "block": ""}]
    table = ranked(tmp_path, {"vinet": (0.1, 0.2)}, own_rows={"ranked": more})
    assert [row.title for row in table.rows][-1] == "Readers"
    assert table.rows[0].title == "VINet"
