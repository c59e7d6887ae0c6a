"""What a step minimises, item by item: the loss, and what is added to it for robustness.

Each addition is off at 0 and costs nothing then. benchmarks/travel.py measures what each of them
brings on content from the training source and from another.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tagger.config.schema import TrainingConfig
from tagger.training.distillation import Distillation

# Takes ids and mask, (n, tokens); returns logits (n, n_tags) and vectors (n, hidden).
Model = Callable[..., tuple[Tensor, Tensor]]
IMPOSSIBLE = -1e9


class ContrastiveLoss(nn.Module):
    """Pulls vectors of one tag together and pushes those of others away (Khosla et al. 2020).

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


def symmetric_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Mean of both Kullback-Leibler divergences between two sets of logits, (n, n_tags) to (n,)."""
    one, two = first.log_softmax(-1), second.log_softmax(-1)
    return 0.5 * ((one.exp() - two.exp()) * (one - two)).sum(dim=1)


class Objective:
    """Computes the loss of each item of a part of a batch.

    Args:
        config: Which additions, and how much of each.
        loss_function: Maps logits and targets to losses (n,).
        encoder: Has a layer `embeddings`, to whose output adversarial noise is added.
        distillation: Adds what is learnt from a teacher; None without one.
    """

    def __init__(
        self,
        config: TrainingConfig,
        loss_function: nn.Module,
        encoder: Any,
        distillation: Distillation | None,
    ) -> None:
        self.config = config
        self.distillation = distillation
        self.loss_function = loss_function
        self.contrastive = ContrastiveLoss(config.contrast_temperature)
        self._encoder = encoder

    def __call__(
        self,
        model: Model,
        ids: Tensor,
        mask: Tensor,
        targets: Tensor,
        random: np.random.Generator,
        *,
        lesson: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Return losses (n,), in fp32, with their graph.

        Args:
            model: Called with ids, mask and how to mix.
            ids: (n, tokens).
            mask: (n, tokens).
            targets: Positions of the tags, (n,).
            random: Decides what is mixed.
            lesson: With a distillation: whether each row has a label (n,), and the teachers'
                probabilities (n, n_tags).
        """
        if self.config.adversarial:
            return self._adversarial(model, ids, mask, targets)
        mix = self._draw_mix(len(targets), random)
        logits, vectors = model(ids, mask, mix)
        losses = self.config.class_loss_weight * self._classification(logits.float(), targets, mix)
        if self.config.r_drop:
            # The same rows once more: dropout makes them differ (Liang et al., NeurIPS 2021).
            again, _ = model(ids, mask, mix)
            second = self._classification(again.float(), targets, mix)
            losses = 0.5 * (losses + self.config.class_loss_weight * second)
            divergence = symmetric_divergence(logits.float(), again.float())
            losses = losses + self.config.r_drop * divergence
        if self.config.contrast_loss_weight:
            losses = losses + self.config.contrast_loss_weight * self.contrastive(
                vectors.float(), targets
            )
        if self.distillation is not None:
            assert lesson is not None
            losses = self.distillation(
                losses=losses, logits=logits, vectors=vectors, ids=ids, mask=mask, lesson=lesson
            )
        return losses

    def _classification(
        self, logits: Tensor, targets: Tensor, mix: tuple[Tensor, float] | None
    ) -> Tensor:
        losses: Tensor = self.loss_function(logits, targets)
        if mix is None:
            return losses
        partners, share = mix
        other: Tensor = self.loss_function(logits, targets[partners])
        return share * losses + (1 - share) * other

    def _draw_mix(self, n: int, random: np.random.Generator) -> tuple[Tensor, float] | None:
        """Draw partners and a share for mixup of vectors (Zhang et al. 2018; Guo et al. 2019)."""
        if not self.config.mixup:
            return None
        share = float(random.beta(self.config.mixup, self.config.mixup))
        return torch.from_numpy(random.permutation(n)), share

    def _adversarial(self, model: Model, ids: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """Half the loss as it is, half where embeddings are moved to make it worst.

        One step along the gradient, of a length in proportion to the embeddings' own (Miyato, Dai
        & Goodfellow, ICLR 2017).
        """
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            kept.append(output if output.requires_grad else output.requires_grad_())
            return output

        handle = self._encoder.embeddings.register_forward_hook(keep)
        logits, _ = model(ids, mask, None)
        handle.remove()
        losses: Tensor = self.loss_function(logits.float(), targets)
        (gradient,) = torch.autograd.grad(losses.sum(), kept[0], retain_graph=True)
        lengths = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
        size = kept[0].detach().flatten(1).norm(dim=1)[:, None, None]
        noise = self.config.adversarial * size * gradient / lengths

        def shift(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            moved: Tensor = output + noise.to(output.dtype)
            return moved

        handle = self._encoder.embeddings.register_forward_hook(shift)
        moved, _ = model(ids, mask, None)
        handle.remove()
        worst: Tensor = self.loss_function(moved.float(), targets)
        return self.config.class_loss_weight * 0.5 * (losses + worst)
