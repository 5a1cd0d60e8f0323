"""A protocol from anywhere brings its own table along, and a report needs nothing else."""

import json
from pathlib import Path
from typing import Any

from tests.test_report import EVERYTHING, a_run, cells
from vinet_bench.records import Cell
from vinet_bench.report import tables, write_report
from vinet_bench.report.layout import KEEP, Figure, Layout
from vinet_bench.store import read_run

SECONDS = Figure("seconds", "seconds", "Seconds", digits=3, percent=False)
SPEED = Layout("speed", "speed", "Speed", "Seconds a map on {data}.", (SECONDS,))


def brought(**metrics: float) -> Any:
    return Cell("speed", "cam", 0), metrics


def test_a_layout_survives_the_store() -> None:
    for layout in (KEEP, SPEED):
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
