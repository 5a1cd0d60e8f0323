"""Trains one VINet and leaves a folder: weights, config, metrics, curves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vinet_bench import __version__
from vinet_bench.checkpoints import Checkpoint
from vinet_bench.data import load_data
from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.splits import split_as
from vinet_bench.errors import CellError, UserError
from vinet_bench.machine import Machine
from vinet_bench.masks import fraction, reserved
from vinet_bench.metrics import balanced_hits, evidence_precision, evidence_recall, hits
from vinet_bench.models import (
    CONFIG,
    ModelConfig,
    TrainedVINet,
    build_vinet,
    check_alive,
    own_method,
    task_of,
)
from vinet_bench.plan import Plan
from vinet_bench.plots import save_curves
from vinet_bench.progress import Progress, Silent
from vinet_bench.records import key_of
from vinet_bench.run import check_networks, machine_of, with_threads
from vinet_bench.trained import examples_of, pictures_of
from vinet_bench.training import Fit, fit
from vinet_bench.vinet import VINet
from vinet_bench.writing import LOCK, alone, sweep, writing

METRICS, CURVES = "metrics.json", "curves.png"


def train_vinet(
    plan: Plan,
    seed: int,
    folder: Path,
    device: str = "auto",
    progress: Progress | None = None,
    method: str = "vinet",
) -> TrainedVINet:
    """Trains the VINet that `run` trains for this plan, seed and method, and saves it in a folder.

    One that was killed goes on where it was. Raises UserError for bad input, before anything is
    trained, and CellError if it diverges or ends with a dead map: then nothing is saved.
    """
    kind = own_method(method).info.explains
    machine = with_threads(machine_of(plan, device), None)
    data = load_data(plan)
    check_networks(plan.settings, data)
    parts = _parts(plan, data, seed)
    config = _config(plan, data, seed, method, kind)
    _make(folder)
    with alone(folder):
        _prepare(folder)
        network = build_vinet(config.training, data.num_classes, data.size, seed)
        with machine.computing(), _unfinished(folder, _key(config, parts, machine)) as checkpoint:
            done = _fit(network, config, parts, machine, progress or Silent(), checkpoint)
            network.eval().requires_grad_(False)
            model = TrainedVINet(network, config, machine)
            metrics = _losses(done) | {"test": _test_figures(model, parts["test"])}
            _save(model, done, metrics, folder)
        (folder / LOCK).unlink()  # who still waits for it finds a model
    return model


def _key(config: ModelConfig, parts: dict[str, SliceDataset], machine: Machine) -> str:
    """Of all that determines the weights: a checkpoint of other ones is not gone on from."""
    return key_of(
        {
            "config": config.told(),
            "split": {name: part.ids.tolist() for name, part in parts.items()},
            "machine": [machine.device.type, machine.bfloat16, machine.threads],
            "deterministic": machine.fixed_kernels,
        }
    )


@contextmanager
def _unfinished(folder: Path, key: str) -> Iterator[Checkpoint]:
    """Where the training's state is kept until the model is saved, or is known to be no good."""
    checkpoint = Checkpoint(folder / f"training-{key}.pt")
    try:
        yield checkpoint
    except CellError:
        checkpoint.remove()  # tried again it would only end like that again
        raise
    checkpoint.remove()


def _fit(
    network: VINet,
    config: ModelConfig,
    parts: dict[str, SliceDataset],
    machine: Machine,
    progress: Progress,
    checkpoint: Checkpoint,
) -> Fit:
    training, seed = config.training, config.seed
    train, validation = (examples_of(parts[name]) for name in ("train", "validation"))
    with progress.step(f"training {config.method}, seed {seed}", training.epochs) as advance:
        return fit(
            network,
            task_of(training),
            train,
            validation,
            training,
            seed,
            machine,
            advance,
            checkpoint,
        )


def _save(model: TrainedVINet, done: Fit, metrics: dict[str, object], folder: Path) -> None:
    """The model comes last: a folder that holds one is whole. Raises StoreError."""
    with writing(folder):
        save_curves(folder / CURVES, done.train_losses, done.validation_losses, done.epoch)
        (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        model.save(folder)


def _parts(plan: Plan, data: SliceDataset, seed: int) -> dict[str, SliceDataset]:
    split = split_as(data, plan.settings.split).of(seed)
    return {name: data.subset(split.part(name)) for name in PARTS}


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot write the model's folder {folder}: {error.strerror}"
        raise UserError(f"{reason}; choose another with --out") from None


def _prepare(folder: Path) -> None:
    """A model that is there already is never written over; halves of dead processes go."""
    if (folder / CONFIG).exists():
        (folder / LOCK).unlink()  # the folder stays as it was
        raise UserError(f"{folder} holds a model already: choose another folder with --out")
    with writing(folder):
        sweep(folder.glob("*.part-*"))


def _config(plan: Plan, data: SliceDataset, seed: int, method: str, kind: str) -> ModelConfig:
    return ModelConfig(
        version=__version__,
        class_names=data.class_names,
        size=data.size,
        seed=seed,
        threshold=plan.threshold,
        data=data.name,
        data_fingerprint=data.fingerprint,
        preset=plan.preset,
        method=method,
        **{kind: getattr(plan.settings, kind)},
    )


def _losses(done: Fit) -> dict[str, object]:
    return {
        "kept_epoch": done.epoch,
        "train_losses": done.train_losses,
        "validation_losses": done.validation_losses,
    }


def _test_figures(model: TrainedVINet, test: SliceDataset) -> dict[str, float]:
    """What the tables say of VINet itself, on the test part."""
    images = pictures_of(test)
    probabilities = model.probabilities(images).numpy()
    maps = model.maps(images)
    check_alive(maps, model.config.kind)
    masks = reserved(maps, model.config.threshold)
    figures = {
        "slices": len(test),
        "accuracy": float(hits(probabilities, test.labels).mean()),
        "balanced_accuracy": float(balanced_hits(probabilities, test.labels).mean()),
        "fraction_reserved": fraction(masks),
        "mean_importance": maps.double().mean().item(),
    }
    if test.evidence is not None and test.evidence.any():
        chosen = masks.numpy().astype(np.bool_)
        figures["evidence_recall"] = float(np.nanmean(evidence_recall(chosen, test.evidence)))
        figures["evidence_precision"] = float(np.nanmean(evidence_precision(chosen, test.evidence)))
    return figures
