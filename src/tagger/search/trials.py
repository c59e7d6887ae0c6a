"""What one trial is: a config, the folds that judge it, and the score that comes of them."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from accelerate import Accelerator
from optuna.trial import Trial

from tagger.config.saved import save_config
from tagger.config.schema import TrainConfig
from tagger.files import write_json
from tagger.search.folds import Folds, run_fold
from tagger.search.racing import FOLD, RUNNING_MEANS, fold_results
from tagger.search.study import DONE
from tagger.training.loop import TrainingStopped
from tagger.training.tracking import start_wandb


@dataclass(frozen=True)
class Judged:
    """A trial's score by one objective.

    Attributes:
        mean: Over the folds that it was judged on.
        error: Standard error of that mean over folds; 0 where it is measured once.
        folds: How many those were.
    """

    mean: float
    error: float
    folds: int


def judge(attributes: Mapping[str, Any], metric: str) -> Judged | None:
    """Score a trial by what it keeps of its folds; None before the first of them.

    Folds share training rows, so the error is smaller than that of independent repetitions (Bengio
    and Grandvalet 2004): it tells a shaky mean from a firm one, and is no interval.
    """
    values = [fold["scores"][metric] for fold in folds_of(attributes) if metric in fold["scores"]]
    if not values:
        return None
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Judged(float(np.mean(values)), error, len(values))


def folds_of(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the fold results that a trial keeps, in the order of the steps."""
    folds = fold_results(attributes)
    return [folds[key] for key in sorted(folds, key=lambda key: int(key.rpartition("_")[2]))]


def run_trial(
    trial: Trial,
    config: TrainConfig,
    folds: Folds,
    steps: Sequence[int],
    *,
    accelerator: Accelerator,
    folder: Path,
    prune: bool,
    stopped: Callable[[], bool],
) -> dict[str, float]:
    """Judge a config on folds, one by one, and keep what each gives in the study.

    Folds that an earlier worker has done are not done again.

    Args:
        trial: Where results are kept.
        config: What to judge.
        folds: The divisions.
        steps: Which of them.
        accelerator: The device.
        folder: Of the trial: curves, and what is kept of it.
        prune: Whether to give up on it once it is clearly worse than the best.
        stopped: Asked between two trainings.

    Returns:
        The mean for each objective that was measured.

    Raises:
        optuna.TrialPruned: when it is clearly worse than the best.
        UserError: for what can't be trained.
        TrainingStopped: when it is to stop.
        ArithmeticError: when training diverged.
    """
    search = folds.config.search
    objective = search.objectives[0]
    attributes = dict(trial.user_attrs)
    tracking = folds.config.tracking
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_config(config, folder / "config.yaml")
    wandb = None
    if tracking.kind == "wandb":
        sweep = folder.parent.parent
        name = "-".join(folder.parts[-3:])
        wandb = start_wandb(sweep, tracking, config.model_dump(), name=name, group=sweep.name)
    try:
        for step in steps:
            if stopped():
                raise TrainingStopped
            key = FOLD.format(step)
            if key not in attributes:
                scratch = folder / f"fold-{step:02}"
                result = run_fold(folds, step, config, accelerator=accelerator, folder=scratch)
                shutil.rmtree(scratch / "checkpoints", ignore_errors=True)
                attributes[key] = result.plain() | {DONE: datetime.now().isoformat()}
                trial.set_user_attr(key, attributes[key])
            if wandb is not None:
                wandb.log({"fold": step, **attributes[key]["scores"]})
            if not prune:
                continue
            judged = judge(attributes, objective)
            assert judged is not None
            running = search.pruner in RUNNING_MEANS
            score = judged.mean if running else attributes[key]["scores"][objective]
            trial.report(score, step)
            if step != steps[-1] and trial.should_prune():
                raise optuna.TrialPruned
        values: dict[str, float] = {}
        for metric in search.objectives:
            judged = judge(attributes, metric)
            if judged is not None:
                values[metric] = judged.mean
        if not np.isfinite(list(values.values())).all():
            raise ArithmeticError(f"a score is not a number: {values}")
        if wandb is not None:
            wandb.summary.update(values)
        return values
    finally:
        if wandb is not None:
            wandb.finish()
        if search.keep_trials:
            write_json(folder / "folds.json", folds_of(attributes))
        else:
            shutil.rmtree(folder, ignore_errors=True)
