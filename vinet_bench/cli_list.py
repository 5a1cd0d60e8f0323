"""`vinet-bench list`: what can be named in options."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table as Grid

from vinet_bench.consoles import out_console


class Listing(StrEnum):
    """What `list` lists."""

    methods = "methods"
    protocols = "protocols"
    datasets = "datasets"
    networks = "networks"
    presets = "presets"
    settings = "settings"


def list_command(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List what can be named in options."""
    grid = Grid(box=None, show_header=False, padding=(0, 2, 0, 0))
    for cells in LISTINGS[what]():
        grid.add_row(*cells)
    out_console.print(grid)


def _list_methods() -> list[tuple[str, ...]]:
    from vinet_bench.methods import methods

    infos = [factory().info for factory in methods().values()]
    named = [(i.name, i.kind, f"explains {i.explains}", i.paper, _cost(i)) for i in infos]
    return [*named, ("blurred:NAME", "control", "any of these, smoothed", "", "as NAME")]


def _cost(info: Any) -> str:
    return f"{info.forwards} forward, {info.backwards} backward{', costly' * info.costly}"


def _list_protocols() -> list[tuple[str, ...]]:
    from vinet_bench.protocols import protocols

    infos = [factory().info for factory in protocols().values()]
    return [(i.name, i.title, i.paper, f"trains {i.trainings}" * bool(i.trainings)) for i in infos]


def _list_datasets() -> list[tuple[str, ...]]:
    from vinet_bench.data import sources

    named = [(name, _first_line(source)) for name, source in sources().items()]
    return [
        *named,
        ("DIR", "any folder with labels.csv: image, label, patient; mask, split"),
        ("DIR", "what `data prepare` wrote: LUNA16, LIDC, NoduleMNIST3D"),
    ]


def _list_networks() -> list[tuple[str, ...]]:
    from vinet_bench.networks import CLASSIFIERS, IMPORTANCE

    return [
        *((name, "classifier", _first_line(build)) for name, build in CLASSIFIERS.items()),
        ("timm:NAME", "classifier", "any of timm's, e.g. timm:convnext_tiny"),
        *((name, "importance", _first_line(build)) for name, build in IMPORTANCE.items()),
        (
            "smp:NAME",
            "importance",
            "any of segmentation_models_pytorch's, e.g. smp:FPN",
        ),
    ]


def _first_line(made: object) -> str:
    """The first line of its docstring."""
    return (made.__doc__ or "").strip().partition("\n")[0]


def _list_presets() -> list[tuple[str, ...]]:
    from vinet_bench.presets import PRESETS

    return [(name, preset.about) for name, preset in PRESETS.items()]


def _list_settings() -> list[tuple[str, ...]]:
    from vinet_bench.settings import setting_names

    return list(setting_names().items())


LISTINGS: dict[Listing, Callable[[], list[tuple[str, ...]]]] = {
    Listing.methods: _list_methods,
    Listing.protocols: _list_protocols,
    Listing.datasets: _list_datasets,
    Listing.networks: _list_networks,
    Listing.presets: _list_presets,
    Listing.settings: _list_settings,
}
