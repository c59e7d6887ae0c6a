"""Losses by which a student learns from a teacher's probabilities and from its source's insides.

The source is the whole encoder that the student was cut out of. It is asked at every step, about
the very tokens that the student reads. Each loss gives one value an item; `Distillation` adds them
up.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from tagger.config.schema import DistillConfig
from tagger.errors import UserError
from tagger.models.bert import BertEncoder
from tagger.models.transformer import POOLINGS, TransformerModule
from tagger.models.vocabulary import origin_of_tokens

RELATIONS = ("query", "key", "value")


class SoftTargets(nn.Module):
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


class VectorLikeness(nn.Module):
    """How unlike a student's vectors of texts are to the source's.

    Vectors of one width are compared by their angle. Of others, the similarities between the texts
    of a batch are compared (Tung & Mori 2019), which no width enters into.
    """

    def forward(self, student: Tensor, source: Tensor) -> Tensor:
        """Map vectors (n, width) and (n, source width) to losses (n,)."""
        ours, theirs = F.normalize(student), F.normalize(source)
        if ours.shape == theirs.shape:
            angles: Tensor = 1 - (ours * theirs).sum(-1)
            return angles
        unlike: Tensor = (ours @ ours.T - theirs @ theirs.T).square().mean(-1)
        return unlike


class StateLikeness(nn.Module):
    """Mean squared difference of token states (Jiao et al. 2020, equation 8, of one width)."""

    def forward(self, student: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Map states (n, tokens, width), twice, and mask (n, tokens) to losses (n,)."""
        per_token = (student - source).square().mean(-1) * mask
        losses: Tensor = per_token.sum(-1) / mask.sum(-1)
        return losses


class RelationLikeness(nn.Module):
    """Divergence of the relations between queries, keys or values (Wang et al. 2021, MiniLMv2).

    Relations are scaled products of a layer's projections with themselves, in `heads` parts, so
    student and source need not have attention heads of one number or size.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, student: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Map projections (n, tokens, width), of any widths, and mask (n, tokens) to losses."""
        ours, theirs = self._relations(student, mask), self._relations(source, mask)
        divergence = (theirs.exp() * (theirs - ours)).sum(-1).mean(1)
        losses: Tensor = (divergence * mask).sum(-1) / mask.sum(-1)
        return losses

    def _relations(self, states: Tensor, mask: Tensor) -> Tensor:
        n, tokens, width = states.shape
        parts = states.float().view(n, tokens, self.heads, width // self.heads).transpose(1, 2)
        products = parts @ parts.transpose(-2, -1) * (width // self.heads) ** -0.5
        # A large negative number instead of -inf: 0 * inf would be no number in the divergence.
        shares: Tensor = products.masked_fill(mask[:, None, None, :] == 0, -1e4).log_softmax(-1)
        return shares


class Source(nn.Module):
    """The encoder that a student was cut out of, whole, frozen, and asked with the student's ids.

    Args:
        encoder: Whole.
        tokenizer: Its own.
        student_tokenizer: Its vocabulary may be a part of the other's.
        pooling: How a vector is made of token states.
    """

    def __init__(
        self, encoder: nn.Module, tokenizer: Tokenizer, student_tokenizer: Tokenizer, pooling: str
    ) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.pool = POOLINGS[pooling]
        self.origin: Tensor
        origin = origin_of_tokens(student_tokenizer, tokenizer)
        self.register_buffer("origin", origin, persistent=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Map the student's ids and mask, (n, tokens), to vectors (n, width)."""
        with torch.no_grad():
            states = self.encoder(input_ids=self.origin[ids], attention_mask=mask)
            return self.pool(states.last_hidden_state.float(), mask)


class Distillation:
    """Adds to the loss of labels what is learnt from a teacher and from the source.

    Args:
        config: Which losses, and how much of each.
        student: Whose insides are watched.
        source: Asked at each step; None where no loss needs it.

    Raises:
        UserError: for layers that can't be compared.
    """

    def __init__(
        self, config: DistillConfig, student: TransformerModule, source: Source | None
    ) -> None:
        self.config = config
        self.source = source
        self.soft = SoftTargets(config.temperature)
        self.vectors = VectorLikeness()
        self.states = StateLikeness()
        self._ours: dict[str, Tensor] = {}
        self._theirs: dict[str, Tensor] = {}
        self._pairs: list[tuple[str, str]] = []
        if config.states or config.attention:
            assert source is not None
            self._watch(student.encoder, source.encoder)

    def __call__(
        self,
        *,
        losses: Tensor,
        logits: Tensor,
        vectors: Tensor,
        ids: Tensor,
        mask: Tensor,
        lesson: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return losses (n,), after a forward pass of the student.

        Args:
            losses: Of the labels, (n,).
            logits: The student's, (n, n_tags).
            vectors: The student's, (n, width).
            ids: (n, tokens).
            mask: (n, tokens).
            lesson: Whether each row has a label, (n,), and the teachers' probabilities,
                (n, n_tags), not numbers where they have no opinion.
        """
        config = self.config
        labelled, soft = lesson
        losses = config.class_loss_weight * losses * labelled
        if config.soft_loss_weight:
            known = ~soft.isnan().any(dim=1)
            divergence = self.soft(logits.float(), soft.nan_to_num(1.0))
            losses = losses + config.soft_loss_weight * divergence * known
        if self.source is None:
            return losses
        theirs = self.source(ids, mask)
        if config.vector_loss_weight:
            losses = losses + config.vector_loss_weight * self.vectors(vectors.float(), theirs)
        for ours, other in self._pairs:
            if config.states:
                state = self.states(self._ours[ours].float(), self._theirs[other].float(), mask)
                losses = losses + config.states / len(self._pairs) * state
        if config.attention:
            # The last layers alone: what lies below is the student's own affair (MiniLM).
            for kind in RELATIONS:
                relation = self.relations(self._ours[kind], self._theirs[kind], mask)
                losses = losses + config.attention / len(RELATIONS) * relation
        self._ours.clear()
        self._theirs.clear()
        return losses

    def _watch(self, student: Any, source: Any) -> None:
        """Keep what chosen layers of both put out, at every forward pass."""
        for encoder in (student, source):
            if not isinstance(encoder, BertEncoder):
                raise UserError(
                    "distill.states and distill.attention look into encoders of type BERT, and "
                    f"this is {type(encoder).__name__}",
                    hint="Set both to 0; the soft and the vector loss work with any encoder.",
                )
        ours, theirs = student.encoder.layer, source.encoder.layer
        places = self.config.layers or evenly_spaced(len(ours), len(theirs))
        if len(places) != len(ours) or max(places) >= len(theirs):
            raise UserError(
                f"distill.layers={places}: expected a layer of the source, 0 to {len(theirs) - 1}, "
                f"for each of the student's {len(ours)}"
            )
        if self.config.states:
            if student.config.hidden_size != source.config.hidden_size:
                raise UserError(
                    f"distill.states compares states of one width: the student has "
                    f"{student.config.hidden_size} numbers a token, the source "
                    f"{source.config.hidden_size}",
                    hint="Set distill.states=0; the other losses take any.",
                )
            for number, place in enumerate(places):
                _keep(ours[number], self._ours, f"state {number}")
                _keep(theirs[place], self._theirs, f"state {place}")
            self._pairs = [(f"state {n}", f"state {place}") for n, place in enumerate(places)]
        if self.config.attention:
            heads = student.config.num_attention_heads
            if source.config.hidden_size % heads:
                raise UserError(
                    f"distill.attention compares relations in {heads} parts, the student's "
                    f"attention heads, which the source's width of {source.config.hidden_size} "
                    "can't be divided into",
                    hint="Choose another model.keep_width, or set distill.attention=0.",
                )
            self.relations = RelationLikeness(heads)
            for kind in RELATIONS:
                _keep(getattr(ours[-1].attention.self, kind), self._ours, kind)
                _keep(getattr(theirs[places[-1]].attention.self, kind), self._theirs, kind)


def evenly_spaced(student_layers: int, source_layers: int) -> list[int]:
    """Return the source layer that each of a student's layers learns from, ending in the last."""
    return [(number + 1) * source_layers // student_layers - 1 for number in range(student_layers)]


def needs_source(config: DistillConfig) -> bool:
    """Whether any loss asks the source."""
    return bool(config.vector_loss_weight or config.states or config.attention)


def _keep(module: nn.Module, kept: dict[str, Tensor], name: str) -> None:
    def hook(_module: nn.Module, _inputs: Sequence[Any], output: Tensor) -> None:
        kept[name] = output

    module.register_forward_hook(hook)
