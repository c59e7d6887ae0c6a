"""Runs one trial: trains a config on fold after fold, and averages its scores."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
from accelerate import Accelerator
from optuna.trial import Trial

from tagger.config.saved import save_config
from tagger.config.schema import TrainConfig
from tagger.files import write_json
from tagger.search.fold_results import FOLD, mean_score, stored_folds
from tagger.search.folds import Folds, run_fold
from tagger.search.racing import RUNNING_MEANS
from tagger.training.loop import TrainingStopped
from tagger.training.trackers import Mirror


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
    """Train and score a config on folds, one by one, and keep each result in the study.

    Folds that an earlier worker has done are not done again.

    Args:
        trial: Where results are kept.
        config: What to judge.
        folds: The divisions.
        steps: Which of them.
        accelerator: The device.
        folder: For curves, and what is kept of the trial.
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
    mirror = None
    if tracking.kind != "none":
        sweep = folder.parent.parent
        name = "-".join(folder.parts[-3:])
        mirror = Mirror(tracking, sweep, name, config.model_dump(), sweep=sweep.name)
    try:
        for step in steps:
            if stopped():
                raise TrainingStopped
            key = FOLD.format(step)
            if key not in attributes:
                scratch = folder / f"fold-{step:02}"
                result = run_fold(folds, step, config, accelerator=accelerator, folder=scratch)
                shutil.rmtree(scratch / "checkpoints", ignore_errors=True)
                attributes[key] = result.model_dump(mode="json")
                trial.set_user_attr(key, attributes[key])
            if mirror is not None:
                mirror.log(attributes[key]["scores"], step)
            if not prune:
                continue
            score = mean_score(attributes, objective)
            assert score is not None
            running = search.pruner in RUNNING_MEANS
            trial.report(score.mean if running else attributes[key]["scores"][objective], step)
            if step != steps[-1] and trial.should_prune():
                raise optuna.TrialPruned
        values: dict[str, float] = {}
        for metric in search.objectives:
            score = mean_score(attributes, metric)
            if score is not None:
                values[metric] = score.mean
        if not np.isfinite(list(values.values())).all():
            raise ArithmeticError(f"a score is not a number: {values}")
        if mirror is not None:
            mirror.summarize(values)
        return values
    finally:
        if mirror is not None:
            mirror.close()
        if search.keep_trials:
            write_json(folder / "folds.json", list(stored_folds(attributes).values()))
        else:
            shutil.rmtree(folder, ignore_errors=True)
