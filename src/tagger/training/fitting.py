"""Trains the classifier that a config names, whatever the approach."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tagger.config.schema import (
    EnsembleConfig,
    FrozenConfig,
    LinearConfig,
    RulesConfig,
    TrainConfig,
    TransformerConfig,
)
from tagger.files import resolve_path
from tagger.models.base import Classifier
from tagger.models.linear import LinearClassifier
from tagger.models.rules import RulesClassifier
from tagger.models.transformer import TransformerClassifier
from tagger.training.distillation import build_distillation_set
from tagger.training.ensembles import combine_runs
from tagger.training.inputs import TrainingContext, TrainingData, TrainingSet
from tagger.training.loop import FinetuningRecipe
from tagger.training.probe import start_from_probe


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


def fit_classifier(
    config: TrainConfig, tags: Sequence[str], data: TrainingData, context: TrainingContext
) -> Fitted:
    """Train the model that a config names.

    Raises:
        UserError: for encoders, rules or runs that can't be used.
        TrainingStopped: after Ctrl-C or SIGTERM, once the checkpoint is on disk.
    """
    torch.manual_seed(config.seed)
    started = time.monotonic()
    model = config.model
    extra_weights = [config.data.extra_weight * item.weight for item in data.extra]
    weights = [*(item.weight for item in data.train), *extra_weights]
    train_set = TrainingSet(data.trained_on, weights)
    if isinstance(model, TransformerConfig):
        return _fine_tune(config, tags, data, train_set, context)
    classifier: Classifier
    parameters = 0
    if isinstance(model, RulesConfig):
        classifier = RulesClassifier.read(resolve_path(model.rules), tags)
    elif isinstance(model, EnsembleConfig):
        classifier = combine_runs(model, config.runs_dir, tags)
    elif isinstance(model, LinearConfig):
        classifier = LinearClassifier.fit(train_set.items, weights, model, tags)
        parameters = classifier.weight.size + classifier.bias.size
    else:
        assert isinstance(model, FrozenConfig)
        classifier = TransformerClassifier.build_frozen(model, tags)
        classifier.module.to(context.accelerator.device)
        start_from_probe(
            classifier,
            train_set.items,
            weights,
            model.C,
            balanced=model.balanced,
            embedded=context.vectors.embed(model, classifier, train_set.items),
        )
        classifier.module.eval()
        parameters = _count(classifier)
    return Fitted(classifier, time.monotonic() - started, parameters=parameters)


def _fine_tune(
    config: TrainConfig,
    tags: Sequence[str],
    data: TrainingData,
    train_set: TrainingSet,
    context: TrainingContext,
) -> Fitted:
    model = config.model
    assert isinstance(model, TransformerConfig)
    classifier = TransformerClassifier.build(model, tags)
    if config.distill is not None:
        held_out = [*data.validation, *data.held_out]
        train_set = build_distillation_set(
            config, tags, train_set, held_out=held_out, context=context
        )
    recipe = FinetuningRecipe(
        config, context, classifier, train_set=train_set, validation=data.validation
    )
    recipe.setup()
    recipe.train()
    progress = recipe.cleanup()
    # A loss was turned around, so that larger was better.
    best = None if progress.best_metric is None else abs(progress.best_metric)
    return Fitted(
        classifier,
        progress.seconds,
        steps=progress.step,
        best_step=progress.best_step if data.validation else progress.step,
        best_validation=best,
        stopped_early=progress.stopped_early,
        parameters=_count(classifier),
    )


def _count(classifier: TransformerClassifier) -> int:
    return sum(parameter.numel() for parameter in classifier.module.parameters())
