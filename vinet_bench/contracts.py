"""What a data set, a network and a protocol must hold, as `checks.py` says it of a method. Call
these from a test of your own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vinet_bench.checks import CheckError
from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.phantom import phantom
from vinet_bench.data.splits import split_as
from vinet_bench.machine import Machine
from vinet_bench.places import downsampling_points
from vinet_bench.plan import make_plan
from vinet_bench.progress import Silent
from vinet_bench.protocols import EvalProtocol, OwnTable
from vinet_bench.records import Cell, Record
from vinet_bench.seeds import generator
from vinet_bench.store import Store
from vinet_bench.workshop import Workshop

SIDES = (64, 50)  # of the pictures that networks are tried on
SMALL = ["phantom.slices=60", "control_budget=0.1"]
UNTIMED = "maps_a_second"  # the one figure that another run does not give again


def check_dataset(make: Callable[[], SliceDataset]) -> None:
    """Makes a data set twice and holds it to vinet_bench.data.dataset.SliceDataset.

    Raises CheckError for the first thing that it does not hold.
    """
    data = make()
    _check_columns(data)
    _check_stacks(data)
    _check_parts(data)
    if make().fingerprint != data.fingerprint:
        raise CheckError("made twice, the data differ: draw from a seed of the plan's")


def _check_columns(data: SliceDataset) -> None:
    present = np.unique(data.labels)
    if data.num_classes < 2 or present.tolist() != list(range(data.num_classes)):
        raise CheckError(
            f"labels are {present.tolist()} for the classes {data.class_names}: number them from 0,"
            " and name those alone that have slices, two or more"
        )
    for name, column in (("ids", data.ids), ("patients", data.patients)):
        if (np.char.str_len(column) == 0).any():
            raise CheckError(f"{name} has an empty text: every slice needs one")
    if len(np.unique(data.ids)) != len(data):
        raise CheckError("two slices have one id: ids name the slices in figures and --maps")


def _check_stacks(data: SliceDataset) -> None:
    wanted = {"evidence": np.bool_, "marker": np.bool_, "readers": np.uint8}
    for name, dtype in wanted.items():
        stack = getattr(data, name)
        if stack is not None and (stack.shape, stack.dtype) != (data.images.shape, dtype):
            raise CheckError(f"{name} is no {dtype.__name__} array of the images' shape")
    pictures = data.pictures()
    if not ((pictures >= 0) & (pictures <= 1)).all():
        raise CheckError("float16 pictures must lie in [0, 1], without NaN: scale them")


def _check_parts(data: SliceDataset) -> None:
    if data.given_parts is None:
        return
    unknown = set(data.given_parts.tolist()) - set(PARTS)
    if unknown:
        raise CheckError(f"given_parts has {sorted(unknown)}: it may hold {', '.join(PARTS)}")
    if not data.patients_known:
        return
    for patient in np.unique(data.patients):
        parts = set(data.given_parts[data.patients == patient].tolist())
        if len(parts) > 1:
            raise CheckError(f"patient {patient} stands in {' and '.join(sorted(parts))}")


def check_built_classifier(build: Callable[[int, float], nn.Module], width: float = 0.25) -> None:
    """Builds a classifier of (num_classes, width) and holds it to what VINet and the methods need.

    Raises CheckError for the first thing that it does not hold.
    """
    for side in SIDES:
        images = _pictures(side)
        model = build(5, width).eval()
        _check_network(model, images, (len(images), 5))
        try:
            downsampling_points(model, images[:1])
        except ValueError as error:
            raise CheckError(f"where it lowers the resolution is not seen: {error}") from None


def check_built_importance(build: Callable[[float], nn.Module], width: float = 0.25) -> None:
    """Builds an importance network of (width) and holds it to Eq. 1, which takes any real number.

    Raises CheckError for the first thing that it does not hold.
    """
    for side in SIDES:
        images = _pictures(side)
        maps = _check_network(build(width).eval(), images, tuple(images.shape))
        if (maps == 0).float().mean() > 0.1:
            raise CheckError("more than a tenth of M0 is 0: end in a convolution, not in a ReLU")


def _pictures(side: int) -> Tensor:
    return torch.rand(3, 1, side, side, generator=generator("pictures", side))


def _check_network(model: nn.Module, images: Tensor, wanted: tuple[int, ...]) -> Tensor:
    given: Tensor = model(images.requires_grad_())
    if tuple(given.shape) != wanted:
        raise CheckError(
            f"pictures of {tuple(images.shape)} gave {tuple(given.shape)}, not {wanted}"
        )
    if not torch.isfinite(given).all():
        raise CheckError("an output is not finite")
    (gradient,) = torch.autograd.grad(given.sum(), images)
    if not gradient.flatten(1).any(dim=1).all():
        raise CheckError("no gradient reaches the picture: look for detach and no_grad")
    alone = torch.cat([model(image[None]) for image in images])
    if not torch.allclose(alone, given, rtol=1e-3, atol=1e-4 * given.abs().max().item()):
        raise CheckError("in evaluation, a picture's output depends on its batch")
    return given.detach()


def check_protocol(protocol: EvalProtocol, workshop: Workshop) -> None:
    """Runs all of a protocol's cells, twice, and holds it to vinet_bench.protocols.EvalProtocol.

    Raises CheckError for the first thing that it does not hold, and what a cell raises.
    """
    cells = list(protocol.cells(workshop.plan))
    if not cells or len(set(cells)) != len(cells) or cells != list(protocol.cells(workshop.plan)):
        raise CheckError("cells must be given, each once, the same ones every time")
    if {cell.protocol for cell in cells} != {protocol.info.name}:
        raise CheckError(f"every cell's protocol must be '{protocol.info.name}', the info's name")
    found: set[str] = set()
    for cell in cells:
        own = workshop.at(cell.seed)
        records = list(protocol.run(cell, own))
        _check_records(cell, records)
        if _values(records) != _values(list(protocol.run(cell, own))):
            raise CheckError(f"{cell.title}: run again, it gives other figures")
        found |= {record.metric for record in records}
    if isinstance(protocol, OwnTable):
        lacking = {f.metric for f in protocol.layout.figures if f.core} - found
        if lacking:
            raise CheckError(f"the layout has figures that no record holds: {sorted(lacking)}")


def _check_records(cell: Cell, records: list[Record]) -> None:
    if not records or any(record.cell != cell for record in records):
        raise CheckError(f"{cell.title}: gives no record, or another cell's")
    if len({record.metric for record in records}) != len(records):
        raise CheckError(f"{cell.title}: gives a metric twice")
    for record in records:
        if record.value is None or not np.isfinite(record.value) or record.n < 1:
            raise CheckError(
                f"{cell.title}: {record.metric} is {record.value} of {record.n} pictures: raise"
                " CellError where there is no figure"
            )


def _values(records: list[Record]) -> dict[str, float | None]:
    return {record.metric: record.value for record in records if record.metric != UNTIMED}


def example_workshop(folder: Path) -> Workshop:
    """A small phantom and the methods that need no network, with their store in a folder."""
    plan = make_plan(preset="smoke", methods=["random", "centre", "outline"], changes=SMALL)
    settings = plan.settings
    data = phantom(settings.phantom.model_copy(update={"size": settings.size}))
    split = split_as(data, settings.split)
    machine = Machine(torch.device("cpu"), False)
    return Workshop(plan, data, split, Store(folder), machine, Silent())
