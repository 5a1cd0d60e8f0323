"""What a run's folder says of its plan and cells, checked as untrusted input before a report."""

import string
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
)

from vinet_bench.data.tables import printable
from vinet_bench.networks_needed import Maps, Network, Start, Task
from vinet_bench.records import Cell, Record
from vinet_bench.settings import MOST_FOLDS

KEY = r"^[0-9A-Za-z_-]{1,100}$"
FIELDS = {"data", "network", "importance", "classifier", "filled"}


def _plain_format(text: str) -> str:
    """A caption with plain {names} alone: an attribute, an index or a width may do anything."""
    for _, name, width, conversion in string.Formatter().parse(text):
        if name is not None and (name not in FIELDS or width or conversion):
            raise ValueError("a caption with more than plain names in it")
    return text


Key = Annotated[str, Field(pattern=KEY)]  # a file's name within the run's folder
Word = Annotated[StrictStr, AfterValidator(printable)]
Caption = Annotated[Word, AfterValidator(_plain_format)]


class _Known(BaseModel):
    """Checks what it names; all else is left as it is."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Exact(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Row(_Known):
    name: Word
    title: Word
    kind: Word
    variant: Word = ""
    explains: Word = ""
    scaling: Word = ""
    costly: Word = ""


class _Figure(_Exact):
    key: Word
    metric: Word
    heading: Word = ""
    digits: Annotated[StrictInt, Field(ge=0, le=20)] = 2
    trained_on: Word = ""
    equal: StrictBool = False
    interval: StrictBool = False
    core: StrictBool = False
    kinds: list[Word] = []
    better: Word = ""
    percent: StrictBool = True


class _Layout(_Exact):
    name: Annotated[str, Field(pattern=KEY)]  # a file's name
    protocol: Word
    title: Word
    caption: Caption
    figures: Annotated[list[_Figure], Field(min_length=1)]
    first: Word = ""
    own_rows: StrictBool = False
    notes: list[Word] = []
    rankings: list[list[Word]] = []
    judged_by: Word = ""


Section = dict[Word, Word | StrictInt | StrictFloat | StrictBool | list[StrictInt] | None]


class _Settings(_Known):
    vinet: Section = {}
    retrain: Section = {}
    control_budget: Word | StrictFloat = ""
    __pydantic_extra__: dict[str, Section | Word | StrictInt | StrictFloat | StrictBool | None]


class _Data(_Known):
    name: Word = ""
    slices: StrictInt = 0
    patients: StrictInt = 0
    patients_known: StrictBool = True
    parts: dict[Word, StrictInt] = {}
    class_names: list[Word] = []
    majority: StrictFloat | StrictInt | None = None
    notes: list[Word] = []
    fingerprint: Word = ""
    split_by: Word = ""
    folds: Annotated[StrictInt, Field(ge=0, le=MOST_FOLDS)] = 0
    pictures: Key | None = None


class _Plan(_Known):
    preset: Word = ""
    source: dict[str, Any] = {}
    seeds: list[StrictInt] = []
    threshold: StrictFloat | StrictInt | None = None
    precision: Word = ""
    device: Word = ""
    deterministic: StrictBool = False
    versions: dict[Word, Word] = {}
    commit: Word = ""
    deviations: list[Word] = []
    settings: _Settings = _Settings()
    rows: list[_Row] = []
    own_rows: dict[Word, list[_Row]] = {}
    protocol_seeds: dict[Word, list[StrictInt]] = {}
    layouts: dict[Word, _Layout] = {}
    checkpoint: Word = ""
    data: _Data = _Data()
    gallery: Key | None = None


Pid = Annotated[int, Field(ge=1, lt=2**31)]
StateRow = tuple[float | None, str | None, Pid | None, str | None, float | None]


class _Cell(_Exact):
    protocol: Word
    method: Word
    seed: StrictInt
    budget: Word = ""
    trained_on: Word = ""
    fill: Word = ""
    network: Word = ""
    variant: Word = ""


class _Record(BaseModel):
    metric: Word
    value: StrictFloat | None
    n: StrictInt
    seconds: StrictFloat
    version: StrictStr
    error: StrictStr


class _Network(_Exact):
    kind: Word
    what: Word
    seed: StrictInt


class _Maps(_Exact):
    method: Word
    seed: StrictInt
    part: Word


_KEY: TypeAdapter[str] = TypeAdapter(Key)
_STATE: TypeAdapter[StateRow] = TypeAdapter(StateRow)


def check_plan(plan: Any) -> dict[str, Any]:
    """The plan itself. Raises ValueError for one that no run of any version could have stored."""
    _Plan.model_validate(plan)
    return dict(plan)


def check_key(key: Any) -> str:
    """The key itself. Raises ValueError for one that would leave the run's folder."""
    return _KEY.validate_python(key, strict=True)


def check_cell(found: dict[str, Any]) -> Cell:
    """The cell of these columns. Raises ValueError for other types, or an unprintable word."""
    _Cell.model_validate(found)
    return Cell(**found)


def check_task(found: Any, seconds: Any) -> tuple[Task, float]:
    """The task of these columns, and its time. Raises ValueError for what no run has."""
    if isinstance(seconds, bool) or not isinstance(seconds, float) or not seconds >= 0:
        raise ValueError(f"a task of {seconds} seconds")
    if found == vars(Start()):
        return Start(), seconds
    if "protocol" in found:
        return check_cell(found), seconds
    if "kind" in found:
        _Network.model_validate(found)
        return Network(**found), seconds
    _Maps.model_validate(found)
    return Maps(**found), seconds


def check_record(record: Record) -> Record:
    """The record itself. Raises ValueError for columns of other types."""
    _Record.model_validate(vars(record))
    return record


def check_state(row: tuple[Any, ...]) -> StateRow:
    """Seconds and error of a cell; pid, host and start of the process that makes it. Raises
    ValueError for columns of other types."""
    return _STATE.validate_python(row, strict=True)
