"""Out-of-fold predictions that finished runs recorded, for ensembles of them and for students.

A run has seen the labels of the rows that it was trained on, so its answer there tells nothing. For
these rows its `calibration.csv` is taken instead: the predictions of models that had not seen them
(`decision.folds`). A teacher predicts all other texts once; that is kept in its run folder by the
hash of the text.
"""

from collections.abc import Sequence

import numpy as np

from tagger.config.schema import EnsembleConfig
from tagger.data.items import Item
from tagger.data.tags import list_tags
from tagger.errors import UserError
from tagger.models.embedding import VectorCache
from tagger.progress import progress_bar
from tagger.runs import (
    RunFolder,
    open_run,
    read_calibration,
    read_ids,
    read_predictions,
    write_predictions,
)
from tagger.scores import FloatArray

TEACHER_PREDICTIONS = "teacher_predictions.csv"
"""The predictions that a run has made as a teacher, by the hash of the text."""

PREDICTED_AT_ONCE = 512


def check_folds(config: EnsembleConfig, runs_dir: str, data_sha256: str) -> None:
    """Refuse an ensemble whose members keep no predictions out of folds of the same items.

    Raises:
        UserError: naming what each such member lacks.
    """
    problems = []
    for run in (open_run(one, runs_dir) for one in config.runs):
        if run.decision_config.folds is None:
            problems.append(f"{run.name} was trained without decision.folds")
        elif run.meta.data.sha256 != data_sha256:
            problems.append(f"{run.name} was trained on other items")
    if problems:
        raise UserError(
            "an ensemble's decision is fitted to what its members said out of folds:",
            problems,
            "Train the members with decision.folds=5 (decision=threshold has it) on the same data "
            "and data.split, or fit to validation rows: decision.folds=null.",
        )


def mean_of_members(
    config: EnsembleConfig, runs_dir: str, items: Sequence[Item], tags: Sequence[str]
) -> tuple[list[Item], FloatArray]:
    """Return the items that all members predicted out of folds, and their mean probabilities."""
    members = [_recorded(open_run(one, runs_dir), tags) for one in config.runs]
    common = [item for item in items if all(item.id in one for one in members)]
    means = [np.mean([one[item.id] for one in members], axis=0) for item in common]
    return common, np.array(means).reshape(len(common), len(tags))


def check_teachers(
    names: Sequence[str], runs_dir: str, tags: Sequence[str], *, others: bool
) -> None:
    """Refuse a teacher of other tags, and teachers that would have nothing to say.

    Of the rows that it was trained on, a teacher without out-of-fold predictions says nothing; of
    other texts it does.

    Args:
        names: Of the teachers.
        runs_dir: Where they are, if given by name.
        tags: The approved tags.
        others: Whether the student learns from texts beside the labelled rows.

    Raises:
        UserError: saying why, and how to train one that has.
    """
    teachers = [open_run(name, runs_dir) for name in names]
    for name, teacher in zip(names, teachers, strict=True):
        if teacher.tags != tuple(tags):
            raise UserError(
                f"distill.teachers: {name} has other tags than the approved list:",
                [f"teacher: {list_tags(teacher.tags)}", f"approved: {list_tags(tags)}"],
            )
    if not others and all(one.decision_config.folds is None for one in teachers):
        raise UserError(
            f"distill.teachers: {', '.join(names)} were trained without decision.folds, so they "
            "have no out-of-fold predictions of the rows that they were trained on",
            hint="Train one of them again with decision.folds=5, or give other texts: "
            "distill.parts=true, distill.transfer=[FILE]",
        )


def predict_as_teacher(
    teacher: RunFolder, items: Sequence[Item], vectors: VectorCache | None = None
) -> None:
    """Let a teacher predict the texts that it has no predictions of, and keep these in its run.

    Args:
        teacher: The run.
        items: The texts.
        vectors: What frozen encoders are known to make of texts; None: nothing is.
    """
    known = _kept(teacher) | _out_of_fold(teacher)
    missing = list(
        {key: item for item in items if (key := item.content_hash) not in known}.values()
    )
    if not missing:
        return
    classifier, frozen = teacher.load_classifier(), teacher.frozen_config
    vectors = VectorCache() if vectors is None else vectors
    parts = []
    with progress_bar(len(missing), "teacher", "text") as bar:
        for start in range(0, len(missing), PREDICTED_AT_ONCE):
            asked = missing[start : start + PREDICTED_AT_ONCE]
            parts.append(vectors.predict_proba(frozen, classifier, asked))
            bar.update(len(parts[-1]))
    keys = [item.content_hash for item in missing]
    predicted = dict(zip(keys, np.concatenate(parts), strict=True))
    path = teacher.path / TEACHER_PREDICTIONS
    # Again, if another student's process has put a file in its place that lacks ours.
    while not predicted.keys() <= (kept := _kept(teacher)).keys():
        kept |= predicted
        write_predictions(path, list(kept), teacher.tags, np.array(list(kept.values())))


def teacher_predictions(teacher: RunFolder, items: Sequence[Item]) -> FloatArray:
    """Return the probabilities that a teacher gives to texts that it predicted, (n_items, n_tags).

    Those of rows that it was trained on are out of fold; NaN where there are none (`data.extra`).
    """
    known = _out_of_fold(teacher)
    seen = {row.content_hash for row in teacher.split_rows() if row.split in ("train", "extra")}
    known |= dict.fromkeys(seen - known.keys(), np.full(len(teacher.tags), np.nan))
    known = _kept(teacher) | known
    rows: FloatArray = np.array([known[item.content_hash] for item in items])
    rows /= rows.sum(axis=1, keepdims=True)
    return rows


def _kept(teacher: RunFolder) -> dict[str, FloatArray]:
    path = teacher.path / TEACHER_PREDICTIONS
    return read_predictions(path, teacher.tags) if path.exists() else {}


def _recorded(run: RunFolder, tags: Sequence[str]) -> dict[str, FloatArray]:
    """Return the probabilities of a run's `calibration.csv` by the row's id."""
    path = run.path / "calibration.csv"
    return dict(zip(read_ids(path), read_calibration(path, tags)[0], strict=True))


def _out_of_fold(teacher: RunFolder) -> dict[str, FloatArray]:
    """Return a teacher's out-of-fold predictions by content hash."""
    # A row of a further file may have the id of another one.
    hash_of = {row.id: row.content_hash for row in teacher.split_rows() if row.split != "extra"}
    recorded = _recorded(teacher, teacher.tags)
    return {hash_of[key]: row for key, row in recorded.items() if key in hash_of}
