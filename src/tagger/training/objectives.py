"""The training objective: the weighted terms of the loss of every item, each under its name.

A term whose weight is 0 costs nothing. benchmarks/recipes.py measures what adversarial noise brings
on content from the training source and from others, and any other term (--variant).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tagger.config.schema import DistillConfig, TrainingConfig
from tagger.training.losses import ContrastiveLoss, SoftTargetLoss, build_loss, vector_losses

# Takes ids and mask, (n, tokens); returns logits (n, n_tags) and vectors (n, hidden).
Model = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Batch:
    """The tensors of some training items.

    Attributes:
        ids: Token ids, (n, tokens).
        mask: 1 for tokens, 0 for padding, (n, tokens).
        targets: Positions of the tags, (n,).
        labelled: Whether each item has a label, (n,); None where all have one.
        teacher: The teachers' probabilities, (n, n_tags), NaN where there are none; None without
            a distillation.
        source_vectors: Vectors of the encoder that the student was cut out of, (n, width); None
            where they are not asked for.
    """

    ids: Tensor
    mask: Tensor
    targets: Tensor
    labelled: Tensor | None = None
    teacher: Tensor | None = None
    source_vectors: Tensor | None = None


class Objective:
    """Computes the terms of the loss of each item of a part of a batch.

    Args:
        config: Which terms, and the weight of each.
        encoder: Has a layer `embeddings`, to whose output adversarial noise is added.
        distill: Which terms of a distillation; None without one.
    """

    def __init__(
        self, config: TrainingConfig, encoder: Any, distill: DistillConfig | None = None
    ) -> None:
        self.config, self.distill = config, distill
        self.class_loss = build_loss(config)
        self.contrast_loss = ContrastiveLoss(config.contrast_temperature)
        self._encoder = encoder

    def __call__(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms by name, each (n,) in fp32 with its graph.

        Their sum is what training minimises.
        """
        if self.config.adversarial:
            return self._adversarial_terms(model, batch)
        logits, vectors = model(batch.ids, batch.mask)
        logits, vectors = logits.float(), vectors.float()
        class_loss = self.config.class_loss_weight * self.class_loss(logits, batch.targets)
        if self.distill is not None:
            return self._distillation_terms(self.distill, batch, class_loss, logits, vectors)
        terms = {"class_loss": class_loss}
        if weight := self.config.contrast_loss_weight:
            terms["contrast_loss"] = weight * self.contrast_loss(vectors, batch.targets)
        return terms

    def _distillation_terms(
        self,
        distill: DistillConfig,
        batch: Batch,
        class_loss: Tensor,
        logits: Tensor,
        vectors: Tensor,
    ) -> dict[str, Tensor]:
        labelled = 1.0 if batch.labelled is None else batch.labelled
        terms = {"class_loss": distill.class_loss_weight * class_loss * labelled}
        if distill.soft_loss_weight:
            assert batch.teacher is not None
            known = ~batch.teacher.isnan().any(dim=1)
            soft_loss = SoftTargetLoss(distill.temperature)
            divergence = soft_loss(logits, batch.teacher.nan_to_num(1.0))
            terms["soft_loss"] = distill.soft_loss_weight * divergence * known
        if distill.vector_loss_weight:
            assert batch.source_vectors is not None
            distances = vector_losses(vectors, batch.source_vectors)
            terms["vector_loss"] = distill.vector_loss_weight * distances
        return terms

    def _adversarial_terms(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        """Half the loss as it is, half where embeddings are moved to make it worst.

        One step along the gradient, of a length in proportion to the embeddings' own (Miyato, Dai
        & Goodfellow, ICLR 2017).
        """
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            kept.append(output if output.requires_grad else output.requires_grad_())
            return output

        handle = self._encoder.embeddings.register_forward_hook(keep)
        logits, _ = model(batch.ids, batch.mask)
        handle.remove()
        losses: Tensor = self.class_loss(logits.float(), batch.targets)
        (gradient,) = torch.autograd.grad(losses.sum(), kept[0], retain_graph=True)
        lengths = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
        size = kept[0].detach().flatten(1).norm(dim=1)[:, None, None]
        noise = self.config.adversarial * size * gradient / lengths

        def shift(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            moved: Tensor = output + noise.to(output.dtype)
            return moved

        handle = self._encoder.embeddings.register_forward_hook(shift)
        moved, _ = model(batch.ids, batch.mask)
        handle.remove()
        half = self.config.class_loss_weight * 0.5
        return {
            "class_loss": half * losses,
            "adversarial_loss": half * self.class_loss(moved.float(), batch.targets),
        }
