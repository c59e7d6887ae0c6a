"""Exponential moving average of the weights (Polyak and Juditsky 1992; Tarvainen 2017).

On a few hundred noisy labels the last steps wander around a minimum; their average lies nearer to
it than any of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tagger.training.checkpoint import Weights, restore_weights, trainable_weights


class WeightAverage:
    """Follows the trainable weights of a module: average = decay * average + (1 - decay) * weights.

    Args:
        module: What is trained.
        decay: 0 keeps no average: the weights themselves count.
        weights: An average to go on with, from a checkpoint; empty to begin at the module's own.
    """

    def __init__(self, module: nn.Module, decay: float, weights: Weights) -> None:
        self.module = module
        self.decay = decay
        trainable = {n: p for n, p in module.named_parameters() if p.requires_grad}
        start = weights or trainable_weights(module)
        # In the order of the parameters, which a file does not keep.
        self.weights = {n: start[n].to(p.device) for n, p in trainable.items()} if decay else {}
        self._parameters: list[Tensor] = list(trainable.values())

    @torch.no_grad()
    def update(self) -> None:
        """Take an optimizer step into account."""
        if self.decay:
            torch._foreach_lerp_(list(self.weights.values()), self._parameters, 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the module for a while, then the trained weights back."""
        if not self.decay:
            yield
            return
        trained = trainable_weights(self.module)
        restore_weights(self.module, self.weights)
        try:
            yield
        finally:
            restore_weights(self.module, trained)
