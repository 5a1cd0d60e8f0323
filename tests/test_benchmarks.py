"""The harness of `python -m benchmarks`; nothing is timed here."""

import csv
from pathlib import Path

import pytest

from benchmarks import methods as speed
from benchmarks.__main__ import table, write
from benchmarks.faithfulness import shop
from benchmarks.turns import Better, Ratio, in_turn
from protocols.deletion import Deletion
from protocols.faithfulness import Faithfulness
from protocols.road import Road
from vinet_bench.methods import in_order, method, methods


@pytest.mark.parametrize(
    ("better", "goal", "met"),
    [("higher", 2.0, True), ("higher", 2.5, False), ("lower", 2.0, True), ("lower", 1.9, False)],
)
def test_the_median_is_held_against_the_goal(better: Better, goal: float, met: bool) -> None:
    assert Ratio("a", goal, better, (9.0, 2.0, 1.0), (1, 1, 1), (1, 1, 1)).met is met


def test_both_are_warmed_up_and_then_begin_by_turns() -> None:
    calls: list[str] = []
    ours, peer = in_turn(lambda: calls.append("o"), lambda: calls.append("p"), rounds=3)
    assert "".join(calls) == "op" + "op" + "po" + "op"
    assert len(ours) == len(peer) == 3


def test_every_round_is_written(tmp_path: Path) -> None:
    ratios = [Ratio("a", 2.0, "higher", (2.0, 3.0), (1.0, 2.0), (2.0, 6.0))]
    write(tmp_path / "figures.csv", ratios)
    with (tmp_path / "figures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["round"], r["ratio"], r["ours"], r["peer"]) for r in rows] == [
        ("1", "2.0", "1.0", "2.0"),
        ("2", "3.0", "2.0", "6.0"),
    ]
    assert table(ratios).row_count == 1


def test_a_method_of_every_kind_has_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    infos = [method(name).info for name in methods()]
    names = {info.explains: info.name for info in reversed(infos) if not info.needs}  # the first
    assert set(names) == {"classifier", "vinet", "sealed", "nothing"}
    small = ["--size", "32", "--width", "0.25", "--batch", "2", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", ["methods", *names.values(), *small])
    speed.main()
    lines = capsys.readouterr().out.splitlines()[1:]
    assert tuple(line.split()[0] for line in lines) == in_order(names.values())


def test_the_stand_in_has_what_the_timed_protocols_ask_a_workshop_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing else runs it: the benchmarks themselves run by hand."""
    monkeypatch.setattr("benchmarks.faithfulness.SIDE", 32)
    tried = shop(pictures=15)
    for protocol in (Deletion(), Road(), Faithfulness()):
        assert all(len(scores) for scores in tried.scores(protocol).values())
