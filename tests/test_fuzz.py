"""Readers of files from strangers: damaged input reads, or is refused in one line."""

import io
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tools.fuzz_readers import CELL, PLAN, READERS, SIDE, Bench

WORDS = re.compile(rb"[\w.+-]+")
# What breaks readers: numbers out of range, places elsewhere, texts that are no text.
ODD = (
    *(b"", b"0", b"-1", b"1e308", b"nan", b"inf", b"99999999999999999999", b"1_0", b"0x1"),
    *(b"../a", b"/etc/passwd", b"LOCAL", b"LIST", b"True", b"\xff\xfe", b"\r", b"\n", b"\0"),
    *(b'"', b"<!DOCTYPE a>", b"&a;", b"{data.__class__}", "\N{RIGHT-TO-LEFT OVERRIDE}".encode()),
)
LEAVES: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**30, 1e300, float("nan"), "", "x\ny", "../a", [], {}, [[]], {"a": 1}),
    *("{data.__class__}", "{data:>9999999999}", "\ud800"),
)
SIZE_64 = struct.pack(">HHIIIIII", 41, 0, 64, 64, 0, 0, 64, 64)  # of a JPEG 2000 codestream
SIZE_20000 = struct.pack(">HHIIIIII", 41, 0, 20_000, 20_000, 0, 0, 20_000, 20_000)
QUICK = settings(
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
FEW = settings(QUICK, max_examples=50)


@st.composite
def damaged(draw: st.DrawFn, reader: str) -> tuple[str, bytes]:
    """One of a reader's files, changed in one to four places."""
    name = draw(st.sampled_from(READERS[reader].mutated))
    content = READERS[reader].seeds[name]
    for _ in range(draw(st.integers(1, 4))):
        content = draw(st.sampled_from(CHANGES))(draw, content)
    return name, content


def _place(draw: st.DrawFn, content: bytes) -> int:
    """Half of them near the start, where headers are."""
    near = draw(st.booleans())
    return draw(st.integers(0, min(len(content), 200) if near else len(content)))


def _flipped(draw: st.DrawFn, content: bytes) -> bytes:
    place, value = _place(draw, content), draw(st.binary(min_size=1, max_size=4))
    return content[:place] + value + content[place + len(value) :]


def _inserted(draw: st.DrawFn, content: bytes) -> bytes:
    place, value = _place(draw, content), draw(st.sampled_from(ODD) | st.binary(max_size=20))
    return content[:place] + value + content[place:]


def _deleted(draw: st.DrawFn, content: bytes) -> bytes:
    place = _place(draw, content)
    return content[:place] + content[place + draw(st.integers(1, 20)) :]


def _cut(draw: st.DrawFn, content: bytes) -> bytes:
    return content[: _place(draw, content)]


def _word_replaced(draw: st.DrawFn, content: bytes) -> bytes:
    """A field's name or value takes an odd one, or that of another field."""
    words = list(WORDS.finditer(content[:20_000]))
    if not words:
        return content
    old = draw(st.sampled_from(words))
    new = draw(st.sampled_from(ODD) | st.sampled_from(words).map(lambda word: word.group()))
    return content[: old.start()] + new + content[old.end() :]


def _lines_swapped(draw: st.DrawFn, content: bytes) -> bytes:
    lines = content.split(b"\n")
    a, b = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


CHANGES = (_flipped, _inserted, _deleted, _cut, _word_replaced, _word_replaced, _lines_swapped)


@st.composite
def odd_json(draw: st.DrawFn, reader: str, name: str) -> bytes:
    """A reader's JSON file in which one value is another."""
    tree = json.loads(READERS[reader].seeds[name])
    branch, key = draw(st.sampled_from(list(_branches(tree))))
    branch[key] = draw(st.sampled_from(LEAVES))
    return json.dumps(tree).encode()


def _branches(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every value below a JSON value, as what holds it and its key."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _branches(tree[key])


def _no_characters() -> bytes:
    ids = np.array([0xFFFFFFFF, 65], np.uint32).view("<U1")
    buffer = io.BytesIO()
    np.savez(buffer, maps=np.zeros((2, SIDE, SIDE)), ids=ids)
    return buffer.getvalue()


def crash(reader: str, name: str, old: bytes, new: bytes) -> tuple[str, bytes]:
    """A file that once crashed its reader, made from the seed."""
    content = READERS[reader].seeds[name]
    assert old in content
    return name, content.replace(old, new, 1)


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    return {n: Bench(r, tmp_path_factory.mktemp("fuzz") / n) for n, r in READERS.items()}


@pytest.mark.parametrize("reader", READERS)
def test_the_seeds_read(benches: dict[str, Bench], reader: str) -> None:
    for name in READERS[reader].mutated[-2:]:
        assert benches[reader].refusal(name, READERS[reader].seeds[name]) is None


@QUICK
@given(damaged("labels"))
def test_labels(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["labels"].refusal(*change)


@QUICK
@given(damaged("mhd"))
def test_mhd(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["mhd"].refusal(*change)


@QUICK
@given(damaged("mha"))
@example(crash("mha", "a.mha", b"BinaryData = True\nB", b"BinaryData ="))  # MetaIO aborted
def test_mha(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["mha"].refusal(*change)


@QUICK
@given(damaged("dicom"))
@example(crash("dicom", "1.dcm", b"\x16\x00AE\x0e", b"\x16\x00A/\xcd\x8dE\x0e"))  # 1.3 GiB
@example(crash("dicom", "1.dcm", SIZE_64, SIZE_20000))  # 1.5 GiB
def test_dicom(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["dicom"].refusal(*change)


@QUICK
@given(damaged("lidc_xml"))
def test_lidc_xml(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["lidc_xml"].refusal(*change)


@QUICK
@given(damaged("prepared"))
def test_prepared(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["prepared"].refusal(*change)


@QUICK
@given(odd_json("prepared", "dataset.json"))
def test_prepared_description(benches: dict[str, Bench], content: bytes) -> None:
    benches["prepared"].refusal("dataset.json", content)


@QUICK
@given(damaged("maps"))
def test_maps(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["maps"].refusal(*change)


@QUICK
@given(damaged("maps_npz"))
@example(("maps.npz", _no_characters()))  # a SystemError in numpy
def test_maps_npz(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["maps_npz"].refusal(*change)


@QUICK
@given(damaged("weights"))
def test_weights(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["weights"].refusal(*change)


@FEW
@given(damaged("run"))
def test_run(benches: dict[str, Bench], change: tuple[str, bytes]) -> None:
    benches["run"].refusal(*change)


@FEW
@given(odd_json("plan", PLAN))
def test_plan(benches: dict[str, Bench], content: bytes) -> None:
    benches["plan"].refusal(PLAN, content)


@FEW
@given(odd_json("plan", CELL))
def test_cell(benches: dict[str, Bench], content: bytes) -> None:
    benches["plan"].refusal(CELL, content)
