"""The work of `check`: somebody's method, on a small untrained network and the phantom."""

import importlib
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vinet_bench.checks import TOLERANCE, MethodCase
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.phantom import PhantomSettings, phantom
from vinet_bench.errors import UserError
from vinet_bench.methods import MethodFactory
from vinet_bench.models import build_vinet
from vinet_bench.networks import build_classifier
from vinet_bench.presets import PRESETS
from vinet_bench.seeds import generator

PICTURES, READERS = 3, 4
SMALL = PRESETS["smoke"].settings


def named_factory(name: str) -> MethodFactory:
    """What `module:Class` names; modules of the working folder count. Raises UserError."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UserError(f"{name}: write it as module:Class, e.g. mypackage.methods:MyMethod")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: MethodFactory = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise UserError(f"{name}: cannot import {module} ({error})") from None
    except AttributeError:
        raise UserError(f"{name}: the module {module} has no {attribute}") from None
    if not callable(found):
        raise UserError(f"{name}: {attribute} is no class, nor a function that makes a method")
    return found


def example_case(factory: MethodFactory, tolerance: float = TOLERANCE) -> MethodCase:
    """The method with a network of the kind that it explains, and three slices of a phantom."""
    data = _slices()
    model = _network(factory().info.explains)
    images = torch.from_numpy(data.pictures(slice(PICTURES)))
    targets = torch.arange(PICTURES) % data.num_classes
    return MethodCase(factory, model, images, targets, data, tolerance)


@lru_cache
def _slices() -> SliceDataset:
    """A phantom of one slice a nodule; every reader draws the same outline."""
    data = phantom(PhantomSettings(slices=20, size=SMALL.size))
    assert data.evidence is not None
    drawn = data.evidence.astype(np.uint8) * np.uint8(2**READERS - 1)
    return replace(data, readers=drawn)


def _network(kind: str) -> nn.Module:
    """Untrained, with a bias everywhere, frozen and in evaluation mode, as the suite hands it."""
    data = _slices()
    if kind == "nothing":
        return nn.Identity()
    if kind in ("vinet", "sealed"):
        wanted = getattr(SMALL, kind)
        return build_vinet(wanted, data.num_classes, data.size, 0).eval().requires_grad_(False)
    model = build_classifier("vgg16", data.num_classes, 0, SMALL.explained.width)
    draws = generator("biases")
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.05, generator=draws)
    return model.eval().requires_grad_(False)
