"""`train` leaves a model that is the same in another process; `explain` reads what people have."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tests.commands import Command, assert_one_line
from tools.fuzz_readers import READERS
from vinet_bench import models
from vinet_bench.checkpoints import Checkpoint
from vinet_bench.data.one_slice import read_slice
from vinet_bench.data.phantom import phantom
from vinet_bench.errors import CellError, UserError
from vinet_bench.machine import Examples, Machine
from vinet_bench.models import TrainedVINet, check_alive
from vinet_bench.plan import Plan, make_plan
from vinet_bench.report.draw import overlay
from vinet_bench.sealed import SealedVINet
from vinet_bench.sealed_training import SealedTask
from vinet_bench.settings import Training
from vinet_bench.train_one import train_vinet
from vinet_bench.training import fit
from vinet_bench.training_tasks import VINetTask
from vinet_bench.vinet import VINet, normalized_softplus
from vinet_bench.writing import alone

CPU = Machine(torch.device("cpu"), bfloat16=False)
CHANGES = ["phantom.slices=60", "vinet.epochs=1"]
SMALL = ["--preset", "smoke", *(word for change in CHANGES for word in ("--set", change))]


def plan(*changes: str) -> Plan:
    return make_plan(preset="smoke", changes=[*CHANGES, *changes])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedVINet, Path]:
    folder = tmp_path_factory.mktemp("models") / "one"
    return train_vinet(plan("vinet.importance=segnet"), 3, folder, "cpu"), folder


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedVINet, Path]:
    """On networks of two libraries, one of them for pictures of one size."""
    folder = tmp_path_factory.mktemp("models") / "foreign"
    chosen = plan("vinet.importance=smp:FPN", "vinet.classifier=timm:test_vit")
    return train_vinet(chosen, 0, folder, "cpu"), folder


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedVINet, Path]:
    folder = tmp_path_factory.mktemp("models") / "sealed"
    chosen = plan("sealed.importance=local", "sealed.epochs=1")
    return train_vinet(chosen, 3, folder, "cpu", method="vinet-sealed"), folder


@pytest.fixture(scope="session")
def slices() -> NDArray[np.uint8]:
    settings = plan().settings
    images = phantom(settings.phantom.model_copy(update={"size": settings.size})).images[:4]
    assert images.dtype == np.uint8
    return images.astype(np.uint8)


# -- dead maps


@pytest.mark.parametrize("level", [-1e4, -1e3, -100.0, -20.0, 0.0, 50.0, 1e3, 1e4])
def test_a_saturated_m0_still_has_a_gradient(level: float) -> None:
    draws = torch.Generator().manual_seed(0)
    m0 = (level + torch.randn(2, 1, 8, 8, generator=draws)).requires_grad_()
    m = normalized_softplus(m0)
    loss = (m * torch.rand(m.shape, generator=draws)).sum() + 0.25 * m.mean()
    (gradient,) = torch.autograd.grad(loss, m0)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).float().mean() > 0.9
    assert gradient.abs().max() > 0.1 / max(1.0, level)


@pytest.mark.parametrize("bias", [-1e3, -50.0, 50.0, 1e3])
def test_training_does_not_end_with_a_dead_map(bias: float) -> None:
    torch.manual_seed(0)
    importance = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.constant_(importance.bias, bias)  # type: ignore[arg-type]
    classifier = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    )  # fmt: skip
    model = VINet(importance, classifier, torch.zeros(1, 1, 16, 16))
    images = torch.rand(16, 1, 16, 16)
    data = Examples(images, torch.arange(16) % 2)
    before = importance.weight.detach().clone()
    settings = Training(epochs=4, batch=8, learning_rate=0.05)
    fit(model, VINetTask(1.0, 0.0, 0.0), data, data, settings, 0, CPU)
    assert not torch.equal(importance.weight, before)
    check_alive(model.importance_map(images)[:, 0].detach())


def test_a_constant_map_is_dead() -> None:
    maps = torch.rand(3, 4, 4)
    check_alive(maps)
    maps[1] = 1.0
    with pytest.raises(CellError, match="dead: its map is constant on 1 of 3 test pictures"):
        check_alive(maps)
    with pytest.raises(CellError, match=r"the sealed VINet's importance .* another sealed\."):
        check_alive(maps, "sealed")


class DeadVINet(VINet):
    """Its importance network gives the same everywhere."""

    def importance_map(self, images: Tensor) -> Tensor:
        return normalized_softplus(super().importance_map(images) * 0)


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "VINet", DeadVINet)


@pytest.mark.usefixtures("dead")
def test_a_dead_map_fails_its_cells_and_is_not_everything_reserved(tmp_path: Path) -> None:
    from vinet_bench.run import run
    from vinet_bench.stored_run import read_run

    changes = [*CHANGES, "retrain.epochs=1"]
    chosen = make_plan(preset="smoke", methods=["vinet", "random"], changes=changes)
    outcome = run(["occlusion"], chosen, tmp_path / "run", "cpu")
    failed = [r for r in read_run(outcome.folder).records if r.error]
    assert {r.cell.method for r in failed} == {"vinet", "random"}  # no budget for the control
    assert all("constant on 20 of 20 test pictures" in r.error for r in failed)
    assert all(r.value is None for r in failed)


@pytest.mark.usefixtures("dead")
def test_a_dead_model_is_not_saved(command: Command) -> None:
    ended = command("train", *SMALL, "--out", "model")
    assert ended.code == 1
    assert ended.err.startswith("failed: VINet's importance network is dead")
    assert [path.name for path in (command.folder / "model").iterdir()] == [".lock"]


# -- saved and loaded


FRESH = """
import sys, pathlib, numpy, torch
from vinet_bench.machine import Machine
from vinet_bench.models import TrainedVINet
images = torch.from_numpy(numpy.load(sys.argv[1]))[:, None]
for folder, found in zip(sys.argv[2::2], sys.argv[3::2]):
    model = TrainedVINet.load(pathlib.Path(folder), Machine(torch.device("cpu"), bfloat16=False))
    numpy.savez(found, probabilities=model.probabilities(images), maps=model.maps(images))
"""
Kept = tuple[TrainedVINet, Path]


@pytest.fixture(scope="module")
def loaded(
    trained: Kept, foreign: Kept, sealed: Kept, slices: NDArray[np.uint8],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """The folder with what a fresh process found, which loaded each model."""
    folder = tmp_path_factory.mktemp("fresh")
    np.save(folder / "slices.npy", slices)
    words = [sys.executable, "-c", FRESH, folder / "slices.npy"]
    words += [trained[1], folder / "trained.npz", foreign[1], folder / "foreign.npz"]
    words += [sealed[1], folder / "sealed.npz"]
    subprocess.run([str(word) for word in words], check=True)
    return folder


@pytest.mark.parametrize("which", ["trained", "foreign", "sealed"])
def test_a_fresh_process_gives_the_same_bits(
    which: str, request: pytest.FixtureRequest, slices: NDArray[np.uint8], loaded: Path
) -> None:
    model, _ = request.getfixturevalue(which)
    images = torch.from_numpy(slices)[:, None]
    with np.load(loaded / f"{which}.npz") as found:
        assert np.array_equal(found["probabilities"], model.probabilities(images).numpy())
        assert np.array_equal(found["maps"], model.maps(images).numpy())


def test_the_folder_can_be_read(trained: tuple[TrainedVINet, Path]) -> None:
    model, folder = trained
    names = {path.name for path in folder.iterdir()}
    assert names == {"weights.safetensors", "config.json", "metrics.json", "curves.png"}
    config = json.loads((folder / "config.json").read_text())
    assert config["vinet"]["importance"] == "segnet"
    assert (config["seed"], config["size"], len(config["class_names"])) == (3, [32, 32], 5)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert len(metrics["train_losses"]) == len(metrics["validation_losses"]) == 1
    assert metrics["test"]["slices"] == 20
    assert 0 <= metrics["test"]["accuracy"] <= 1
    with Image.open(folder / "curves.png") as curves:
        assert curves.format == "PNG"
    assert model.network.training is False


def test_a_sealed_model_says_what_it_is_and_holds_no_pictures(sealed: Kept) -> None:
    config = json.loads((sealed[1] / "config.json").read_text())
    assert config["method"] == "vinet-sealed"
    assert config["sealed"]["importance"] == "local"
    assert "vinet" not in config
    assert not sealed[0].network.state_dict()["donors"].any()


def test_a_model_of_an_earlier_version_is_a_vinet(trained: Kept, tmp_path: Path) -> None:
    config = json.loads((trained[1] / "config.json").read_text())
    del config["method"]
    (tmp_path / "weights.safetensors").write_bytes(
        (trained[1] / "weights.safetensors").read_bytes()
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert TrainedVINet.load(tmp_path, CPU).config == trained[0].config
    (tmp_path / "config.json").write_text(json.dumps(config | {"vinet": None}))
    with pytest.raises(UserError, match="does not read as a model"):
        TrainedVINet.load(tmp_path, CPU)


UNFINISHED = """
import os, signal
from vinet_bench import train_one
from vinet_bench.checkpoints import Checkpoint

class Killed(Checkpoint):
    saves = 0

    def due(self):
        return True

    def save(self, state):
        super().save(state)
        self.saves += 1
        if self.saves == 2:
            os.kill(os.getpid(), signal.SIGKILL)

train_one.Checkpoint = Killed
from vinet_bench.cli import main
main()
"""


@pytest.mark.slow
def test_a_killed_train_goes_on_to_the_same_bytes(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = command.folder / "whole", command.folder / "model"
    options = [*SMALL, "--set", "vinet.epochs=3", "--importance", "segnet", "--device", "cpu"]
    assert command("train", *options, "--out", str(whole)).code == 0
    words = [sys.executable, "-c", UNFINISHED, "train", *options, "--out", str(out)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    ended = subprocess.run(words, check=False, capture_output=True, env=os.environ | threads)
    assert ended.returncode == -signal.SIGKILL
    (kept,) = out.glob("training-*")
    found = [Checkpoint(kept).load()]
    monkeypatch.setattr(Checkpoint, "load", lambda self: found.pop() if self.path == kept else None)
    again = command("train", *options, "--out", str(out))
    assert (again.code, again.err) == (0, "")
    assert found == []  # it went on from there
    for name in ("weights.safetensors", "config.json", "metrics.json", "curves.png"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert len(list(out.iterdir())) == 4


@pytest.mark.parametrize("other", [["--seed", "4"], ["--set", "split.seed=5"]])
def test_another_train_does_not_go_on_from_it(
    command: Command, monkeypatch: pytest.MonkeyPatch, other: list[str]
) -> None:
    asked: list[str] = []

    def noted(*arguments: object) -> None:
        checkpoint = arguments[-1]
        assert isinstance(checkpoint, Checkpoint)
        asked.append(checkpoint.path.name)
        raise CellError("no training here")

    monkeypatch.setattr("vinet_bench.train_one.fit", noted)
    for options in ([], other, []):
        command("train", *SMALL, *options, "--out", "model")
    assert asked[0] == asked[2] != asked[1]


def test_train_trains_what_its_method_names(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[type, type]] = []

    def noted(network: VINet, task: object, *_: object) -> None:
        asked.append((type(network), type(task)))
        raise CellError("no training here")

    monkeypatch.setattr("vinet_bench.train_one.fit", noted)
    for words in ([], ["--method", "vinet-sealed", "--importance", "local"]):
        command("train", *SMALL, *words)
    assert asked == [(VINet, VINetTask), (SealedVINet, SealedTask)]
    folders = sorted(path.name for path in (command.folder / "results").iterdir())
    assert folders == ["phantom-smoke-vinet-sealed0", "phantom-smoke-vinet0"]


def test_a_stopped_train_says_that_it_goes_on(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vinet_bench.train_one.fit", stopped)
    ended = command("train", *SMALL, "--out", "model")
    assert ended.code == 130
    assert ended.err.startswith("stopped; the same command goes on where it was")


def test_train_on_a_full_disk_is_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vinet_bench.models.save_file", full)
    assert_one_line(command("train", *SMALL, "--out", "model"), "No space left on device")
    monkeypatch.undo()
    assert not (command.folder / "model" / "config.json").exists()


def test_train_says_what_came_out(command: Command) -> None:
    ended = command("train", *SMALL, "--out", "a model")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("test accuracy ")
    assert ended.out.endswith("config, metrics and curves are in a model\n")
    assert ended.out.count("\n") == 1


def test_a_model_is_never_written_over(
    trained: tuple[TrainedVINet, Path], command: Command
) -> None:
    assert_one_line(command("train", *SMALL, "--out", str(trained[1])), "holds a model already")
    assert not (trained[1] / ".lock").exists()


def test_two_never_train_into_one_folder(command: Command) -> None:
    folder = command.folder / "model"
    folder.mkdir()
    with alone(folder):
        assert_one_line(command("train", *SMALL, "--out", "model"), "another vinet-bench writes to")
    assert [path.name for path in folder.iterdir()] == [".lock"]
    assert command("train", *SMALL, "--out", "model").code == 0


def test_a_folder_that_does_not_read(trained: tuple[TrainedVINet, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        TrainedVINet.load(tmp_path, CPU)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="does not read as a model"):
        TrainedVINet.load(tmp_path, CPU)
    (tmp_path / "config.json").write_bytes((trained[1] / "config.json").read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="does not fit its config"):
        TrainedVINet.load(tmp_path, CPU)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--importance", "unett"], ["vinet.importance 'unett'", "'unet'"]),
        (["--classifier", "timm:resnet81"], ["vinet.classifier 'timm:resnet81'", "timm:resnet"]),
        (["--preset", "smokee"], ["preset 'smokee'"]),
        (["--data", "missing"], ["data set 'missing'"]),
        (["--method", "vinet-seal"], ["method 'vinet-seal'", "'vinet-sealed'"]),
        (["--method", "cam"], ["--method cam", "classifier of `vinet-bench run`"]),
        (
            ["--method", "vinet-sealed", "--importance", "unett"],
            ["sealed.importance 'unett'", "'unet'"],
        ),
    ],
)
def test_a_mistake_in_train_is_one_line(
    command: Command, arguments: list[str], words: list[str]
) -> None:
    assert_one_line(command("train", *SMALL, *arguments), *words)
    assert list(command.folder.iterdir()) == []


@pytest.mark.parametrize(("which", "kind"), [("trained", "vinet"), ("sealed", "sealed")])
def test_train_is_the_vinet_of_run(
    which: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from vinet_bench.data import load_data
    from vinet_bench.data.splits import split_slices
    from vinet_bench.progress import Silent
    from vinet_bench.run import choose_machine
    from vinet_bench.store import Store
    from vinet_bench.workshop import Workshop

    model, _ = request.getfixturevalue(which)
    chosen = plan("vinet.importance=segnet", "sealed.importance=local", "sealed.epochs=1")
    data, wanted = load_data(chosen), chosen.settings.split
    split = split_slices(data, wanted.validation, wanted.test, wanted.seed, wanted.by)
    machine = choose_machine("cpu", chosen.settings.precision)
    shop = Workshop(chosen, data, split, Store(tmp_path / "run"), machine, Silent())
    ours, theirs = model.network.state_dict(), shop.explained(kind, 3).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# -- explain


def hounsfield(slices: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Grey 0..255 as -1000..400 HU."""
    return np.round(slices * (1400 / 255) - 1000).astype(np.int16)


@pytest.fixture
def pictures(slices: NDArray[np.uint8], command: Command) -> dict[str, Path]:
    """One slice in every format, and a volume that has it in the middle."""
    folder, hu = command.folder, hounsfield(slices)
    Image.fromarray(slices[2]).save(folder / "one.png")
    Image.fromarray(slices[2]).save(folder / "one.jpg", quality=100)
    np.save(folder / "one.npy", hu[2])
    ct = SimpleITK.GetImageFromArray(hu[2:3])
    for modality, name in (("CT", "one.dcm"), ("MR", "mr.dcm")):
        ct.SetMetaData("0008|0060", modality)
        SimpleITK.WriteImage(ct, folder / name)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(hu), folder / "volume.mhd")
    (folder / "IM0001").write_bytes((folder / "one.dcm").read_bytes())
    for name in ("bad.png", "bad.dcm", "bad.npy", "bad.txt"):
        (folder / name).write_bytes(b"damaged" * 50)
    (folder / "bad.mhd").write_text("ObjectType = Image\nElementDataFile = missing.raw\n")
    return {path.name: path for path in folder.iterdir()}


def test_every_format_is_the_same_slice(
    pictures: dict[str, Path], slices: NDArray[np.uint8]
) -> None:
    for name in ("one.png", "one.jpg", "one.npy", "one.dcm", "IM0001", "volume.mhd"):
        found = read_slice(pictures[name], 32)
        unit = found.pixels / 255 if found.pixels.dtype == np.uint8 else found.pixels
        tolerance = 0.03 if name == "one.jpg" else 0.001
        assert np.abs(unit - slices[2] / 255).max() < tolerance
        assert ("4 slices" in found.note) == (name == "volume.mhd")
    other = read_slice(pictures["volume.mhd"], 32, number=1)
    assert np.abs(other.pixels - slices[1] / 255).max() < 0.001
    assert other.note == ""
    assert read_slice(pictures["one.dcm"], 64).pixels.shape == (64, 64)


def test_explain(
    trained: tuple[TrainedVINet, Path],
    slices: NDArray[np.uint8],
    pictures: dict[str, Path],
    command: Command,
) -> None:
    names = ["one.png", "one.npy", "one.dcm", "volume.mhd"]
    ended = command("explain", *names, "--model", str(trained[1]), "--out", "out")
    assert (ended.code, ended.err) == (0, "")
    files = ["one-vinet.png", "one-vinet-2.png", "one-vinet-3.png", "volume-vinet.png"]
    for file in files:
        assert f"out/{file}" in ended.out
        with Image.open(command.folder / "out" / file) as image:
            assert image.format == "PNG"
            assert image.width > 2 * image.height
    assert "volume.mhd has 4 slices: took the middle one, --slice 2" in ended.out
    expected = trained[0].probabilities(torch.from_numpy(slices[2:3])[:, None])[0]
    row = next(line for line in ended.out.splitlines() if "one.png" in line)
    assert row.split()[-5:] == [f"{100 * p:.2f}" for p in expected.tolist()]


def test_a_sealed_model_explains_itself(
    sealed: Kept, pictures: dict[str, Path], command: Command
) -> None:
    words = ("explain", "one.png", "--model", str(sealed[1]), "--out", "out")
    ended = command(*words)
    assert (ended.code, ended.err) == (0, "")
    assert [path.name for path in (command.folder / "out").iterdir()] == ["one-vinet-sealed.png"]
    told = ["--method vinet", "which vinet-sealed explains", "train --method vinet`"]
    assert_one_line(command(*words, "--method", "vinet"), *told)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.png"], ["missing.png does not exist"]),
        (["bad.png"], ["bad.png cannot be read", "damaged?"]),
        (["bad.npy"], ["bad.npy cannot be read", "damaged"]),
        (["bad.dcm"], ["bad.dcm cannot be read", "damaged?"]),
        (["bad.txt"], ["bad.txt is of an unknown kind", ".png", ".dcm", ".mhd"]),
        (["bad.mhd"], ["bad.mhd has the NDims ''", "a scan has 3"]),
        (["mr.dcm"], ["modality MR", "only CT"]),
        (["volume.mhd", "--slice", "4"], ["--slice 4", "0 to 3"]),
        (["one.png", "--method", "vinett"], ["method 'vinett'", "did you mean 'vinet'?"]),
        (
            ["one.png", "--method", "cam"],
            ["--method cam", "classifier of `vinet-bench run`", "run all --methods vinet,cam"],
        ),
        (["one.png", "--method", "vinet-sealed"], ["another VINet", "which vinet explains"]),
        (["one.png", "--method", "random"], ["--method random", "control"]),
        (["one.png", "--method", "outline"], ["--method outline", "explains no network"]),
        (["one.png", "--model", "."], [". holds no model", "config.json"]),
    ],
)
def test_a_mistake_in_explain_is_one_line(
    trained: tuple[TrainedVINet, Path],
    pictures: dict[str, Path],
    command: Command,
    arguments: list[str],
    words: list[str],
) -> None:
    model = [] if "--model" in arguments else ["--model", str(trained[1])]
    assert_one_line(command("explain", *arguments, *model, "--out", "out"), *words)
    assert not (command.folder / "out").exists()


def test_itk_says_nothing_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    coded = READERS["dicom"].seeds["1.dcm"]
    damaged = coded.replace(b"\xff\x52", b"\xff\x53")  # how the JPEG 2000 stream is coded
    assert damaged != coded
    (tmp_path / "bad.dcm").write_bytes(damaged)
    with pytest.raises(UserError, match="cannot be read"):
        read_slice(tmp_path / "bad.dcm", 32)
    assert capfd.readouterr() == ("", "")


def test_the_overlay_is_red_where_the_map_is_high() -> None:
    picture, heat = np.full((1, 2), 0.5, np.float32), np.array([[0.0, 1.0]], np.float32)
    expected = [[[0.5, 0.5, 0.5], [0.78, 0.36, 0.15]]]
    np.testing.assert_allclose(overlay(picture, heat), expected, rtol=1e-6)


def test_the_overlay_of_a_slice_that_leaves_its_range_is_drawn_without_a_word() -> None:
    assert overlay(np.array([[1 + 1e-7, -1e-7]]), np.zeros((1, 2))).tolist() == [
        [[1.0] * 3, [0.0] * 3]
    ]
