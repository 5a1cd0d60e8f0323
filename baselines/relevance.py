"""zennit's rules without what its hooks compute and then drop.

zennit hangs a rule on a layer's own gradient, which autograd computes and the rule replaces, and it
computes all terms of a rule, also those of inputs below 0, which no layer behind a ReLU has. Here
a layer is cut out of the graph, its rule stands in its place, and a term that is nothing is left
out. The rules themselves stay the library's, and so does every bit of the relevance.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from zennit.core import BasicHook, Composite, Hook, ParamMod
from zennit.rules import Pass

Share = Callable[[Tensor], Tensor]


def sparing(composite: Composite) -> Composite:
    """The same rules and canonizers; when it is registered it raises TypeError for a rule that is
    neither zennit's Pass nor a BasicHook."""

    def rule(context: dict[str, Any], name: str, module: nn.Module) -> Hook | None:
        found = composite.module_map(context, name, module)
        return None if found is None else _Sparing(found)

    return Composite(rule, composite.canonizers)


class _Sparing(Hook):  # type: ignore[misc]
    """Cuts a layer out of the graph and puts a rule in its place."""

    def __init__(self, rule: Hook) -> None:
        super().__init__()
        if not isinstance(rule, Pass | BasicHook):
            raise TypeError(f"there is no sparing form of the rule {type(rule).__name__}")
        self.rule = rule

    def copy(self) -> Self:
        return type(self)(self.rule)

    def pre_forward(self, module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        self.stored_tensors["whole"] = inputs[0]
        alone = inputs[0].detach()
        # What overwrites its input would overwrite the output that the layer before is cut at.
        return alone.clone() if getattr(module, "inplace", False) else alone

    def post_forward(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        def share(relevance: Tensor) -> Tensor:
            if isinstance(self.rule, Pass):
                return relevance
            return _shared(self.rule, module, inputs[0], relevance)

        linked: Tensor = _Link.apply(self.stored_tensors.pop("whole"), output, share)
        return linked


class _Link(torch.autograd.Function):
    """Forwards a layer's output; backwards what its rule makes of the output's relevance."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, output: Tensor, share: Share) -> Tensor:
        ctx.share = share
        ctx.mark_dirty(output)  # the same tensor, and no view: a ReLU may yet overwrite it
        return output

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        return ctx.share(relevance), None, None


def _shared(rule: BasicHook, module: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    """The relevance of a layer's input x, from that of its output."""
    terms = zip(rule.input_modifiers, rule.param_modifiers, rule.output_modifiers, strict=True)
    inputs, outputs = [], []
    for on_input, on_weights, on_output in terms:
        changed, weights = on_input(x.detach()), ParamMod.ensure(on_weights)
        if _is_nothing(changed, weights, module):
            changed = output = x.new_zeros(())  # fits any shape
        else:
            with weights(module) as modified, torch.enable_grad():
                output = on_output(modified.forward(changed.requires_grad_()))
        inputs.append(changed)
        outputs.append(output)
    wanted = rule.gradient_mapper(relevance, outputs)
    wanted = [wanted] if isinstance(wanted, Tensor) else wanted
    result: Tensor = rule.reducer(inputs, _gradients(inputs, outputs, wanted))
    return result.detach()


def _is_nothing(changed: Tensor, weights: ParamMod, module: nn.Module) -> bool:
    """Whether a term is 0, with all that flows back through it: no input, and no bias."""
    no_bias = getattr(module, "bias", None) is None or "bias" in (weights.zero_params or ())
    return no_bias and not changed.any()


def _gradients(inputs: list[Tensor], outputs: list[Tensor], wanted: list[Tensor]) -> list[Tensor]:
    """Of the outputs times what is wanted, by the inputs; 0 for a term that was left out."""
    live = [i for i, output in enumerate(outputs) if output.requires_grad]
    ends, starts, weights = ([values[i] for i in live] for values in (outputs, inputs, wanted))
    found = dict(zip(live, torch.autograd.grad(ends, starts, weights), strict=True))
    return [found.get(i, output) for i, output in enumerate(outputs)]
