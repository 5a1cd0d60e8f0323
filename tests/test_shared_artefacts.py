"""Networks and maps on storage that runs share: the same figures, trained once."""

import sys
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest

from tests.commands import Command, assert_one_line
from vinet_bench import trained
from vinet_bench.errors import StoreError
from vinet_bench.plan import make_plan
from vinet_bench.report import TEXTS, write_report
from vinet_bench.run import run
from vinet_bench.shared_artefacts import OF_THE_RUN, SharedArtefacts
from vinet_bench.store import Store

ARRAYS = {"maps": np.arange(6, dtype=np.float32).reshape(2, 3), "few": np.array([True, False])}
CHANGES = ["phantom.slices=60", "explained.epochs=1", "retrain.epochs=1"]
QUICK = [
    *("run", "keep-important", "--preset", "smoke", "--methods", "cam,random", "--device", "cpu"),
    *(word for change in CHANGES for word in ("--set", change)),
]


@pytest.fixture(params=["memory", "folder"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An object store within this process, or a folder as one is mounted."""
    return f"memory://{uuid4()}/runs" if request.param == "memory" else str(tmp_path / "mounted")


def files(address: str) -> dict[str, bytes]:
    """Every file there, by its name without the address."""
    there, root = fsspec.core.url_to_fs(address)
    return {path.removeprefix(root): there.cat_file(path) for path in there.find(root)}


def test_arrays_come_back(address: str) -> None:
    shared = SharedArtefacts(address)
    assert shared.load("maps", "key") is None
    assert not shared.has("maps", "key")
    shared.save("maps", "key", ARRAYS)
    assert shared.has("maps", "key")
    loaded = SharedArtefacts(address).load("maps", "key")
    assert loaded is not None
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].tolist() == array.tolist()


def test_the_file_is_that_of_a_run_s_folder(address: str, tmp_path: Path) -> None:
    SharedArtefacts(address).save("maps", "key", ARRAYS)
    Store(tmp_path / "run").save("maps", "key", ARRAYS)
    local = (tmp_path / "run/artefacts/maps/key.safetensors").read_bytes()
    assert files(address) == {"/maps/key.safetensors": local}


def test_damage_is_noticed(address: str, caplog: pytest.LogCaptureFixture) -> None:
    shared = SharedArtefacts(address)
    shared.save("maps", "key", ARRAYS)
    there, root = fsspec.core.url_to_fs(address)
    content = bytearray(there.cat_file(f"{root}/maps/key.safetensors"))
    content[-1] ^= 1
    there.pipe_file(f"{root}/maps/key.safetensors", bytes(content))
    assert shared.load("maps", "key") is None
    assert f"{address}/maps/key.safetensors is damaged" in caplog.text


def test_half_a_write_leaves_what_was_there(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedArtefacts(address)
    shared.save("maps", "key", ARRAYS)
    before = files(address)
    there, _ = fsspec.core.url_to_fs(address)
    whole = type(there).open

    def breaks(*words: object, **options: object) -> object:
        file = whole(there, *words[1:], **options)
        monkeypatch.setattr(file, "write", _full, raising=False)
        return file

    monkeypatch.setattr(type(there), "open", breaks)
    for key in ("key", "other"):
        with pytest.raises(StoreError, match="No space left on device; what is done is kept"):
            shared.save("maps", key, {"maps": np.zeros(100)})
    assert files(address) == before


def _full(_: bytes) -> None:
    raise OSError(28, "No space left on device")


def made(folder: Path, artefacts: str | None = None) -> Path:
    """A run as QUICK asks for it."""
    plan = make_plan(
        preset="smoke", methods=["cam", "random"], changes=CHANGES, artefacts=artefacts
    )
    assert run(["keep-important"], plan, folder, "cpu").failed == ()
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture(scope="module", params=["memory", "folder"])
def first(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A run's folder, and the address where its networks and maps lie."""
    folder = tmp_path_factory.mktemp("first")
    address = f"memory://{uuid4()}/runs" if request.param == "memory" else str(folder / "mounted")
    return made(folder / "run", address), address


def test_a_second_run_trains_nothing_and_says_the_same(
    alone: Path, first: tuple[Path, str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("it was trained already")

    (one, address), two = first, Path("two")
    monkeypatch.setattr(trained, "fit", forbidden)
    assert command(*QUICK, "--out", "two", "--artefacts", address).code == 0
    tables = [
        {p.name: p.read_bytes() for p in write_report(folder, formats=TEXTS)}
        for folder in (alone, one, two)
    ]
    assert tables[0] == tables[1] == tables[2]
    # What a report needs lies in the run's folder, which may be copied without the rest.
    for folder in (one, two):
        assert {p.name for p in Path(folder, "artefacts").iterdir()} == OF_THE_RUN
    drawn = command("figure", "methods", str(one), "--artefacts", address)
    assert (drawn.code, drawn.out.count("figure-methods")) == (0, 2)


def test_the_plan_knows_what_is_there(command: Command, first: tuple[Path, str]) -> None:
    _, address = first
    counted = command(*QUICK, "--out", "two", "--artefacts", address, "--dry-run")
    planned = command("plan", *QUICK[1:], "--out", "two", "--artefacts", address)
    assert (counted.code, planned.code) == (0, 0)
    assert not Path("two").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nosuch://bucket/runs", "Protocol not known: nosuch"),
        ("s3://bucket/runs", "s3fs"),
    ],
)
def test_storage_that_is_not_to_be_had(
    given: str, words: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    assert_one_line(command(*QUICK, "--artefacts", given, "--out", "run"), "--artefacts", words)
    assert not Path("run").exists()


def test_storage_that_does_not_answer(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoAnswerError(Exception):
        """Such as botocore's, which are no OSError."""

    def exists(*_: object) -> bool:
        raise NoAnswerError("could not\n  connect")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "exists", exists)
    ended = command(*QUICK, "--artefacts", "memory://runs", "--out", "run")
    assert_one_line(ended, "--artefacts memory://runs: could not connect")
    assert not Path("run").exists()


def test_a_folder_that_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    shared = SharedArtefacts(str(tmp_path / "file" / "runs"))
    with pytest.raises(StoreError, match=r"--artefacts .*Not a directory"):
        shared.save("maps", "key", ARRAYS)
