"""The README and the docs: every block runs, every command parses, every name and link is there."""

import configparser
import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from baselines import METHODS
from tests.commands import Command
from tests.docs import (
    PAGES,
    ROOT,
    UNMARKED,
    Block,
    bench_arguments,
    blocks,
    commands,
    every_block,
    python_of,
)
from vinet_bench import cli, cli_run
from vinet_bench.check_one import example_case
from vinet_bench.checks import method_checks
from vinet_bench.data.folder import load_folder
from vinet_bench.protocols import protocols

README, ADDING = ROOT / "README.md", ROOT / "docs" / "adding.md"
LANGUAGES = {"python", "sh", "csv", "ini", "text"}
# Cheap enough to be really run, in a folder that holds the pages' Python as mypackage.py.
CHEAP = {
    "list methods": README.parent / "docs" / "usage.md",
    "check mypackage:InputTimesGradient": README,
    "check mypackage:SquaredGradient": ADDING,
}
SHELL = every_block("sh")


def bench_commands() -> list[Any]:
    return [
        pytest.param(arguments, id=f"{block.place} {' '.join(arguments)}")
        for block in SHELL
        for words in commands(block)
        if (arguments := bench_arguments(words)) is not None
    ]


def program(page: Path) -> dict[str, Any]:
    """What a page's Python leaves, after it was run in the working folder."""
    space: dict[str, Any] = {"__name__": page.stem}
    exec(compile(python_of(page), str(page), "exec"), space)
    return space


def test_blocks_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "words\n\n<!-- not run: takes long -->\n```sh\nfor p in 1 2; do a --set x=$p; done\n"
        "b \\\n  c && d  # e\n```\n\n```python\nx = 1\n```\n"
    )
    shell, python = blocks(page)
    assert (shell.language, shell.line, shell.mark) == ("sh", 4, "not run")
    assert shell.reason == "takes long"
    loop, inner, done, bc, d = commands(shell)
    assert loop[0] == "for"
    assert (inner, done) == (["a", "--set", "x=1"], ["done"])
    assert (bc, d) == (["b", "c"], ["d"])
    assert python_of(page).splitlines()[python.line] == "x = 1"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        if page.name not in UNMARKED:
            assert block.language in LANGUAGES, block.place
            assert (block.mark == "output of") == (block.language == "text"), block.place
    assert len(blocks(page)) * 2 == len(re.findall("^```", page.read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", [p for p in PAGES if python_of(p)], ids=lambda page: page.name)
def test_the_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(program(page)) > 2


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_what_is_no_command_of_ours_is_marked(block: Block) -> None:
    for words in commands(block):
        if bench_arguments(words) is None and words[0] not in ("for", "done"):
            assert block.mark == "not run" or is_module(words), words


def is_module(words: list[str]) -> bool:
    """python -m MODULE of this repository, with options that it has."""
    if words[:2] != ["python", "-m"]:
        return False
    source = ROOT / (words[2].replace(".", "/") + ".py")
    options = [word for word in words[3:] if word.startswith("--")]
    return source.is_file() and all(f'"{word}"' in source.read_text() for word in options)


@pytest.mark.parametrize("arguments", bench_commands())
def test_the_commands_parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command's own parser; of `run` the plan is made too, so that names are known."""
    asked: list[str] = []
    for stop in ("_carry_out", "_foretell"):
        monkeypatch.setattr(cli_run, stop, lambda protocol, *rest: asked.append(protocol))
    monkeypatch.setitem(METHODS, "ixg", METHODS["input-x-gradient"])  # the README's example
    names, group = list(arguments), typer.main.get_command(cli.app)
    while (inner := getattr(group, "commands", None)) is not None:
        assert names, "a group of commands alone"
        group = inner[names.pop(0)]
    context = group.make_context("vinet-bench", names)
    needs_files = any(context.params.get(name) for name in ("maps", "checkpoint"))
    if arguments[0] == "run" and not needs_files:
        group.invoke(context)
        assert asked[0] in {"all", "everything", *protocols()}


@pytest.mark.parametrize("line", CHEAP)
def test_cheap_commands_run(line: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    page = CHEAP[line]
    shell = [block for block in blocks(page) if block.language == "sh"]
    assert line.split() in [bench_arguments(words) for block in shell for words in commands(block)]
    monkeypatch.delitem(sys.modules, "mypackage", raising=False)
    first = next((b.text for b in blocks(page) if b.language == "python"), "")
    (command.folder / "mypackage.py").write_text(first, encoding="utf-8")
    ended = command(*line.split())
    assert ended.code == 0, ended.out + ended.err
    assert "cam" in ended.out or ended.out.count("ok ") == 10


def test_the_readmes_method_holds_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case = example_case(program(README)["InputTimesGradient"])
    assert {what: why for what, why in method_checks(case) if why} == {}


def test_the_readmes_folder_is_read(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(README) if block.language == "csv"]
    (tmp_path / "labels.csv").write_text(block.text, encoding="utf-8")
    for line in block.text.splitlines()[1:]:
        for name in (line.split(",")[0], line.split(",")[3]):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(tmp_path / name)
    data = load_folder(tmp_path, None, 64, "column")
    assert data.patients.tolist() == ["P-0001", "P-0002"]
    assert data.evidence is not None
    assert data.evidence.any(axis=(1, 2)).all()


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_entry_points_are_those_that_are_read() -> None:
    (block,) = every_block("ini")
    parser = configparser.ConfigParser()
    parser.read_string(block.text)
    groups = parser["options.entry_points"]
    sources = [ROOT / "vinet_bench" / name for name in ("methods.py", "protocols.py")]
    read = "".join(path.read_text() for path in [*sources, ROOT / "vinet_bench/data/__init__.py"])
    assert len(groups) == 3
    for group, line in groups.items():
        assert f'entry_points(group="{group}")' in read
        assert re.search(rf"^(class|def) {line.rpartition(':')[2]}\b", python_of(ADDING), re.M)


def test_what_is_added_has_its_row_in_a_table(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The method, the protocol and the data set of docs/adding.md, by their entry points."""
    (command.folder / "page").mkdir()
    monkeypatch.chdir(command.folder / "page")
    page = program(ADDING)
    found = {"methods": "SquaredGradient", "protocols": "Border", "datasets": "discs"}
    names = {"methods": "squared", "protocols": "border", "datasets": "discs"}

    def points(group: str) -> list[SimpleNamespace]:
        kind = group.removeprefix("vinet_bench.")
        return [SimpleNamespace(name=names[kind], load=lambda: page[found[kind]])]

    for module in ("methods", "protocols", "data"):
        monkeypatch.setattr(f"vinet_bench.{module}.entry_points", points)
    options = ("--data", "discs", "--methods", "squared,centre", "--preset", "smoke")
    ended = command("run", "border", *options, "--out", "run")
    assert ended.code == 0, ended.err
    table = (command.folder / "page" / "run" / "border.md").read_text(encoding="utf-8")
    assert "Relevance in the outer tenth of the pictures of discs" in table
    assert re.search(r"^\| Squared gradient +\| +\d", table, re.MULTILINE)
    assert re.search(r"^\| Centre +\| +\d", table, re.MULTILINE)


EQUATIONS = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
NAMES = re.findall(r"`((?:vinet_bench|protocols)\.[\w.]+)`", EQUATIONS)


@pytest.mark.parametrize("name", dict.fromkeys(NAMES))
def test_what_an_equation_points_at_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    owner: Any
    try:
        owner = importlib.import_module(module)
    except ModuleNotFoundError:  # a method of a class
        package, _, kind = module.rpartition(".")
        owner = getattr(importlib.import_module(package), kind)
    assert hasattr(owner, attribute)


def test_each_equation_has_its_row() -> None:
    rows = re.findall(r"^\| ([\d, ]+(?: to \d+)?(?:, where)?) \|", EQUATIONS, re.MULTILINE)
    named = {int(number) for row in rows for number in re.findall(r"\d+", row)}
    assert named == set(range(1, 11))


@pytest.mark.parametrize("name", protocols())
def test_every_protocol_has_its_section(name: str) -> None:
    assert f"\n## {name}\n" in (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
