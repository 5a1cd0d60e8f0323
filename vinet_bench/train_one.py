"""Trains one VINet and leaves a folder: weights, config, metrics, curves."""

import json
from pathlib import Path

import numpy as np
import torch

from vinet_bench import __version__
from vinet_bench.data import load_data
from vinet_bench.data.dataset import PARTS, SliceDataset
from vinet_bench.data.splits import split_slices
from vinet_bench.errors import UserError
from vinet_bench.figures import save_curves
from vinet_bench.masks import fraction, reserved
from vinet_bench.metrics import balanced_hits, evidence_precision, evidence_recall, hits
from vinet_bench.models import (
    CONFIG,
    ModelConfig,
    TrainedVINet,
    build_vinet,
    check_alive,
    vinet_task,
)
from vinet_bench.plan import Plan
from vinet_bench.progress import Progress, Silent
from vinet_bench.run import check_networks, choose_machine
from vinet_bench.training import Examples, Fit, fit

METRICS, CURVES = "metrics.json", "curves.png"


def train_vinet(
    plan: Plan, seed: int, folder: Path, device: str = "auto", progress: Progress | None = None
) -> TrainedVINet:
    """Trains the VINet that `run` trains for this plan and seed, and saves it in a folder.

    Raises UserError for bad input, before anything is trained, and CellError if it diverges or
    ends with a dead map: then nothing is saved.
    """
    machine = choose_machine(device, plan.settings.precision, plan.settings.threads)
    data = load_data(plan)
    training = plan.settings.vinet
    check_networks(training, data)
    parts = _parts(plan, data)
    _prepare(folder)
    network = build_vinet(training, data.num_classes, data.size, seed)
    examples = {name: _examples(part) for name, part in parts.items()}
    title = f"training VINet, seed {seed}"
    with machine.computing(), (progress or Silent()).step(title, training.epochs) as advance:
        done = fit(
            network,
            vinet_task(training),
            examples["train"],
            examples["validation"],
            training,
            seed,
            machine,
            advance,
        )
    network.eval().requires_grad_(False)
    model = TrainedVINet(network, _config(plan, data, seed), machine)
    figures = _test_figures(model, parts["test"])
    model.save(folder)
    save_curves(folder / CURVES, done.train_losses, done.validation_losses, done.epoch)
    metrics = _losses(done) | {"test": figures}
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return model


def _parts(plan: Plan, data: SliceDataset) -> dict[str, SliceDataset]:
    wanted = plan.settings.split
    split = split_slices(data, wanted.validation, wanted.test, wanted.seed, wanted.by)
    return {name: data.subset(split.part(name)) for name in PARTS}


def _examples(part: SliceDataset) -> Examples:
    return Examples(torch.from_numpy(part.images)[:, None], torch.from_numpy(part.labels))


def _prepare(folder: Path) -> None:
    """Makes the folder; a model that is there already is never written over."""
    if (folder / CONFIG).exists():
        raise UserError(f"{folder} holds a model already: choose another folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot write the model's folder {folder}: {error.strerror}"
        raise UserError(f"{reason}; choose another with --out") from None


def _config(plan: Plan, data: SliceDataset, seed: int) -> ModelConfig:
    return ModelConfig(
        version=__version__,
        class_names=data.class_names,
        size=data.size,
        seed=seed,
        threshold=plan.threshold,
        data=data.name,
        data_fingerprint=data.fingerprint,
        preset=plan.preset,
        vinet=plan.settings.vinet,
    )


def _losses(done: Fit) -> dict[str, object]:
    return {
        "kept_epoch": done.epoch,
        "train_losses": done.train_losses,
        "validation_losses": done.validation_losses,
    }


def _test_figures(model: TrainedVINet, test: SliceDataset) -> dict[str, float]:
    """What the tables say of VINet itself, on the test part."""
    images = _examples(test).images
    probabilities = model.probabilities(images).numpy()
    maps = model.maps(images)
    check_alive(maps)
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
