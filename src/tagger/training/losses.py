"""Losses of single-tag classification. Each gives one value an item; the loop averages them.

Averaging outside keeps it right when a batch is spread over processes and accumulation steps of
unequal size: the divisor is the weight of the whole batch, not that of a part.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tagger.config.schema import TrainingConfig


class CrossEntropy(nn.Module):
    """Cross-entropy of the softmax, with label smoothing (Szegedy et al. 2016, section 7)."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Map logits (n, n_tags) and targets (n,) to losses (n,)."""
        return F.cross_entropy(
            logits, targets, label_smoothing=self.label_smoothing, reduction="none"
        )


class Focal(nn.Module):
    """Focal loss: easy items count less, by (1 - p)^gamma (Lin et al. 2017, equation 4).

    With label smoothing, p is still the probability of the target and the cross-entropy factor
    is the smoothed one. gamma = 0 is `CrossEntropy`.
    """

    def __init__(self, gamma: float, label_smoothing: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.cross_entropy = CrossEntropy(label_smoothing)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Map logits (n, n_tags) and targets (n,) to losses (n,)."""
        of_target = logits.softmax(-1).gather(1, targets.unsqueeze(1)).squeeze(1)
        losses: Tensor = (1 - of_target) ** self.gamma * self.cross_entropy(logits, targets)
        return losses


def build_loss(config: TrainingConfig) -> nn.Module:
    """Build the loss that a config names."""
    if config.loss == "focal":
        return Focal(config.focal_gamma, config.label_smoothing)
    return CrossEntropy(config.label_smoothing)


def class_weights(kind: str, counts: Tensor) -> Tensor:
    """Return the weight of an item of each tag, (n_tags,).

    Args:
        kind: `none`: 1 for all. `balanced`: each tag weighs alike over the training rows, and the
            average row weighs 1 (King and Zeng 2001).
        counts: Training rows of each tag, (n_tags,).
    """
    if kind == "none":
        return torch.ones(len(counts))
    present = counts > 0
    weights = torch.zeros(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights
