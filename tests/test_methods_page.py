"""docs/methods.md says of every method what its info says."""

from pathlib import Path

import pytest

from baselines import METHODS
from vinet_bench.methods import method

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods.md"
TABLE = PAGE.read_text(encoding="utf-8").partition("## What is ours")[0]
ROWS = [line for line in TABLE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("reader-")])
def test_the_row_of(name: str) -> None:
    info = method(name).info
    (row,) = [row for row in ROWS if row.startswith(f"| `{name}` |")]
    passes = f"{info.forwards} + {info.backwards}"
    costly, of_class = "yes" * info.costly, "no" * (not info.class_specific)
    cells = (info.title, info.paper, info.explains, info.sign, info.scaling, passes)
    words = [f"`{name}`", *cells, costly, of_class]
    assert [cell.strip() for cell in row.strip("|").split("|")] == words


def test_the_page_has_no_other_rows() -> None:
    assert len(ROWS) == len([n for n in METHODS if not n.startswith("reader-")]) + 1
