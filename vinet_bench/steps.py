"""Training steps, taken as they are written or, on a GPU, recorded once as a CUDA graph and
replayed: Python takes longer to start a small network's kernels than they take."""

from collections import Counter
from collections.abc import Callable, Hashable

import torch
from torch import Generator, Tensor

Step = Callable[..., Tensor]  # what was drawn for it, on the device -> its loss
WRITTEN_OUT = 3  # steps of each kind before it is recorded: libraries set themselves up in them


class Replayed:
    """A training's steps on a GPU, those of one kind and one size of batch recorded once.

    A kind says all that a step depends on beside what is drawn for it, the weights, the optimiser's
    state and the generator; a kind of which there are few steps is never recorded.
    """

    def __init__(self, noise: Generator) -> None:
        self.noise = noise
        # Apart from the stream that everything else is on: that one cannot be recorded.
        self.stream = torch.cuda.Stream(noise.device)  # type: ignore[no-untyped-call]
        self.taken: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, Step] = {}

    def __call__(self, kind: Hashable, step: Step, *drawn: Tensor) -> Tensor:
        """The loss of a step of this kind. drawn: on the CPU, of the same sizes for equal sizes of
        the first."""
        key = (kind, len(drawn[0]))
        self.taken[key] += 1
        others = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(others)
        with torch.cuda.stream(self.stream):
            if self.taken[key] <= WRITTEN_OUT:
                loss = step(*(t.to(self.stream.device) for t in drawn))
            else:
                if key not in self.recorded:
                    self.recorded[key] = self._record(step, *drawn)
                loss = self.recorded[key](*drawn)
        others.wait_stream(self.stream)
        return loss

    def _record(self, step: Step, *drawn: Tensor) -> Step:
        """Records a step without taking it."""
        places = [t.to(self.stream.device) for t in drawn]
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.noise)
        with torch.cuda.graph(graph, stream=self.stream):
            loss = step(*places)

        def replay(*drawn: Tensor) -> Tensor:
            for place, now in zip(places, drawn, strict=True):
                # Pinned: else the copy waits until the GPU has ended the step before.
                place.copy_(now.pin_memory(), non_blocking=True)
            graph.replay()
            return loss.clone()

        return replay
