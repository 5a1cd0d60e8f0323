"""A whole run on a GPU; where there is none it skips."""

import csv
from pathlib import Path

import pytest
import torch

from tests.commands import Command

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch sees none"),
]


def test_a_smoke_run_on_the_gpu(command: Command) -> None:
    methods = ("vinet", "cam", "lrp", "ig", "random")
    tiny = ("--preset", "smoke", "--set", "phantom.slices=60", "--methods", ",".join(methods))
    ended = command("run", "all", *tiny, "--device", "cuda", "--out", "mine")
    assert ended.code == 0, ended.err
    for table in ("table1.csv", "table2.csv"):
        with (Path("mine") / table).open(encoding="utf-8", newline="") as file:
            rows = {row["method"]: row for row in csv.DictReader(file)}
        assert set(methods) <= set(rows)
        assert all(0 <= float(rows[name]["accuracy"]) <= 1 for name in methods)
    again = command("run", "all", *tiny, "--device", "cuda", "--out", "mine")
    assert " 0 cells made" in f" {again.out}"
