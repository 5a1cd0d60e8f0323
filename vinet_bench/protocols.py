"""What an evaluation protocol is, and where protocols are found."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from vinet_bench.errors import UserError, unknown_name
from vinet_bench.outside import entry_points
from vinet_bench.records import Cell, Record

if TYPE_CHECKING:
    from vinet_bench.networks_needed import Network
    from vinet_bench.plan import Plan
    from vinet_bench.report.layout import Layout
    from vinet_bench.workshop import Workshop


@dataclass(frozen=True)
class ProtocolInfo:
    """What the suite must know of a protocol.

    in_all: part of `run all`. trainings: what it trains beside what `run all` does, in words.
    needs: the field of SliceDataset without which it has nothing to measure; `run everything`
    leaves it out where the data set lacks it.
    """

    name: str
    title: str
    paper: str
    in_all: bool = True
    trainings: str = ""
    needs: Literal["", "evidence", "marker"] = ""


@dataclass(frozen=True)
class TableRow:
    """A row that is no saliency method, under the name that its cells carry as their variant.

    kind: 'reference', 'method', 'control' or 'oracle'. block: rows of one stand between two rules.
    """

    name: str
    title: str
    kind: str = "method"
    block: str = ""


class EvalProtocol(Protocol):
    """Turns a plan into cells, and a cell into records."""

    info: ProtocolInfo

    def cells(self, plan: "Plan") -> Iterable[Cell]:
        """Every figure that the plan asks for, cheapest dependencies first."""
        ...

    def run(self, cell: Cell, workshop: "Workshop") -> Iterable[Record]:
        """One cell's records. Raises CellError if it cannot give a figure."""
        ...


@runtime_checkable
class OwnRows(Protocol):
    """A protocol whose rows are not the plan's methods."""

    def row_names(self) -> Collection[str]:
        """What --rows may name."""
        ...

    def rows(self, plan: "Plan") -> Sequence[TableRow]:
        """The rows of the plan's table, in order."""
        ...


@runtime_checkable
class MoreRows(Protocol):
    """A protocol with rows beside the plan's methods."""

    def more_rows(self, plan: "Plan") -> Sequence[TableRow]:
        """They stand under the methods, in order; none where the data has nothing for them."""
        ...


@runtime_checkable
class Counted(Protocol):
    """A protocol that says beforehand what it trains."""

    def networks(self, cell: Cell, plan: "Plan") -> "Collection[Network]":
        """The networks that a cell needs; cells share equal ones."""
        ...


@runtime_checkable
class OwnTable(Protocol):
    """A protocol that brings its table's layout along (see report.layout): its figures' metrics
    are those of its records. The report is made from a run alone, so the plan keeps it."""

    layout: "Layout"


ProtocolFactory = Callable[[], EvalProtocol]


def protocols() -> Mapping[str, ProtocolFactory]:
    """Every protocol by name: the built-in ones and those of the entry point
    vinet_bench.protocols.

    Raises UserError if another package stands where `protocols` should.
    """
    import protocols as package

    built_in: Mapping[str, ProtocolFactory] | None = getattr(package, "PROTOCOLS", None)
    if built_in is None:
        raise UserError(
            f"another package named 'protocols' hides vinet-bench's own ({package.__path__[0]}): "
            "uninstall it, or run from another folder"
        )
    outside = {e.name: e.load() for e in entry_points(group="vinet_bench.protocols")}
    return {**built_in, **outside}


def protocol(name: str) -> EvalProtocol:
    """A fresh instance. Raises UserError for an unknown name."""
    known = protocols()
    if name not in known:
        raise unknown_name("protocol", name, known)
    return known[name]()
