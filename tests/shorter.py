"""Methods with fewer draws, steps or squares, for what does not depend on how many they are."""

from functools import partial

from vinet_bench.methods import MethodFactory, SaliencyMethod, method

FEWER: dict[str, dict[str, int]] = {
    "ig": {"steps": 4},
    "smoothgrad": {"samples": 3},
    "vargrad": {"samples": 3},
    "gradient-shap": {"samples": 3},
    # More than go into one forward pass.
    "lime": {"samples": 48},
    "kernel-shap": {"samples": 48},
    "rise": {"masks": 48},
    "occlusion": {"cells": 4},
    "meaningful-perturbation": {"steps": 5},
    "real-time-masker": {"steps": 2},
}


def shorter(name: str) -> MethodFactory:
    """What makes a registered method, by its name."""
    return partial(_made, name)


def _made(name: str) -> SaliencyMethod:
    made = method(name)
    for what, number in FEWER.get(name, {}).items():
        assert getattr(made, what) > number, f"{name} has fewer {what} by itself"
        setattr(made, what, number)
    return made
