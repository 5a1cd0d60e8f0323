"""A cell that fails is a record with its reason, and the others go on."""

import time

import torch

from vinet_bench.errors import CellError, StoreError, UserError, fault
from vinet_bench.protocols import EvalProtocol
from vinet_bench.records import Cell, Record
from vinet_bench.workshop import Workshop


def attempt(how: EvalProtocol, cell: Cell, shop: Workshop) -> list[Record]:
    """The cell's records with their time, or one that says why there are none."""
    start = time.perf_counter()
    try:
        with shop.clock.of(cell):
            records = list(how.run(cell, shop.at(cell.seed)))
    except StoreError:
        raise  # the other cells could not be kept either
    except Exception as error:
        records = [Record(cell, "failed", None, error=_reason(error))]
    seconds = time.perf_counter() - start
    return [Record(cell, r.metric, r.value, r.n, seconds, r.version, r.error) for r in records]


def _reason(error: Exception) -> str:
    """One line; for a fault inside a method also where it happened."""
    if isinstance(error, CellError | UserError):
        return " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "the GPU's memory is not enough: use --device cpu, a smaller --size, or a smaller"
            " network (accumulating gradients would change BatchNorm, and so the figures)"
        )
    return fault(error)
