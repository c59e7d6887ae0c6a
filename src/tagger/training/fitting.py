"""From a config and labelled items to a trained classifier, whatever the approach."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from tagger.config.schema import (
    DistillConfig,
    EnsembleConfig,
    FrozenConfig,
    LinearConfig,
    RulesConfig,
    TrainConfig,
    TransformerConfig,
)
from tagger.data.items import Item
from tagger.files import resolve_path
from tagger.models.base import Classifier
from tagger.models.encoders import load_encoder
from tagger.models.linear import LinearClassifier
from tagger.models.rules import RulesClassifier
from tagger.models.transformer import TransformerClassifier
from tagger.training.combining import combine_runs
from tagger.training.distillation import Distillation, Source, needs_source
from tagger.training.doubtful_labels import (
    TrainingRows,
    settle_doubtful_labels,
    write_doubtful,
)
from tagger.training.loop import fit
from tagger.training.probe import start_from_probe
from tagger.training.teaching import prepare_lessons
from tagger.training.tracking import Tracker


@dataclass(frozen=True)
class Fitted:
    """A trained classifier and how it came about.

    Attributes:
        classifier: Ready to predict.
        seconds: Spent in training, earlier attempts included.
        steps: Optimizer steps taken; 0 where there are none.
        best_step: The step whose weights were kept.
        best_validation: The validation metric at that step; None where none was taken.
        stopped_early: Whether patience ran out.
        parameters: Numbers that the model consists of; 0 for rules.
    """

    classifier: Classifier
    seconds: float
    steps: int = 0
    best_step: int = 0
    best_validation: float | None = None
    stopped_early: bool = False
    parameters: int = 0


@dataclass(frozen=True)
class Surroundings:
    """What one training works with, apart from its config and its rows.

    Attributes:
        accelerator: Devices and processes.
        precision: `fp32`, or `bf16` to compute forward passes under autocast.
        folder: Where curves and checkpoints go.
    """

    accelerator: Accelerator
    precision: str
    folder: Path


@dataclass(frozen=True)
class Rows:
    """What a model is trained on.

    Attributes:
        train: Labelled items of the source.
        validation: Labelled items that pick the best epoch of a fine-tuned model; others do
            without.
        extra: Labelled items of further files (`data.extra`), none of them like a row that the
            model will be judged on.
        held_out: Items that the model will be judged on, beside the validation rows; texts like
            them are not learnt from, even without a label.
    """

    train: Sequence[Item]
    validation: Sequence[Item]
    extra: Sequence[Item]
    held_out: Sequence[Item]


def fit_classifier(
    config: TrainConfig, tags: Sequence[str], rows: Rows, surroundings: Surroundings
) -> Fitted:
    """Train the model that a config names.

    Args:
        config: Its `model` decides the approach.
        tags: The approved tags.
        rows: What to train on.
        surroundings: Devices, precision, folder.

    Raises:
        UserError: for encoders, rules or runs that can't be used.
        TrainingStopped: after Ctrl-C or SIGTERM, once the checkpoint is on disk.
    """
    torch.manual_seed(config.seed)
    started = time.monotonic()
    model = config.model
    if isinstance(model, TransformerConfig):
        return _fine_tune(config, tags, rows, surroundings)
    if isinstance(model, RulesConfig):
        rules = RulesClassifier.read(resolve_path(model.rules), tags)
        return Fitted(rules, time.monotonic() - started)
    if isinstance(model, EnsembleConfig):
        return Fitted(combine_runs(model, config.runs_dir, tags), time.monotonic() - started)

    if isinstance(model, LinearConfig):
        used = _settle(config, tags, rows, None, surroundings)
        linear = LinearClassifier.fit(used.items, used.weights, model, tags)
        seconds = time.monotonic() - started
        return Fitted(linear, seconds, parameters=linear.weight.size + linear.bias.size)
    assert isinstance(model, FrozenConfig)
    frozen = TransformerClassifier.build_frozen(model, tags)
    used = _settle(config, tags, rows, frozen, surroundings)
    frozen.module.to(surroundings.accelerator.device)
    start_from_probe(frozen, used.items, used.weights, model.C, model.balanced)
    frozen.module.eval()
    return Fitted(frozen, time.monotonic() - started, parameters=_count(frozen))


def _fine_tune(
    config: TrainConfig, tags: Sequence[str], rows: Rows, surroundings: Surroundings
) -> Fitted:
    assert isinstance(config.model, TransformerConfig)
    classifier = TransformerClassifier.build(config.model, tags)
    used = _settle(config, tags, rows, classifier, surroundings)
    folder = surroundings.folder
    items, weights = used.items, used.weights
    distillation = lessons = None
    if config.distill is not None:
        accelerator = surroundings.accelerator
        held_out = [*rows.validation, *rows.held_out]
        lessons = prepare_lessons(
            config, tags, items, weights, held_out=held_out, accelerator=accelerator
        )
        items, weights = lessons.items, lessons.weights
        distillation = _distillation(
            config.model, config.distill, classifier, seed=config.seed, device=accelerator.device
        )
    progress = fit(
        classifier,
        items,
        rows.validation,
        item_weights=weights,
        config=config.training,
        seed=config.seed,
        accelerator=surroundings.accelerator,
        precision=surroundings.precision,
        folder=folder,
        open_tracker=lambda step: Tracker(folder, config.tracking, config.model_dump(), step),
        distillation=distillation,
        lessons=lessons,
    )
    # A loss was turned around, so that larger was better.
    best = None if progress.best_metric is None else abs(progress.best_metric)
    return Fitted(
        classifier,
        progress.seconds,
        steps=progress.step,
        best_step=progress.best_step if rows.validation else progress.step,
        best_validation=best,
        stopped_early=progress.stopped_early,
        parameters=_count(classifier),
    )


def _distillation(
    model: TransformerConfig,
    config: DistillConfig,
    student: TransformerClassifier,
    *,
    seed: int,
    device: torch.device,
) -> Distillation:
    source = None
    if needs_source(config):
        # As the student's own was drawn, if it was: a random encoder is to be the same one.
        torch.manual_seed(seed)
        encoder, tokenizer = load_encoder(model)
        source = Source(encoder, tokenizer, student.tokenizer, model.pooling).to(device)
    return Distillation(config, student.module, source)


def _settle(
    config: TrainConfig,
    tags: Sequence[str],
    rows: Rows,
    encoder: TransformerClassifier | None,
    surroundings: Surroundings,
) -> TrainingRows:
    """Settle the source's own doubtful labels, then add the rows of further files."""
    action = config.training.doubtful_labels
    used = settle_doubtful_labels(rows.train, tags, action, encoder.embed if encoder else None)
    if used.doubtful and surroundings.accelerator.is_main_process:
        write_doubtful(surroundings.folder / "doubtful.csv", used, action)
    weights = [*used.weights, *[config.data.extra_weight] * len(rows.extra)]
    return TrainingRows([*used.items, *rows.extra], weights, used.doubtful)


def _count(classifier: TransformerClassifier) -> int:
    return sum(parameter.numel() for parameter in classifier.module.parameters())
