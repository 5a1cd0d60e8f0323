"""Tables I and II for VINet, VBP, CAM, LRP and the outline, written by hand with the libraries.

    python -m benchmarks.peer [--preset smoke] [--rounds 1] [--by-hand]
                              [--set KEY=VALUE ...]

What a competent user would write in an afternoon with PyTorch's tutorials, pytorch-grad-cam and
zennit at hand: pictures as PNG files, ImageFolder and DataLoader, float32, Adam with OneCycleLR,
the best epoch kept; maps one picture at a time, as the libraries' examples do; no work done twice.
The same networks, epochs, batches, split, rows and trainings as `run keep-important` and
`run occlusion` (each row on its pictures, on its masks alone and on another patient's masks), less
what `run` adds: calibration, convergence, forests on masks, untrained maps, records, tables and
their uncertainty. No library has VINet: here it is the paper's formulas on the same two networks.

Both are started as commands of their own; without --by-hand they are timed in turn.
"""

import argparse
import copy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlusFlat

from benchmarks.turns import Ratio, Row, Work, speed
from vinet_bench.data import load_data
from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.splits import split_slices
from vinet_bench.networks import build_classifier, build_explained, build_importance
from vinet_bench.plan import Plan, make_plan
from vinet_bench.settings import Training, VINetTraining

ROWS = ("vinet", "vbp", "cam", "lrp", "outline")
THRESHOLD = 0.9
Loss = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
Maps = dict[str, Tensor]  # by part, (N, H, W)


def main() -> None:
    """Times both ways, or takes one of them by hand."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--preset", default="smoke")
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--by-hand", action="store_true", help="this way alone, with its table")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = options.parse_args()
    if not asked.by_hand:
        for one in compare(asked.rounds, asked.preset, asked.set):
            pairs = zip(one.ratios, one.ours, one.peer, strict=True)
            for ratio, ours, peer in pairs:
                print(f"{one.name}: {ratio:.2f} (ours {ours:.1f} s, by hand {peer:.1f} s)")
        return
    plan = make_plan("phantom", asked.preset, list(ROWS), 1, changes=asked.set)
    for name, accuracies in by_hand(plan).items():
        print(name, *(f"{what} {value:.3f}" for what, value in accuracies.items()))


def compare(rounds: int, preset: str = "smoke", changes: Sequence[str] = ()) -> list[Ratio]:
    """How many times faster the suite is than the script by hand."""
    chosen = ("--preset", preset, *(word for change in changes for word in ("--set", change)))
    theirs = _command("benchmarks.peer", "--by-hand", *chosen)
    name = f"Tables I and II, {' '.join((preset, *changes))}: times faster than by hand"
    return [speed(name, 4.0, lambda: _suite(chosen), theirs, rounds, warmup=0)]


def _suite(chosen: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as out:
        more = (*chosen, "--methods", ",".join(ROWS), "--device", "cpu", "--out", out)
        for protocol in ("keep-important", "occlusion"):
            _command("vinet_bench", "run", protocol, *more)()


def _command(module: str, *words: str) -> Work:
    start = ["-c", "from vinet_bench.cli import main; main()"]
    start = start if module == "vinet_bench" else ["-m", module]

    def run() -> None:
        subprocess.run([sys.executable, *start, *words], check=True, stdout=subprocess.DEVNULL)

    return run


# ---- by hand: the tables


def by_hand(plan: Plan) -> dict[str, dict[str, float]]:
    """Accuracies of each row: retrained on pictures, masks and swapped masks, and occluded."""
    data, settings = load_data(plan), plan.settings
    split = settings.split
    parts = split_slices(data, split.validation, split.test, split.seed, split.by).parts()
    with tempfile.TemporaryDirectory() as place:
        folders = {part: Path(place) / part for part in PARTS}
        for part, folder in folders.items():
            _write(data.subset(parts[part]), folder)
        plain = {part: Pictures(folder) for part, folder in folders.items()}
        untouched = {p: Pictures(f, flips=p == "train") for p, f in folders.items()}
        original = build_classifier("resnet18", data.num_classes, 0, settings.retrain.width)
        train(original, untouched, settings.retrain, classification)
        tables = {"original": {"untouched": accuracy(original, plain["test"])}}
        masks, budget = dict[str, Maps](), 0
        for name, maps in _maps(plan, data, untouched, plain, parts):
            masks[name] = {part: scaled >= 1 - THRESHOLD for part, scaled in maps.items()}
            if name == "vinet":
                share = masks[name]["test"].float().mean().item()
                budget = round(share * data.size[0] * data.size[1])
            tables[name] = _table_one(plan, data, folders, masks[name], parts)
            highest = _highest(maps["test"], budget)
            for what, mask in (("occluded", masks[name]["test"]), ("equal", highest)):
                shown = Pictures(folders["test"], masks=~mask)
                tables[name][what] = accuracy(original, shown)
    return tables


def _table_one(
    plan: Plan, data: SliceDataset, folders: dict[str, Path], masks: Maps, parts: dict[str, Any]
) -> dict[str, float]:
    found = {}
    for what in ("pictures", "masks", "swapped"):
        own = {p: _swapped(m, data, parts[p]) if what == "swapped" else m for p, m in masks.items()}
        sets = {p: Pictures(f, p == "train", own[p], what == "masks") for p, f in folders.items()}
        model = build_classifier("resnet18", data.num_classes, 0, plan.settings.retrain.width)
        train(model, sets, plan.settings.retrain, classification)
        found[what] = accuracy(model, sets["test"])
    return found


def _highest(maps: Tensor, count: int) -> Tensor:
    chosen = maps.flatten(1).topk(count, dim=1).indices
    masks = torch.zeros_like(maps, dtype=torch.bool).flatten(1)
    return masks.scatter_(1, chosen, True).view_as(maps)


def _swapped(masks: Tensor, data: SliceDataset, part: Any) -> Tensor:
    """Each picture gets the mask of a slice of another patient."""
    patients = data.patients[part]
    order = np.argsort(patients, kind="stable")
    largest = np.unique(patients, return_counts=True)[1].max()
    other = np.empty_like(order)
    other[order] = np.roll(order, largest)
    return masks[torch.from_numpy(other)]


# ---- by hand: pictures and training


def _write(data: SliceDataset, folder: Path) -> None:
    for name in data.class_names:
        (folder / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        Image.fromarray(image).save(folder / data.class_names[label] / f"{number:05d}.png")


class Pictures(ImageFolder):  # type: ignore[misc]
    """Pictures from a folder, their masks multiplied in, or the masks alone."""

    def __init__(
        self, folder: Path, flips: bool = False, masks: Tensor | None = None, alone: bool = False
    ) -> None:
        super().__init__(str(folder))
        self.masks, self.alone = masks, alone
        self.read = transforms.Compose([transforms.Grayscale(), transforms.ToTensor()])
        turns = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()]
        self.turn = transforms.Compose(turns if flips else [])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        picture = self.read(self.loader(path))
        if self.masks is not None:
            mask = self.masks[int(Path(path).stem)].float()[None]
            picture = mask if self.alone else picture * mask
        return self.turn(picture), label

    def numbers(self) -> list[int]:
        """Each item's number among the part's slices."""
        return [int(Path(path).stem) for path, _ in self.samples]


def train(model: nn.Module, sets: dict[str, Pictures], settings: Training, loss: Loss) -> None:
    """Adam and OneCycleLR; the epoch with the lowest validation loss is kept."""
    loader = _batches(sets["train"], settings.batch, training=True)
    held_out = _batches(sets["validation"], 128)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    steps = settings.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=steps, cycle_momentum=False
    )
    best, kept = float("inf"), model.state_dict()
    for epoch in range(settings.epochs):
        model.train()
        for images, labels in loader:
            optimiser.zero_grad()
            value = loss(model, images, labels, epoch / settings.epochs)
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            total = sum(loss(model, x, y, 1.0).item() * len(x) for x, y in held_out)
        if total < best:
            best, kept = total, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    model.eval()


def _batches(
    pictures: Pictures, size: int, training: bool = False
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Two workers read for a training; elsewhere they would take longer to start."""
    more: dict[str, Any] = {"num_workers": 2, "persistent_workers": True} if training else {}
    return DataLoader(pictures, size, shuffle=training, drop_last=training, **more)


def classification(model: nn.Module, images: Tensor, labels: Tensor, progress: float) -> Tensor:
    """The loss of a plain classifier."""
    return F.cross_entropy(model(images), labels)


@torch.no_grad()
def accuracy(model: nn.Module, pictures: Pictures) -> float:
    """The share of the pictures whose label the model predicts."""
    loader = _batches(pictures, 128)
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in loader) / len(pictures)


# ---- by hand: maps


def _maps(
    plan: Plan,
    data: SliceDataset,
    shown: dict[str, Pictures],
    plain: dict[str, Pictures],
    parts: dict[str, Any],
) -> Iterator[tuple[str, Maps]]:
    """Each row's maps in [0, 1] of every part, in the order of its slices."""
    settings, size = plan.settings, data.size
    vinet = PlainVINet(settings.vinet, data.num_classes)
    train(vinet, shown, settings.vinet, vinet.loss)
    yield "vinet", {p: _each(pictures, vinet.maps, size, 32) for p, pictures in plain.items()}
    explained = settings.explained
    vgg = build_explained("vgg16", data.num_classes, 0, explained.width, size)
    train(vgg, shown, explained, classification)
    for name, way in (("vbp", vbp), ("cam", grad_cam), ("lrp", lrp)):
        with way(vgg) as explain:
            maps = {p: _each(pictures, explain, size, 1) for p, pictures in plain.items()}
        yield name, {p: _unit(m.clamp(min=0) if name == "lrp" else m) for p, m in maps.items()}
    assert data.evidence is not None
    yield "outline", {p: torch.from_numpy(data.evidence[i]).float() for p, i in parts.items()}


def _each(
    pictures: Pictures, explain: Callable[[Tensor], Tensor], size: tuple[int, int], batch: int
) -> Tensor:
    found = torch.cat([explain(images) for images, _ in _batches(pictures, batch)])
    maps = torch.empty(len(pictures), *size)
    maps[torch.tensor(pictures.numbers())] = found
    return maps


def _unit(maps: Tensor) -> Tensor:
    low, high = (end(dim=(1, 2), keepdim=True) for end in (maps.amin, maps.amax))
    unit: Tensor = (maps - low) / (high - low + 1e-12)
    return unit


@contextmanager
def grad_cam(model: Any) -> Iterator[Callable[[Tensor], Tensor]]:
    """CAM's row; with global average pooling Grad-CAM is CAM."""
    with GradCAM(model, [model.features[-1]]) as cam:

        def explain(images: Tensor) -> Tensor:
            target = ClassifierOutputTarget(int(model(images).argmax()))
            return torch.from_numpy(cam(input_tensor=images, targets=[target]))

        yield explain


@contextmanager
def lrp(model: Any) -> Iterator[Callable[[Tensor], Tensor]]:
    """By zennit's composite, as `lrp` is."""
    with Gradient(model, EpsilonPlusFlat()) as attributor:

        def start(logits: Tensor) -> Tensor:
            return logits * F.one_hot(logits.argmax(1), logits.shape[1])

        yield lambda images: attributor(images, start)[1].detach().sum(dim=1)


@contextmanager
def vbp(model: Any) -> Iterator[Callable[[Tensor], Tensor]]:
    """VisualBackProp: means of the ReLUs, up through convolutions and poolings of ones."""
    three, two = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)

    @torch.no_grad()
    def explain(images: Tensor) -> Tensor:
        outputs = [images]
        for layer in model.features:
            outputs.append(layer(outputs[-1]))
        found = torch.ones_like(outputs[-1][:, :1])
        for layer, output in zip(reversed(model.features), reversed(outputs), strict=False):
            if isinstance(layer, nn.ReLU):
                found = found * output.mean(1, keepdim=True)
                found = found / found.max().clamp(min=1e-30)
            elif isinstance(layer, nn.Conv2d):
                found = F.conv_transpose2d(found, three, padding=1)
            else:
                found = F.conv_transpose2d(found, two, stride=2)
        return found[:, 0]

    yield explain


class PlainVINet(nn.Module):
    """Gu et al. 2020, Eq. 1 to 8, on a U-Net and a ResNet-18."""

    def __init__(self, settings: VINetTraining, num_classes: int) -> None:
        super().__init__()
        self.importance: Any = build_importance(settings.importance, 0, settings.width)
        self.classifier: Any = build_classifier(settings.classifier, num_classes, 0, settings.width)
        self.settings = settings

    def importance_map(self, images: Tensor) -> Tensor:
        raw = F.softplus(self.importance(images) + self.settings.shift)
        m: Tensor = raw / raw.amax(dim=(2, 3), keepdim=True)
        return m

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        m, net = self.importance_map(images), self.classifier
        x = _destroyed(net.act1(net.bn1(net.conv1(_destroyed(images, m)))), m)
        x = net.layer1(_destroyed(net.maxpool(x), m))
        for layer in (net.layer2, net.layer3, net.layer4):
            x = _destroyed(layer(x), m)
        logits: Tensor = net.fc(net.global_pool(x))
        return logits, m

    def loss(self, model: nn.Module, images: Tensor, labels: Tensor, progress: float) -> Tensor:
        if progress < self.settings.warmup:
            return F.cross_entropy(self.classifier(images), labels)
        logits, m = self(images)
        total: Tensor = F.cross_entropy(logits, labels) + self.settings.alpha * m.mean()
        return total

    @torch.no_grad()
    def maps(self, images: Tensor) -> Tensor:
        m: Tensor = self.importance_map(images)[:, 0]
        return m


def _destroyed(features: Tensor, m: Tensor) -> Tensor:
    if features.shape[-1] == 1:
        return features
    m = F.interpolate(m, size=features.shape[-2:], mode="bilinear")
    low, high = (end(dim=(2, 3), keepdim=True) for end in (features.amin, features.amax))
    noise = low + (high - low + 1e-8) * torch.rand_like(features)
    mixed: Tensor = m * features + (1 - m) * noise
    return mixed


BENCHMARKS = (Row("peer", "Tables I and II, smoke: 4 times as fast as by hand", compare),)

if __name__ == "__main__":
    main()
