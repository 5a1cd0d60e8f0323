"""What a trained VINet says of pictures from anywhere, and why."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.one_slice import read_slice
from vinet_bench.errors import UserError
from vinet_bench.machine import as_pictures
from vinet_bench.masks import scale
from vinet_bench.methods import SaliencyMethod
from vinet_bench.models import ModelConfig, TrainedVINet, own_method
from vinet_bench.plots import save_explanation


@dataclass(frozen=True)
class Explanation:
    """One picture's class probabilities (K,), its figure, and what a user must be told of it."""

    image: Path
    probabilities: NDArray[np.float32]
    figure: Path
    note: str


def explain(
    images: list[Path],
    model: TrainedVINet,
    folder: Path,
    method_name: str | None = None,
    slice_number: int | None = None,
) -> list[Explanation]:
    """Explains each picture and writes slice, overlay and map side by side into the folder.

    method_name: None is the model's own. Raises UserError for a picture that does not read, before
    anything is written, and for a method that explains another network.
    """
    chosen = _suitable(method_name or model.config.method, model.config)
    slices = [read_slice(path, model.config.size[0], slice_number) for path in images]
    pictures = torch.stack([as_pictures(torch.from_numpy(s.pixels)) for s in slices])[:, None]
    probabilities = model.probabilities(pictures)
    heat = _heat(chosen, model, pictures, probabilities.argmax(dim=1))
    figures = _figure_paths(images, chosen.info.name, folder)
    made = []
    for i, (path, one, figure) in enumerate(zip(images, slices, figures, strict=True)):
        shares = probabilities[i].numpy()
        save_explanation(figure, pictures[i, 0].numpy(), heat[i].numpy(), _title(model, shares))
        made.append(Explanation(path, shares, figure, one.note))
    return made


def _suitable(name: str, config: ModelConfig) -> SaliencyMethod:
    """A method that explains this kind of VINet. Raises UserError for any other."""
    chosen = own_method(name)
    if chosen.info.explains != config.kind:
        raise UserError(
            f"--method {name}: this model is another VINet, which {config.method} explains: leave"
            f" --method out, or train one with `vinet-bench train --method {name}`"
        )
    return chosen


def _heat(chosen: SaliencyMethod, model: TrainedVINet, pictures: Tensor, targets: Tensor) -> Tensor:
    """Maps brought to [0, 1], (N, H, W) on the CPU."""
    chosen.fit(model.network, _no_training_part(model))
    device = model.machine.device
    raw = chosen.explain(pictures.to(device), targets.to(device))
    return scale(raw.detach().float().cpu(), chosen.info.scaling)


def _no_training_part(model: TrainedVINet) -> SliceDataset:
    """A saved model comes without its pictures."""
    nobody = np.array([], dtype=np.str_)
    return SliceDataset(
        name=model.config.data,
        images=np.zeros((0, *model.config.size), dtype=np.uint8),
        labels=np.array([], dtype=np.int64),
        patients=nobody,
        ids=nobody,
        class_names=model.config.class_names,
    )


def _figure_paths(images: list[Path], name: str, folder: Path) -> list[Path]:
    """A PNG for each picture; those of one name in several folders are numbered."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; choose another --out") from None
    paths: list[Path] = []
    for image in images:
        path, number = folder / f"{image.stem}-{name}.png", 1
        while path in paths:
            number += 1
            path = folder / f"{image.stem}-{name}-{number}.png"
        paths.append(path)
    return paths


def _title(model: TrainedVINet, shares: NDArray[np.float32]) -> str:
    best = int(shares.argmax())
    return f"class {model.config.class_names[best]} ({100 * shares[best]:.1f} %)"
