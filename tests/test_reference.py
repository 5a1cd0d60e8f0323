"""The reference results: tables that a store beside them gives again."""

import tarfile
from pathlib import Path

import pytest

from vinet_bench.report import write_report

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"
STORES = sorted(REFERENCE.glob("*/store.tar.gz"))
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="not in a source distribution")


def test_the_readme_names_every_folder() -> None:
    told = (REFERENCE / "README.md").read_text(encoding="utf-8")
    folders = [path.name for path in REFERENCE.iterdir() if path.is_dir()]
    assert [name for name in folders if f"`{name}`" not in told] == []


@pytest.mark.parametrize("store", STORES, ids=lambda path: path.parent.name)
def test_a_stores_records_give_the_tables_beside_it(store: Path, tmp_path: Path) -> None:
    with tarfile.open(store) as archive:
        archive.extractall(tmp_path, filter="data")
    written = write_report(tmp_path, formats=["csv"])
    assert {path.name for path in written} == {path.name for path in store.parent.glob("*.csv")}
    for path in written:
        assert path.read_text() == (store.parent / path.name).read_text(), path.name
