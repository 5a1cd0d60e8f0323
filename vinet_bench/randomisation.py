"""Networks whose weights are randomised from the last layer on (Adebayo et al. 2018, Sec. 4.1)."""

import copy

from torch import nn

from vinet_bench.vinet import VINet


def layers(model: nn.Module) -> list[str]:
    """The modules that hold weights of their own, by name, from the first to the last.

    Of a VINet those of its importance network: its map does not depend on the classifier.
    """
    start = "importance." if isinstance(model, VINet) else ""
    return [
        name
        for name, module in model.named_modules()
        if name.startswith(start) and any(True for _ in module.parameters(recurse=False))
    ]


def randomised(model: nn.Module, fresh: nn.Module, count: int) -> nn.Module:
    """A copy of the model whose last `count` layers are the fresh network's, in evaluation mode.

    fresh: the same architecture with new weights; a layer's running statistics go with them.
    """
    mixed = copy.deepcopy(model)
    names = layers(model)
    for name in names[len(names) - count :]:
        mixed.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
    return mixed.eval().requires_grad_(False)
