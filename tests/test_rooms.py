"""The house's arrows: which room may import which, read from the sources."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def sources(*places: str) -> list[Path]:
    """The modules in these folders, or these files, below the repository."""
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert found
    return found


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> list[str]:
    return list(path.relative_to(ROOT).parent.parts)


def names(node: ast.AST, package: list[str]) -> Iterator[str]:
    """The modules that one statement imports, dotted and absolute."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)


def imports(path: Path) -> set[str]:
    """Everything that a file imports anywhere, also inside functions and for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {name for node in ast.walk(tree) for name in names(node, package_of(path))}


def imports_of_its_own(path: Path) -> set[str]:
    """What importing the file imports: not inside functions, not under TYPE_CHECKING."""
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        found |= set(names(node, package_of(path)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
    return found


def tops(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_the_reader_of_imports(tmp_path: Path) -> None:
    path = ROOT / "vinet_bench" / "data" / "made_up.py"
    tree = ast.parse("from . import x\nfrom .a import b\nfrom ..c import d\nimport e.f as g")
    found = {name for node in ast.walk(tree) for name in names(node, package_of(path))}
    assert found == {
        "vinet_bench.data", "vinet_bench.data.x", "vinet_bench.data.a", "vinet_bench.data.a.b",
        "vinet_bench.c", "vinet_bench.c.d", "e.f",
    }  # fmt: skip


@pytest.mark.parametrize("path", sources("vinet_bench/report"), ids=where)
def test_reports_know_neither_torch_nor_the_other_rooms(path: Path) -> None:
    assert not tops(imports(path)) & {"torch", "baselines", "protocols"}
    inner = {name for name in imports(path) if name.startswith("vinet_bench.")}
    others = {name for name in inner if not name.startswith("vinet_bench.report")}
    rooms = ("store", "writing", "records", "errors", "stats", "data", "__version__")
    allowed = tuple(f"vinet_bench.{room}" for room in rooms)
    assert all(name.startswith(allowed) for name in others)


@pytest.mark.parametrize("path", sources("vinet_bench/data"), ids=where)
def test_data_knows_no_torch(path: Path) -> None:
    assert "torch" not in tops(imports(path))


ALONE = tuple(f"vinet_bench/{name}.py" for name in ("vinet", "destruction", "places", "hooks"))


@pytest.mark.parametrize("path", sources(*ALONE), ids=where)
def test_vinet_stands_alone(path: Path) -> None:
    found = imports(path)
    assert tops(found) <= {"torch", "vinet_bench"} | sys.stdlib_module_names
    inner = {name for name in found if name.startswith("vinet_bench")}
    near = tuple(f"vinet_bench.{name}" for name in ("hooks", "places", "destruction"))
    assert all(name.startswith(near) for name in inner)


@pytest.mark.parametrize("room", ["baselines", "protocols"])
def test_outer_rooms_do_not_know_each_other(room: str) -> None:
    (other,) = {"baselines", "protocols"} - {room}
    for path in sources(room):
        found = imports(path)
        assert other not in tops(found), path
        assert not {"vinet_bench.cli", "vinet_bench.run", "vinet_bench.report"} & found, path


@pytest.mark.parametrize("path", sources("vinet_bench"), ids=where)
def test_arrows_point_inward(path: Path) -> None:
    """Only the two registries look out, and only when they are asked."""
    registry = {"methods.py": {"baselines"}, "protocols.py": {"protocols"}}
    looks_out = path.parent.name == "vinet_bench" and registry.get(path.name, set())
    assert tops(imports(path)) & {"baselines", "protocols"} <= (looks_out or set())
    assert not tops(imports_of_its_own(path)) & {"baselines", "protocols"}


@pytest.mark.parametrize("path", sources("vinet_bench"), ids=where)
def test_only_the_command_sees_every_room(path: Path) -> None:
    if not path.name.startswith("cli"):
        assert not {n for n in imports(path) if n.startswith("vinet_bench.cli")}


def test_networks_and_masks_see_no_store_or_plan() -> None:
    for path in sources(
        "vinet_bench/networks", "vinet_bench/masks.py", "vinet_bench/metrics.py",
        "vinet_bench/stats.py", "vinet_bench/seeds.py",
    ):  # fmt: skip
        later = ("store", "plan", "workshop", "run", "report", "cli", "training", "prediction")
        assert not {f"vinet_bench.{name}" for name in later} & imports(path), path


def test_light_rooms_load_without_torch() -> None:
    """What a room imports through others counts too."""
    script = (
        "import sys; import vinet_bench, vinet_bench.cli, vinet_bench.data, vinet_bench.report,"
        " vinet_bench.plan, vinet_bench.store, vinet_bench.methods, vinet_bench.protocols;"
        " print(sorted({'torch', 'baselines', 'protocols', 'timm'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", script]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
