"""Maps that were made elsewhere are a row like any other, or one line says why not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vinet_bench.data import load_data
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.splits import split_slices
from vinet_bench.errors import CellError, UserError
from vinet_bench.plan import Plan, make_plan
from vinet_bench.report import tables
from vinet_bench.run import run
from vinet_bench.stored_run import read_run

CHANGES = ("phantom.slices=60", "control_budget=0.1", "explained.epochs=1", "retrain.epochs=1")


def plan(*maps: str, methods: tuple[str, ...] = ("outline",)) -> Plan:
    return make_plan(
        preset="smoke", methods=list(methods), changes=list(CHANGES), maps=list(maps) or None
    )


@pytest.fixture(scope="module")
def data() -> SliceDataset:
    return load_data(plan())


@pytest.fixture(scope="module")
def tested(data: SliceDataset) -> list[str]:
    wanted = plan().settings.split
    split = split_slices(data, wanted.validation, wanted.test, wanted.seed, wanted.by)
    return [str(i) for i in data.ids[split.test]]


def outlines(data: SliceDataset) -> dict[str, NDArray[np.float32]]:
    assert data.evidence is not None
    return dict(zip(map(str, data.ids), data.evidence.astype(np.float32), strict=True))


def one_a_picture(folder: Path, maps: dict[str, NDArray[Any]]) -> None:
    folder.mkdir(exist_ok=True)
    for name, one in maps.items():
        np.save(folder / f"{name}.npy", one)


def one_array(folder: Path, maps: dict[str, NDArray[Any]]) -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / "maps.npy", np.stack(list(maps.values())))
    np.save(folder / "ids.npy", np.array(list(maps)))


def one_archive(folder: Path, maps: dict[str, NDArray[Any]]) -> None:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "maps.npz", maps=np.stack(list(maps.values())), ids=np.array(list(maps)))


Writer = Callable[[Path, dict[str, NDArray[Any]]], None]


@pytest.mark.parametrize("write", [one_a_picture, one_array, one_archive])
def test_the_outline_from_files_has_the_outlines_figures(
    write: Writer, data: SliceDataset, tmp_path: Path
) -> None:
    write(tmp_path / "mine", outlines(data))
    chosen = plan(str(tmp_path / "mine"))
    outcome = run(["occlusion"], chosen, tmp_path / "run", "cpu")
    assert outcome.failed == ()
    records = read_run(tmp_path / "run").records
    own, theirs = (
        {(r.metric, r.cell.budget): r.value for r in records if r.cell.method == name}
        for name in (*chosen.given, "outline")
    )
    # Equal pixels, but where the outline has fewer: there each row's own shuffle fills up.
    assert own["fraction_kept", "equal"] == theirs["fraction_kept", "equal"]
    assert own["fraction_kept", "threshold"] == 1 - np.mean(list(_test_areas(data, chosen)))
    (table,) = tables(read_run(tmp_path / "run")).values()
    assert "mine" in [row.title for row in table.rows]
    assert any("mine: made elsewhere, content " in note for note in table.notes)


def _test_areas(data: SliceDataset, chosen: Plan) -> list[float]:
    wanted = chosen.settings.split
    split = split_slices(data, wanted.validation, wanted.test, wanted.seed, wanted.by)
    assert data.evidence is not None
    return [float(mask.mean()) for mask in data.evidence[split.test]]


def test_maps_of_the_test_part_alone_fail_where_networks_are_retrained(
    data: SliceDataset, tested: list[str], tmp_path: Path
) -> None:
    maps = {i: one for i, one in outlines(data).items() if i in tested}
    one_a_picture(tmp_path / "mine", maps)
    chosen = plan(f"my maps={tmp_path / 'mine'}")
    outcome = run(["keep-important", "occlusion"], chosen, tmp_path / "run", "cpu")
    assert len(outcome.failed) == 3
    for reason in outcome.failed:
        assert reason.startswith("keep-important maps:my maps@")
        assert "no map for" in reason
        assert "train pictures" in reason


def test_the_content_is_in_the_name_and_new_maps_take_the_old_ones_place(
    data: SliceDataset, tmp_path: Path
) -> None:
    maps, folder = outlines(data), tmp_path / "mine"
    one_a_picture(folder, maps)
    first = plan(f"mine={folder}")
    run(["occlusion"], first, tmp_path / "run", "cpu")
    assert list(plan(f"mine={folder}").given) == list(first.given)
    one_a_picture(folder, {i: one.T for i, one in maps.items()})
    second = plan(f"mine={folder}")
    outcome = run(["occlusion"], second, tmp_path / "run", "cpu")
    assert (outcome.made, outcome.failed) == (2, ())
    (table,) = tables(read_run(tmp_path / "run")).values()
    rows = [row.name for row in table.rows if row.title == "mine"]
    assert rows == list(second.given)
    assert rows != list(first.given)


def test_a_row_stays_when_its_folder_is_not_named_again(data: SliceDataset, tmp_path: Path) -> None:
    one_a_picture(tmp_path / "mine", outlines(data))
    first = plan(str(tmp_path / "mine"))
    run(["occlusion"], first, tmp_path / "run", "cpu")
    outcome = run(["occlusion"], plan(), tmp_path / "run", "cpu")
    assert (outcome.made, outcome.failed) == (0, ())
    (table,) = tables(read_run(tmp_path / "run")).values()
    assert "mine" in [row.title for row in table.rows]


BAD: dict[str, tuple[NDArray[Any], str]] = {
    "shape": (np.zeros((16, 32), np.float32), r"shape \(16, 32\), not \(32, 32\)"),
    "nan": (np.full((32, 32), np.nan, np.float32), "not finite"),
    "text": (np.full((32, 32), "a"), "not numbers"),
    "pickled": (np.full((32, 32), None), "pickled"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_before_anything_is_made(
    kind: str, data: SliceDataset, tested: list[str], tmp_path: Path
) -> None:
    array, words = BAD[kind]
    one_a_picture(tmp_path / "mine", outlines(data) | {tested[3]: array})
    with pytest.raises(UserError, match=rf"mine/{tested[3]}\.npy: .*{words}") as error:
        run(["occlusion"], plan(str(tmp_path / "mine")), tmp_path / "run", "cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_test_picture_without_a_map_is_named(
    data: SliceDataset, tested: list[str], tmp_path: Path
) -> None:
    maps = {i: one for i, one in outlines(data).items() if i != tested[3]}
    one_array(tmp_path / "mine", maps)
    words = rf"mine: no map for 1 of 20 test pictures, e\.g\. {tested[3]}\.npy"
    with pytest.raises(UserError, match=words):
        run(["occlusion"], plan(str(tmp_path / "mine")), tmp_path / "run", "cpu")


def no_ids(folder: Path) -> None:
    np.save(folder / "maps.npy", np.zeros((2, 32, 32)))


def no_array_of_that_name(folder: Path) -> None:
    np.savez(folder / "maps.npz", scores=np.zeros((2, 32, 32)))


def one_id_too_few(folder: Path) -> None:
    np.savez(folder / "maps.npz", maps=np.zeros((2, 32, 32)), ids=np.array(["a"]))


def an_id_twice(folder: Path) -> None:
    np.savez(folder / "maps.npz", maps=np.zeros((2, 32, 32)), ids=np.array(["a", "a"]))


def damaged(folder: Path) -> None:
    (folder / "maps.npz").write_bytes(b"no maps")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (no_ids, r"ids\.npy: cannot be read \(No such file"),
        (no_array_of_that_name, r"maps\.npz: has no array named 'maps"),
        (one_id_too_few, r"maps\.npz: maps of shape \(2, 32, 32\) and ids of shape \(1,\)"),
        (an_id_twice, r"maps\.npz: an id stands twice"),
        (damaged, r"maps\.npz: cannot be read"),
        (lambda folder: None, r"holds neither ID\.npy"),
    ],
)
def test_a_folder_that_does_not_do(
    write: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder)
    with pytest.raises(UserError, match=words):
        run(["occlusion"], plan(str(folder)), tmp_path / "run", "cpu")


def test_names_that_do_not_do(tmp_path: Path) -> None:
    one_a_picture(tmp_path / "mine", {"a": np.zeros((32, 32))})
    with pytest.raises(UserError, match="letters, digits"):
        plan(f"a,b={tmp_path / 'mine'}")
    with pytest.raises(UserError, match="another --maps is named mine"):
        plan(str(tmp_path / "mine"), f"mine={tmp_path / 'mine'}")
    with pytest.raises(UserError, match="--maps mine=DIR"):
        plan(methods=("maps:mine",))


def test_the_ending_of_a_picture_may_be_left_out_and_no_other(tmp_path: Path) -> None:
    maps = {"a/1": np.ones((2, 2)), "1.2": np.zeros((2, 2))}
    (tmp_path / "mine" / "a").mkdir(parents=True)
    one_a_picture(tmp_path / "mine", maps)
    (given,) = plan(str(tmp_path / "mine")).given.values()
    np.testing.assert_array_equal(given.stacked(["a/1.png"], (2, 2), "test"), np.ones((1, 2, 2)))
    with pytest.raises(CellError, match=r"no map for 1 of 1 train pictures, e\.g\. 1\.2\.3\.npy"):
        given.stacked(["1.2.3"], (2, 2), "train")
