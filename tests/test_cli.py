"""The command: a mistake is one line that says what to do, and nothing is made."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Command, assert_one_line
from vinet_bench.presets import PRESETS
from vinet_bench.settings import setting_names

KEEP = ("run", "keep-important", "--preset", "smoke", "--methods", "random")


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "vinett"], ["method 'vinett'", "did you mean 'vinet'?"]),
        (["--methods", "cam,,lrp"], ["method ''", "known: "]),
        (["--methods", "qqqq"], ["method 'qqqq'", "known: ablationcam, cam, centre"]),
        (["--preset", "smok"], ["preset 'smok'", "did you mean 'smoke'?"]),
        (["--preset", "xyzzy"], ["preset 'xyzzy'", "known: paper, quick, smoke, standard"]),
        (["--data", "phantm"], ["data set 'phantm'", "'phantom'", "labels.csv"]),
        (["--data", "missing/folder"], ["missing/folder", "does not exist", "labels.csv"]),
        (["--data", "."], ["has no labels.csv", "image, label, patient"]),
        (["--set", "vinet.alhpa=1"], ["setting 'vinet.alhpa'", "did you mean 'vinet.alpha'?"]),
        (["--set", "nonsense"], ["--set nonsense", "key=value", "vinet.alpha=1"]),
        (["--set", "vinet=3"], ["setting 'vinet'"]),
        (["--set", "=3"], ["setting ''"]),
        (["--set", "vinet.alpha=abc"], ["--set vinet.alpha=abc", "number"]),
        (["--set", "vinet.alpha=-1"], ["--set vinet.alpha=-1", "greater than or equal to 0"]),
        (["--set", "vinet.alpha=nan"], ["--set vinet.alpha=nan", "number"]),
        (["--set", "vinet.alpha=inf"], ["--set vinet.alpha=inf", "finite"]),
        (["--set", "vinet.shift=nan"], ["--set vinet.shift=nan", "finite"]),
        (["--set", "vinet.epochs="], ["--set vinet.epochs=", "integer"]),
        (["--set", "vinet.epochs=1.5"], ["--set vinet.epochs=1.5", "integer"]),
        (["--set", "retrain.batch=1"], ["--set retrain.batch=1", "2"]),
        (["--set", "split.by=patients"], ["--set split.by=patients", "'patient' or 'slice'"]),
        (["--set", "split.test=0.7", "--set", "split.validation=0.4"], ["split.test", "below 1"]),
        (["--set", "control_budget=abc"], ["--set control_budget=abc", "'vinet'", "number"]),
        (["--set", "control_budget=7"], ["--set control_budget=7", "'vinet'", "less than 1"]),
        (["--set", "vinet.importance=unett"], ["vinet.importance 'unett'", "'unet'"]),
        (["--set", "vinet.classifier=resnet81"], ["vinet.classifier 'resnet81'", "'resnet18'"]),
        (["--set", "sealed.importance=unett"], ["sealed.importance 'unett'", "'unet'"]),
        (["--set", "sealed.classifier=timm:x"], ["sealed.classifier 'timm:x'", "did you mean"]),
        (
            ["--set", "vinet.destruction=released", "--set", "vinet.classifier=vgg19"],
            ["--set vinet.classifier=vgg19", "destruction=released is for a ResNet"],
        ),
        (["--importance", "smp:FNP"], ["vinet.importance 'smp:FNP'", "'smp:FPN'"]),
        (["--classifier", "convnext_tiny"], ["vinet.classifier", "'timm:convnext_tiny'"]),
        (["--classifier", "timm:hiera_tiny_224"], ["timm:hiera_tiny_224", "height and width"]),
        (["--explain", "timm:resnet81"], ["--explain 'timm:resnet81'", "did you mean 'timm:resn"]),
        (["--checkpoint", "gone.pt"], ["--checkpoint gone.pt", "cannot be read"]),
        (["--set", "explained.weights=abc"], ["setting 'explained.weights'"]),
        (["--maps", "mine=gone"], ["--maps mine=gone", "holds neither ID.npy"]),
        (["--set", "a\nb"], ["key=value"]),
        (["--size", "5"], ["--size 5", "16 to 1024"]),
        (["--size", "100000"], ["--size 100000", "16 to 1024"]),
        (["--threshold", "0"], ["--threshold 0", "between 0 and 1", "0.9"]),
        (["--threshold", "1"], ["--threshold 1", "between 0 and 1"]),
        (["--threshold", "1.5"], ["--threshold 1.5", "between 0 and 1"]),
        (["--threshold", "-0.5"], ["--threshold -0.5", "between 0 and 1"]),
        (["--threshold", "nan"], ["--threshold nan", "between 0 and 1"]),
        (["--seeds", "0"], ["--seeds 0", "at least one"]),
        (["--seeds", "-3"], ["--seeds -3", "at least one"]),
    ],
    ids=lambda value: " ".join(value).replace("\n", " ") if value[0].startswith("--") else "",
)
def test_a_mistake_is_one_line_and_nothing_is_made(
    command: Command, arguments: list[str], words: list[str]
) -> None:
    assert_one_line(command(*KEEP, *arguments), *words)
    assert_one_line(command(*KEEP, "--out", "out", *arguments), *words)
    assert list(command.folder.iterdir()) == []


def test_the_row_of_a_table_passes_through(command: Command) -> None:
    mine = command.folder / "mine"
    mine.mkdir()
    (mine / "labels.csv").write_text("image,label,patient\na.png,0,P1\nb.png,1,P2\n")
    ended = command(*KEEP, "--data", "mine", "--out", "out")
    assert_one_line(ended, "labels.csv row 2", "a.png", "does not exist")
    (mine / "labels.csv").write_text("image,label\na.png,0\n")
    assert_one_line(command(*KEEP, "--data", "mine"), "'patient'", "--patients unknown")
    assert [path.name for path in command.folder.iterdir()] == ["mine"]


def test_an_out_folder_that_cannot_be_written(command: Command) -> None:
    (command.folder / "file").write_text("mine")
    for out in ("file", "file/run"):
        ended = command(*KEEP, "--set", "phantom.slices=60", "--out", out)
        assert_one_line(ended, f"cannot write the run's folder {out}", "--out")
    assert (command.folder / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no run below results", "vinet-bench run all"]),
        (["missing"], ["missing holds no run", "records.sqlite"]),
        (["."], [". holds no run"]),
        ([".", "--format", "pdf"], ["format 'pdf'", "csv, figures, html, md, tex"]),
        ([".", "--format", "texx"], ["format 'texx'", "did you mean 'tex'?"]),
        (["a?b#c"], ["a?b#c holds no run"]),
        ([":bug: [red]x"], [":bug: [red]x holds no run"]),
    ],
)
def test_a_report_of_nothing(command: Command, arguments: list[str], words: list[str]) -> None:
    assert_one_line(command("report", *arguments), *words)
    assert list(command.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "all", "--colour"], ["--colour"]),
        (["run", "all", "--device", "tpu"], ["--device", "'tpu'", "cuda"]),
        (["run", "all", "--seeds", "x"], ["--seeds", "integer"]),
        (["run", "all", "--threshold", "much"], ["--threshold", "a valid "]),
        (["run", "all", "--patients", "some"], ["--patients", "'some'", "unknown"]),
        (["list", "method"], ["'method'", "'methods'"]),
        (["lst"], ["lst"]),
    ],
)
def test_what_typer_refuses(command: Command, arguments: list[str], words: list[str]) -> None:
    ended = command(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    for word in words:
        assert word in ended.err
    assert "Traceback" not in ended.err
    assert list(command.folder.iterdir()) == []


def test_no_gpu_is_said_before_anything_is_made(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = importlib.import_module("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_one_line(command(*KEEP, "--device", "cuda"), "--device cuda", "--device cpu")
    assert list(command.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("occlusio", ["protocol 'occlusio'", "did you mean 'occlusion'?"]),
        ("xyzzy", ["protocol 'xyzzy'", "known: ", "keep-important, localisation"]),
    ],
)
def test_an_unknown_protocol(command: Command, name: str, words: list[str]) -> None:
    assert_one_line(command("run", name, *KEEP[2:]), *words)
    assert list(command.folder.iterdir()) == []


@pytest.mark.parametrize(("room", "names"), [("baselines", "METHODS"), ("protocols", "PROTOCOLS")])
def test_another_package_of_the_same_name(
    command: Command, monkeypatch: pytest.MonkeyPatch, room: str, names: str
) -> None:
    monkeypatch.delattr(importlib.import_module(room), names)
    assert_one_line(command(*KEEP), f"another package named '{room}'", "uninstall")


# ---- what it tells


def test_help_is_whole_and_light() -> None:
    """Every --help ends well and loads no torch: it must answer at once."""
    script = """
import contextlib, io, sys
from vinet_bench.cli import main
for words in ([], ["run"], ["report"], ["figure"], ["list"], ["train"], ["explain"], ["data"]):
    sys.argv = ["vinet-bench", *words, "--help"]
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            main()
    except SystemExit as ended:
        assert not ended.code, words
    assert "Usage: vinet-bench " + " ".join(words) in text.getvalue(), words
for words in (["--version"], ["list", "presets"], ["list", "settings"]):
    sys.argv = ["vinet-bench", *words]
    with contextlib.suppress(SystemExit):
        main()
heavy = {"torch", "timm", "sklearn", "matplotlib", "captum"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    words = [sys.executable, "-c", script]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_listing_methods_needs_none_of_their_libraries() -> None:
    """zennit alone takes torchvision and torch's compiler with it, which is seconds."""
    script = """
import sys
from vinet_bench.cli import main
sys.argv = ["vinet-bench", "list", "methods"]
try:
    main()
except SystemExit as ended:
    assert not ended.code
heavy = {"zennit", "captum", "timm", "torchvision", "pytorch_grad_cam", "sklearn", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    words = [sys.executable, "-c", script]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "excitation-backprop" in ended.stdout


def test_no_words_at_all_show_the_help(command: Command) -> None:
    ended = command()
    assert "Usage: vinet-bench" in ended.out + ended.err
    assert ended.code in (0, 2)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("methods", ["vinet", "cam", "vbp", "lrp", "random", "outline", "control", "oracle"]),
        ("protocols", ["keep-important", "occlusion", "Table II", "Table IV", "12 VINets"]),
        ("datasets", ["phantom", "folder with labels.csv"]),
        ("networks", ["resnet18", "deeplabv3plus", "classifier", "importance"]),
        ("presets", list(PRESETS)),
        ("settings", list(setting_names())),
    ],
)
def test_listings(command: Command, what: str, words: list[str]) -> None:
    ended = command("list", what)
    assert (ended.code, ended.err) == (0, "")
    printed = ended.out.split()
    for word in words:
        assert word in (printed if " " not in word else ended.out)
    assert "\x1b" not in ended.out
    assert list(command.folder.iterdir()) == []


def test_a_network_is_one_line_however_much_is_said_of_it(command: Command) -> None:
    from vinet_bench.networks import CLASSIFIERS, IMPORTANCE

    names = [line.split()[0] for line in command("list", "networks").out.splitlines()]
    assert names == [*CLASSIFIERS, "timm:NAME", *IMPORTANCE, "smp:NAME"]


def test_every_method_of_the_default_is_listed(command: Command) -> None:
    from vinet_bench.presets import DEFAULT_METHODS

    assert set(DEFAULT_METHODS) <= set(command("list", "methods").out.split())


def test_a_long_path_is_not_folded(command: Command) -> None:
    """A pipe that reads the paths gets them whole."""
    from vinet_bench.records import Cell, Record
    from vinet_bench.store import Store

    folder = Path("[red]") / ("long" * 50) / ":bug:"
    store = Store(folder)
    cell = Cell("occlusion", "original", 0, budget="everything")
    row = {"name": "original", "title": "Original", "kind": "reference"}
    store.start("plan", {"rows": [row]}, 1.0)
    store.add("plan", "key", cell, [Record(cell, "accuracy", 0.5, 20)])
    store.close()
    ended = command("report", str(folder), "--format", "csv,md")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [str(folder / "table2.csv"), str(folder / "table2.md")]
    assert all(Path(line).is_file() for line in ended.out.splitlines())
