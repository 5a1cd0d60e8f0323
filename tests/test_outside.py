"""What other packages add is found when it comes, and read once while nothing changes."""

import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from vinet_bench.outside import entry_points

GROUP = "vinet_bench.methods"


def install(site: Path, name: str) -> None:
    """As pip would, into a folder."""
    info = site / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {name}:Method\n")


def added() -> set[str]:
    return {point.name for point in entry_points(group=GROUP)} & {"one", "two"}


def test_a_package_is_found_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert added() == set()
    install(tmp_path, "one")
    monkeypatch.syspath_prepend(tmp_path)
    assert added() == {"one"}
    time.sleep(0.02)  # a folder's time of change has ticks
    install(tmp_path, "two")
    assert added() == {"one", "two"}
    assert {point.value for point in entry_points(group=GROUP)} >= {"one:Method", "two:Method"}
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    assert added() == set()


def test_groups_are_told_apart() -> None:
    assert {point.name for point in entry_points(group="console_scripts")} >= {"pytest"}
    assert not {"pytest"} & {point.name for point in entry_points(group=GROUP)}


def test_nothing_is_read_again_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = entry_points(group=GROUP)
    monkeypatch.setattr(metadata, "entry_points", None)
    assert entry_points(group=GROUP) is before
