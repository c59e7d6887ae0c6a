"""Divides rows by repeated cross-validation, the same for all trials, and trains on one fold."""

import shutil
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from tagger.config.schema import ROW_METRICS, LatencyConfig, OptimizeConfig, TrainConfig
from tagger.data.items import Item
from tagger.data.sources import load_extra, load_labelled
from tagger.data.splits import Split, group_items, split_items, unseen_items
from tagger.data.tags import tag_positions
from tagger.decision.decider import PLAIN, Decider
from tagger.errors import UserError
from tagger.evaluation.latency import measure_latency
from tagger.files import folder_mib
from tagger.search.fold_results import FoldResult
from tagger.search.metrics import score_rows
from tagger.training.devices import build_accelerator, resolve_precision
from tagger.training.fitting import fit_classifier
from tagger.training.inputs import TrainingContext, TrainingData

CONFIRMING = 1_000_003
"""Added to the seeds of a search by those that confirm its winner, so that none is used twice."""

DIGITS = 6
LATENCY = LatencyConfig(items=200, warmup=20, threads=1)
NEVER = 1e9


class Folds:
    """The rows of a sweep, divided once for all of its trials.

    Rows that the config holds out for testing (`data.split.test`) are in no fold: no trial is
    judged on them, so the winner can still be.

    Args:
        config: Of the sweep.
        confirming: Divide with seeds that the search has not used.

    Attributes:
        repeats: How often all rows are divided.
        steps: How many trainings judge a trial: folds times repeats.
        tags: The approved tags.
        items: The rows that are not held out for testing.
        true: Position of each row's tag, (n,).
    """

    def __init__(self, config: OptimizeConfig, confirming: bool) -> None:
        self.config = config
        self.first_seed = config.seed + (CONFIRMING if confirming else 0)
        self.repeats = config.search.confirm if confirming else config.search.repeats
        self.steps = config.search.folds * self.repeats
        labelled = load_labelled(config.data)
        split = config.data.split
        self.tags = labelled.tags
        self.items = labelled.items
        self._group_of = group_items(self.items, split.group)
        if split.test or labelled.parts is not None:
            # `per_tag` makes training sets smaller, and not what is judged.
            whole = split.model_copy(update={"per_tag": None})
            parts = split_items(self.items, whole, self._group_of, labelled.parts)
            kept = sorted([*parts.train, *parts.validation])
            self.items = [self.items[index] for index in kept]
            self._group_of = [self._group_of[index] for index in kept]
        self.true = tag_positions(self.items, self.tags)
        self._splits: dict[int, Split] = {}
        self._extra: dict[tuple[int, tuple[str, ...]], list[Item]] = {}

    def seed(self, step: int) -> int:
        """Return the seed of a step: of its division into folds and of its training."""
        return self.first_seed + step // self.config.search.folds

    def split(self, step: int) -> Split:
        """Return the rows of a step: which to train on, to stop on, and to judge by.

        Raises:
            UserError: when there are too few rows to divide so.
        """
        if step not in self._splits:
            given = self.config.data.split
            try:
                self._splits[step] = split_items(
                    self.items,
                    given.model_copy(
                        update={
                            "test": 0.0,
                            "seed": self.seed(step),
                            "folds": self.config.search.folds,
                            "fold": step % self.config.search.folds,
                        }
                    ),
                    self._group_of,
                )
            except UserError as error:
                raise UserError(
                    f"search.folds={self.config.search.folds}: {error.summary}",
                    error.problems,
                    "Take fewer folds, a smaller data.split.validation, or add items.",
                ) from None
        return self._splits[step]

    def extra(self, step: int, config: TrainConfig) -> list[Item]:
        """Return the rows of further files, without any that resembles a row judged by."""
        key = (step, tuple(config.data.extra))
        if key not in self._extra:
            extra = load_extra(config.data, self.tags)
            if extra:
                split = self.split(step)
                held_out = [self.items[index] for index in (*split.validation, *split.test)]
                unseen = unseen_items(extra, held_out, config.data.split.group)
                extra = [extra[index] for index in unseen]
            self._extra[key] = extra
        return self._extra[key]


def run_fold(
    folds: Folds,
    step: int,
    config: TrainConfig,
    *,
    accelerator: Accelerator,
    folder: Path,
) -> FoldResult:
    """Train on one division and predict the rows that were left out.

    Args:
        folds: The divisions.
        step: Which of them.
        config: What to train; its seed gives way to that of the step.
        accelerator: The device.
        folder: For curves and checkpoints.

    Raises:
        UserError: for what can't be trained.
        TrainingStopped: after SIGTERM or Ctrl-C.
        ArithmeticError: when training diverged.
    """
    split = folds.split(step)
    seed = folds.seed(step)
    given = config.model_copy(
        update={
            "seed": seed,
            # The unit that is lost by a kill is a fold, which its checkpoints would outweigh.
            "training": config.training.model_copy(update={"checkpoint_seconds": NEVER}),
            "tracking": config.tracking.model_copy(update={"kind": "none"}),
            "data": config.data.model_copy(
                update={"split": config.data.split.model_copy(update={"seed": seed})}
            ),
        }
    )
    rows = TrainingData(
        train=[folds.items[index] for index in split.train],
        validation=[folds.items[index] for index in split.validation],
        extra=folds.extra(step, given),
        held_out=[folds.items[index] for index in split.test],
    )
    precision = resolve_precision(config.training.mixed_precision, accelerator.device)
    started = time.monotonic()
    fitted = fit_classifier(
        given, folds.tags, rows, TrainingContext(accelerator, precision, folder)
    ).classifier
    trained = time.monotonic()
    judged = [folds.items[index] for index in split.test]
    probabilities = fitted.predict_proba(judged)
    if not np.isfinite(probabilities).all():
        raise ArithmeticError("training diverged: probabilities are not finite")
    best, true = probabilities.argmax(axis=1), folds.true[split.test]
    objectives: Sequence[str] = folds.config.search.objectives
    scores = {
        metric: score_rows(metric, probabilities, true)
        for metric in objectives
        if metric in ROW_METRICS
    }
    if "seconds" in objectives:
        scores["seconds"] = trained - started
    if step == folds.steps - 1 and "mib" in objectives:
        saved = folder / "model"
        fitted.save(saved)
        scores["mib"] = folder_mib(saved)
        shutil.rmtree(saved)
    if step == folds.steps - 1 and "p50_ms" in objectives:
        timed = measure_latency(Decider(fitted, PLAIN, None), judged, LATENCY)
        scores["p50_ms"] = timed.p50_ms
    return FoldResult(
        scores=scores,
        predicted=best.tolist(),
        wrong=np.flatnonzero(best != true).tolist(),
        confidence=probabilities.max(axis=1).round(DIGITS).tolist(),
        of_true=probabilities[np.arange(len(true)), true].round(DIGITS).tolist(),
        seconds=trained - started,
        predicting=time.monotonic() - trained,
        done=datetime.now(),
    )


def prepare_process(config: OptimizeConfig) -> Accelerator:
    """Set this process up to train as `train.py` would, on its share of the cores."""
    return build_accelerator(config.training.threads, sharers=config.search.workers)
