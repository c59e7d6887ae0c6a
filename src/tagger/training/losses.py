"""Losses of training. Each gives one value an item; the recipe weighs and averages them.

Averaging outside keeps it right when a batch is spread over processes and accumulation steps of
unequal size: the divisor is the weight of the whole batch, not that of a part.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tagger.config.schema import TrainingConfig

IMPOSSIBLE = -1e9
"""Logit of an item's similarity to itself, which takes no part in the contrast."""


class FocalLoss(nn.Module):
    """Focal loss: easy items count less, by (1 - p)^gamma (Lin et al. 2017, equation 4).

    With label smoothing, p is still the probability of the target and the cross-entropy factor
    is the smoothed one. gamma = 0 is the cross-entropy.
    """

    def __init__(self, gamma: float, label_smoothing: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.cross_entropy = nn.CrossEntropyLoss(label_smoothing=label_smoothing, reduction="none")

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Map logits (n, n_tags) and targets (n,) to losses (n,)."""
        of_target = logits.softmax(-1).gather(1, targets.unsqueeze(1)).squeeze(1)
        losses: Tensor = (1 - of_target) ** self.gamma * self.cross_entropy(logits, targets)
        return losses


class ContrastiveLoss(nn.Module):
    """Supervised contrastive loss: vectors of one tag attract each other (Khosla et al. 2020).

    Args:
        temperature: Smaller cares more about the nearest.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Map vectors (n, hidden) and targets (n,) to losses (n,); 0 for a tag's only item."""
        units = F.normalize(vectors, dim=1)
        itself = torch.eye(len(units), dtype=torch.bool, device=units.device)
        similarity = (units @ units.T / self.temperature).masked_fill(itself, IMPOSSIBLE)
        log_share = similarity - similarity.logsumexp(dim=1, keepdim=True)
        same = (targets[:, None] == targets[None, :]) & ~itself
        counts = same.sum(dim=1)
        losses: Tensor = -(log_share * same).sum(dim=1) / counts.clamp(min=1)
        return losses


class SoftTargetLoss(nn.Module):
    """Divergence of a student's softened probabilities from a teacher's (Hinton et al. 2015).

    It is scaled by the square of the temperature, so that its gradients are as large as those of
    labels whatever the temperature.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, logits: Tensor, probabilities: Tensor) -> Tensor:
        """Map logits and the teacher's probabilities, both (n, n_tags), to losses (n,)."""
        student = (logits / self.temperature).log_softmax(-1)
        softened = probabilities.clamp(min=1e-6).log() / self.temperature
        teacher = softened.log_softmax(-1)
        divergence = (teacher.exp() * (teacher - student)).sum(-1)
        return self.temperature**2 * divergence


def vector_losses(student: Tensor, source: Tensor) -> Tensor:
    """Return the distance of a student's text vectors from those of its source encoder, (n,).

    Vectors of one width are compared by their angle. Of others, the similarities between the texts
    of a batch are compared (Tung & Mori 2019), which no width enters into.

    Args:
        student: (n, width).
        source: (n, source width).
    """
    ours, theirs = F.normalize(student), F.normalize(source)
    if ours.shape == theirs.shape:
        return 1 - (ours * theirs).sum(-1)
    return (ours @ ours.T - theirs @ theirs.T).square().mean(-1)


def build_loss(config: TrainingConfig) -> nn.Module:
    """Build the classification loss that a config names."""
    if config.loss == "focal":
        return FocalLoss(config.focal_gamma, config.label_smoothing)
    return nn.CrossEntropyLoss(label_smoothing=config.label_smoothing, reduction="none")


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
