"""What a network computes, read off its autograd graph: a library's rules hang on modules, and
what a network does elsewhere they would pass over in silence."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from baselines.heads import random_picture
from vinet_bench.errors import UserError
from vinet_bench.hooks import evaluating, output_hooks

_OF_MODULES: dict[str, type[nn.Module] | tuple[type[nn.Module], ...]] = {
    "Relu": nn.ReLU,
    "Convolution": nn.Conv2d,
    "BatchNorm": nn.BatchNorm2d,
    "Linear": nn.Linear,
    "MaxPool": nn.MaxPool2d,
    "AvgPool": (nn.AvgPool2d, nn.AdaptiveAvgPool2d),
}
_SAME = {  # an operation has one name for each backend and each shape
    **dict.fromkeys(("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"), "BatchNorm"),
    **dict.fromkeys(("Addmm", "Mm"), "Linear"),
    "MaxPool2DWithIndices": "MaxPool",
    **dict.fromkeys(("AvgPool2D", "AdaptiveAvgPool2D", "Mean"), "AvgPool"),
    **dict.fromkeys(("CudnnConvolution", "MkldnnConvolution"), "Convolution"),
}
_MOVES = frozenset(  # values are moved, not changed
    (
        "AccumulateGrad",
        "View",
        "UnsafeView",
        "ReshapeAlias",
        "Clone",
        "Stack",
        "Squeeze",
        "T",
        "AsStrided",
    )
)
RULES = frozenset((*_OF_MODULES, "Sum"))
SUMS = frozenset(("Add", "Cat"))


def operations(model: nn.Module, size: tuple[int, int]) -> Counter[str]:
    """How often the network computes each operation between a picture of this size and the
    logits: 'Relu', 'Convolution', 'Add'..."""
    found: Counter[str] = Counter()
    stack: list[Any] = [_logits(model, size).grad_fn]
    visited: set[Any] = {None}
    while stack:
        node = stack.pop()
        if node not in visited:
            visited.add(node)
            name = node.name().rpartition("::")[2].rstrip("01").removesuffix("Backward")
            found[_SAME.get(name, name)] += 1
            stack.extend(parent for parent, _ in node.next_functions)
    return Counter({name: n for name, n in found.items() if name not in _MOVES})


def _logits(model: nn.Module, size: tuple[int, int]) -> Tensor:
    picture = random_picture(model, size).requires_grad_()
    with torch.enable_grad(), evaluating(model):
        logits: Tensor = model(picture)
    return logits


def calls(model: nn.Module, size: tuple[int, int]) -> Counter[str]:
    """How often each module without children is called in one pass, by name."""
    found: Counter[str] = Counter()

    def count(name: str, call: int, output: Any) -> None:
        found[name] += 1

    names = [name for name, m in model.named_modules() if name and not any(m.children())]
    names += [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    with output_hooks(model, count, names):
        _logits(model, size)
    return found


def check_rules(model: nn.Module, size: tuple[int, int], known: Iterable[str]) -> None:
    """Raises UserError if the network computes what is not known, or computes what is known
    elsewhere than in modules, where no rule finds it."""
    done = operations(model, size)
    strange = sorted(set(done) - set(known))
    if strange:
        raise UserError(
            f"has no rule for what the explained network computes ({', '.join(strange)}): explain"
            " another (--explain)"
        )
    check_modules(model, done, calls(model, size), RULES & set(known))


def check_modules(
    model: nn.Module, done: Mapping[str, int], called: Mapping[str, int], names: Iterable[str]
) -> None:
    """Raises UserError if one of these operations is not a module of its own each time."""
    for name in names:
        kind = _modules_of(name)
        made = sum(n for m, n in called.items() if isinstance(model.get_submodule(m), kind))
        if done.get(name, 0) != made:
            raise UserError(
                f"follows modules, and the explained network computes {name} in other ways too:"
                " explain another (--explain)"
            )


def _modules_of(name: str) -> type[nn.Module] | tuple[type[nn.Module], ...]:
    """The modules that compute an operation; zennit, whose sum it is, takes seconds to import."""
    if name == "Sum":
        from zennit.layer import Sum

        found: type[nn.Module] = Sum
        return found
    return _OF_MODULES[name]
