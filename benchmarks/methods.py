"""Every method's maps a second, beside one forward pass of the VGG-16.

    python -m benchmarks.methods [NAME ...] [--size 64] [--width 0.5] [--batch 16] [--rounds 3]

Each round times one forward pass of a batch through the VGG-16 and then each method's maps of the
same batch (costly ones: of a quarter of it); printed are the median of maps a second, the time of a
map as a multiple of one picture's forward pass (minimum, median, maximum over the rounds), and the
passes that the method declares. Fitting is timed once, apart.
"""

import argparse
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.turns import seconds
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.phantom import PhantomSettings, phantom
from vinet_bench.methods import MethodInfo, SaliencyMethod, in_order, method, methods
from vinet_bench.models import build_vinet
from vinet_bench.networks import build_classifier
from vinet_bench.presets import PRESETS


def main() -> None:
    """Fits each method to an untrained network, measures, and prints a line for each."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*")
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--width", type=float, default=0.5)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    data = phantom(PhantomSettings(slices=max(64, asked.batch), size=asked.size))
    kinds = ("classifier", "vinet", "sealed")
    networks = {kind: _network(kind, data, asked.width) for kind in kinds}
    images = torch.from_numpy(data.pictures(slice(asked.batch)))
    print("method                     maps/s  x forward: min, median, max       passes    fit s")
    for name in in_order(asked.names or methods()):
        chosen = method(name)
        if not chosen.info.needs:
            _print(chosen, networks, data, images, asked.rounds)


def _network(kind: str, data: SliceDataset, width: float) -> nn.Module:
    quick, classes = PRESETS["quick"].settings, data.num_classes
    if kind == "classifier":
        model: nn.Module = build_classifier("vgg16", classes, 0, width)
    else:
        model = build_vinet(getattr(quick, kind), classes, data.size, 0)
    return model.eval().requires_grad_(False)


def _print(
    chosen: SaliencyMethod,
    networks: dict[str, nn.Module],
    data: SliceDataset,
    images: Tensor,
    rounds: int,
) -> None:
    info = chosen.info
    model = networks.get(info.explains, networks["classifier"])
    some = images[: max(len(images) // 4, 1)] if info.costly else images
    targets = torch.zeros(len(some), dtype=torch.int64)
    fitting = seconds(lambda: chosen.fit(model, data))
    chosen.explain(some, targets)
    forward, maps = [], []
    for _ in range(rounds):
        forward.append(seconds(lambda: _forward(networks["classifier"], images)) / len(images))
        maps.append(seconds(lambda: chosen.explain(some, targets)) / len(some))
    print(_line(info, forward, maps, fitting), flush=True)


@torch.no_grad()
def _forward(model: nn.Module, images: Tensor) -> None:
    model(images)


def _line(info: MethodInfo, forward: list[float], maps: list[float], fitting: float) -> str:
    ratios = [ours / one for ours, one in zip(maps, forward, strict=True)]
    spread = f"{min(ratios):7.2f} {median(ratios):8.2f} {max(ratios):8.2f}"
    passes = f"{info.forwards} + {info.backwards}"
    return f"{info.name:24} {1 / median(maps):8.1f} {spread} {passes:>12} {fitting:8.2f}"


if __name__ == "__main__":
    main()
