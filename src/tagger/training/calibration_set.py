"""The calibration set of a run: predictions of rows that the model that predicts them did not see.

The decision is fitted to it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tagger.config.schema import EnsembleConfig, FrozenConfig, TrainConfig
from tagger.data.items import Item
from tagger.data.splits import Split, unseen_items
from tagger.data.tags import tag_positions
from tagger.decision.decider import CalibrationSet
from tagger.decision.ood import score_items
from tagger.models.base import Classifier
from tagger.oof.crossfit import cross_fit
from tagger.oof.recorded import mean_of_members
from tagger.scores import FloatArray
from tagger.training.fitting import fit_classifier
from tagger.training.inputs import TrainingContext, TrainingData


def make_calibration_set(
    config: TrainConfig,
    tags: Sequence[str],
    data: TrainingData,
    folds: Sequence[Split],
    *,
    classifier: Classifier,
    context: TrainingContext,
) -> tuple[list[Item], CalibrationSet]:
    """Return rows that were not seen, and their predictions, by the run's classifier or its folds.

    These are the validation rows or, with `folds`, the training rows out of fold.
    """
    ood_scores: FloatArray | None = None
    if isinstance(config.model, EnsembleConfig) and config.decision.folds is not None:
        seen = [*data.train, *data.validation]
        items, probabilities = mean_of_members(config.model, config.runs_dir, seen, tags)
        source = f"{len(items)} rows that all members predicted out of folds"
    elif folds:

        def fit_and_predict(fold: Split, folder: Path) -> tuple[FloatArray, FloatArray | None]:
            judged = [data.train[index] for index in fold.test]
            unseen = unseen_items(data.extra, judged, config.data.split.group)
            rest = TrainingData(
                [data.train[index] for index in fold.train],
                data.validation,
                [data.extra[index] for index in unseen],
                [*data.held_out, *judged],
            )
            fitted = fit_classifier(config, tags, rest, replace(context, folder=folder)).classifier
            scores = score_items(config.decision.ood, fitted, rest.trained_on, judged)
            # A frozen encoder is the same in all folds, and so is what it makes of a text.
            frozen = config.model if isinstance(config.model, FrozenConfig) else None
            return context.vectors.predict_proba(frozen, fitted, judged), scores

        items, probabilities, ood_scores = cross_fit(
            data.train,
            tags,
            folds,
            fit_and_predict,
            folder=context.folder,
            accelerator=context.accelerator,
        )
        source = f"{len(items)} training rows, out of {len(folds)} folds"
    else:
        items = list(data.validation)
        ood_scores = score_items(config.decision.ood, classifier, data.trained_on, items)
        probabilities = classifier.predict_proba(items).reshape(len(items), len(tags))
        source = f"{len(items)} validation rows"
    true = tag_positions(items, tags)
    row_sources = [item.source for item in items]
    return items, CalibrationSet(probabilities, true, ood_scores, source, row_sources)
