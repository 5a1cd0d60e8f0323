"""A protocol whose cells do almost nothing: what is left of their time is the machinery's.

Its rows: 'tiny'; 'slow', whose cells wait; 'deadly', whose cells kill their own process.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vinet_bench.plan import Plan
from vinet_bench.protocols import ProtocolInfo, TableRow
from vinet_bench.records import Cell, Record
from vinet_bench.workshop import Workshop

DEADLY, SLOW = "deadly", "slow"
SECONDS = 5.0  # of a slow one


class Tiny:
    """A cell for each row and seed."""

    info = ProtocolInfo("tiny", "Tiny", "none", in_all=False)

    def row_names(self) -> list[str]:
        return ["tiny", SLOW, DEADLY]

    def rows(self, plan: Plan) -> list[TableRow]:
        return [TableRow(name, name) for name in plan.rows or ("tiny",)]

    def cells(self, plan: Plan) -> Iterable[Cell]:
        for row in self.rows(plan):
            for seed in plan.seeds:
                yield Cell("tiny", "vinet", seed, "everything", variant=row.name)

    def run(self, cell: Cell, workshop: Workshop) -> Iterable[Record]:
        if cell.variant == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        if cell.variant == SLOW:
            time.sleep(SECONDS)
        return [Record(cell, "accuracy", cell.seed % 100 / 100, 1)]


@contextmanager
def registered() -> Iterator[None]:
    """Installs it for this process and the workers that it starts, as pip would."""
    with TemporaryDirectory() as site:
        info = Path(site) / "tiny-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: tiny\nVersion: 1\n")
        entry = "[vinet_bench.protocols]\ntiny = benchmarks.tiny:Tiny\n"
        (info / "entry_points.txt").write_text(entry)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([site, str(Path(__file__).parents[1])])
        sys.path.append(site)
        try:
            yield
        finally:
            sys.path.remove(site)
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
