"""Predictions to fit a decision to: of rows that the model that predicts them did not see."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate.utils import broadcast_object_list

from tagger.config.schema import EnsembleConfig, TrainConfig
from tagger.data.items import Item
from tagger.data.splits import Split, group_items, split_items, unseen_items
from tagger.data.tags import tag_positions
from tagger.decision.decider import NOVELTY_FILE, CalibrationRows, fit_rule, save_rule
from tagger.decision.novelty import Embeds, Novelty
from tagger.errors import UserError
from tagger.models.base import Classifier
from tagger.runs import read_calibration, write_calibration
from tagger.scores import FloatArray
from tagger.training.combining import joint_predictions
from tagger.training.fitting import Rows, Surroundings, fit_classifier

FOLDS_FOLDER = "folds"


def plan_folds(train: Sequence[Item], config: TrainConfig) -> list[Split]:
    """Divide the training rows into the folds of `decision.folds`; there are none without it.

    Nor are there for an ensemble: nothing of it is trained.

    Raises:
        UserError: when a fold would leave a tag without a row to train on.
    """
    folds = config.decision.folds
    if folds is None or isinstance(config.model, EnsembleConfig):
        return []
    group_of = group_items(train, config.data.split.group)
    try:
        return [
            split_items(
                train,
                config.data.split.model_copy(
                    update={
                        "validation": 0.0,
                        "test": 0.0,
                        "folds": folds,
                        "fold": fold,
                        "per_tag": None,
                    }
                ),
                group_of,
            )
            for fold in range(folds)
        ]
    except UserError as error:
        raise UserError(
            f"decision.folds={folds}: the training rows can't be divided so: {error.summary}",
            error.problems,
            "Give fewer decision.folds, or fit the decision to validation rows "
            "(decision.folds=null).",
        ) from None


def calibration_rows(
    config: TrainConfig,
    tags: Sequence[str],
    rows: Rows,
    folds: Sequence[Split],
    *,
    classifier: Classifier,
    surroundings: Surroundings,
) -> tuple[list[Item], CalibrationRows]:
    """Predict rows that were not seen: the validation rows, or the training rows out of fold.

    With folds, the model is trained once more without each of them and predicts it. What a fold
    gave is kept below `folds/` until all are done, so a run that is killed goes on with the fold
    that was going on.

    Args:
        config: Of the run.
        tags: The approved tags.
        rows: What `classifier` was trained on.
        folds: From `plan_folds`.
        classifier: The run's own, which predicts the validation rows.
        surroundings: As for the run itself.

    Returns:
        The rows' items, and their predictions.
    """
    if isinstance(config.model, EnsembleConfig) and config.decision.folds is not None:
        known = [*rows.train, *rows.validation]
        items, probabilities = joint_predictions(config.model, config.runs_dir, known, tags)
        source = f"{len(items)} rows that all members predicted out of folds"
        return items, CalibrationRows(probabilities, tag_positions(items, tags), None, source)
    kind = config.decision.ood
    if not folds:
        items = list(rows.validation)
        novelty = None
        if kind != "none" and items:
            novelty = _novelty(classifier, known_items(rows), tags, kind, items)
        probabilities = classifier.predict_proba(items).reshape(len(items), len(tags))
        source = f"{len(items)} validation rows"
        return items, CalibrationRows(probabilities, tag_positions(items, tags), novelty, source)

    order: list[Item] = []
    parts: list[tuple[FloatArray, FloatArray | None]] = []
    for fold, division in enumerate(folds):
        items = [rows.train[index] for index in division.test]
        rest = [rows.train[index] for index in division.train]
        unseen = unseen_items(rows.extra, items, config.data.split.group)
        extra = [rows.extra[index] for index in unseen]
        inner_rows = Rows(rest, rows.validation, extra, [*rows.held_out, *items])
        folder = surroundings.folder / FOLDS_FOLDER / str(fold)
        done = folder / "predictions.csv"
        # One process decides for all, or a late one would find the file of this very fold.
        if not broadcast_object_list([done.exists()])[0]:
            folder.mkdir(parents=True, exist_ok=True)
            inner = replace(surroundings, folder=folder)
            fitted = fit_classifier(config, tags, inner_rows, inner).classifier
            novelty = None
            if kind != "none":
                novelty = _novelty(fitted, known_items(inner_rows), tags, kind, items)
            if surroundings.accelerator.is_main_process:
                write_calibration(done, items, tags, fitted.predict_proba(items), novelty)
                _clear(folder, done)
            surroundings.accelerator.wait_for_everyone()
        probabilities, _, novelty = read_calibration(done, tags)
        order += items
        parts.append((probabilities, novelty))
    strange = [novelty for _, novelty in parts if novelty is not None]
    return order, CalibrationRows(
        np.concatenate([probabilities for probabilities, _ in parts]),
        tag_positions(order, tags),
        np.concatenate(strange) if strange else None,
        f"{len(order)} training rows, out of {len(folds)} folds",
    )


def write_decision(
    folder: Path,
    config: TrainConfig,
    classifier: Classifier,
    *,
    known: Sequence[Item],
    items: Sequence[Item],
    rows: CalibrationRows,
) -> None:
    """Fit a run's decision; write `calibration.csv`, `decision.json`, and what novelty needs.

    Args:
        folder: The run folder.
        config: Of the run.
        classifier: The run's own.
        known: What it was trained on.
        items: Of the calibration rows.
        rows: Their predictions.
    """
    tags = classifier.tags
    write_calibration(folder / "calibration.csv", items, tags, rows.probabilities, rows.novelty)
    kind = config.decision.ood
    if kind != "none":
        assert isinstance(classifier, Embeds)
        vectors = classifier.embed(known)
        Novelty.fit(kind, vectors, tag_positions(known, tags).tolist()).save(folder / NOVELTY_FILE)
    save_rule(folder, config.decision, fit_rule(config.decision, rows), rows)


def known_items(rows: Rows) -> list[Item]:
    """Return all items that a model was trained on."""
    return [*rows.train, *rows.extra]


def _novelty(
    classifier: Classifier,
    known: Sequence[Item],
    tags: Sequence[str],
    kind: str,
    items: Sequence[Item],
) -> FloatArray:
    assert isinstance(classifier, Embeds)  # the config's own check
    novelty = Novelty.fit(kind, classifier.embed(known), tag_positions(known, tags).tolist())
    return novelty.score(classifier.embed(items))


def _clear(folder: Path, keep: Path) -> None:
    """Remove what a fold's training left: checkpoints and curves."""
    for path in folder.iterdir():
        if path == keep:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
