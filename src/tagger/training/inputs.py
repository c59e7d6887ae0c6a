"""The inputs of one training: its items, what it is computed on, and where its files go."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from tagger.config.schema import TrainConfig
from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.models.embedding import VectorCache


@dataclass(frozen=True)
class RunItems:
    """The items of a run's source, and how they are divided.

    Attributes:
        config: With the columns that were found in the source.
        items: All items of the source.
        tags: The approved tags.
        split: Positions in `items` of each part.
        extra: Items of further files that are trained on.
        notes: What is to be told about the source.
    """

    config: TrainConfig
    items: list[Item]
    tags: list[str]
    split: Split
    extra: list[Item]
    notes: list[str]

    def part(self, indices: list[int]) -> list[Item]:
        """Return the items at some positions."""
        return [self.items[index] for index in indices]


@dataclass(frozen=True)
class TrainingContext:
    """The devices, the precision and the folder of one training.

    Attributes:
        accelerator: Devices and processes.
        precision: `fp32`, or `bf16` to compute forward passes under autocast.
        folder: Where curves and checkpoints go.
        vectors: What frozen encoders make of texts, shared by trainings that ask for the same.
    """

    accelerator: Accelerator
    precision: str
    folder: Path
    vectors: VectorCache = field(default_factory=VectorCache)

    def autocast(self) -> torch.autocast:
        """Return a context in which forward passes are computed in the precision."""
        bf16 = self.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=bf16)


@dataclass(frozen=True)
class TrainingData:
    """The labelled items of one training.

    Attributes:
        train: Items of the source to train on.
        validation: Items that pick the best epoch of a fine-tuned model; others do without.
        extra: Items of further files (`data.extra`), none of them like a row that the model will
            be judged on.
        held_out: Items that the model will be judged on, beside the validation rows; texts like
            them are not learnt from, even without a label.
    """

    train: Sequence[Item]
    validation: Sequence[Item]
    extra: Sequence[Item]
    held_out: Sequence[Item]

    @property
    def trained_on(self) -> list[Item]:
        """All items that the model is trained on."""
        return [*self.train, *self.extra]


@dataclass(frozen=True)
class TrainingSet:
    """Items to train on, and the weight of each in the loss."""

    items: list[Item]
    weights: list[float]


@dataclass(frozen=True)
class DistillationSet(TrainingSet):
    """A training set whose items may lack a label, with the predictions of teachers.

    Labelled items come first. The others bear the tag that the teachers predict or, without
    teachers, the first one; it is a placeholder that no loss looks at.

    Attributes:
        labelled: Whether each item has a label of its own, (n,).
        teacher_predictions: Probabilities, (n, n_tags); NaN where no teacher predicts; without
            teachers all alike.
        source_vectors: What the encoder that the student was cut out of makes of each text,
            (n, width); None where `distill.vector_loss_weight` is 0.
    """

    labelled: Tensor
    teacher_predictions: Tensor
    source_vectors: Tensor | None
