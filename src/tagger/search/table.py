"""The trials of a sweep as a table, and what the parameters had to do with the score."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from tagger.files import replacing
from tagger.search.metrics import direction_of
from tagger.search.racing import fold_results
from tagger.search.space import SearchSpace
from tagger.search.study import DONE, ERROR, FINISHED, ORIGIN, WORKER, counted
from tagger.search.trials import folds_of, judge

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
FEWEST_TRIALS = 4
"""Below this many, nothing is said of what mattered."""


def tabulate(study: Study, space: SearchSpace, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each trial that has begun, ready for JSON.

    Returns:
        `number`, `state`, `origin` (default, a run, grid, or the sampler's); by metric its mean and
        `METRIC_error`, None before the first fold; `folds`; `wall_seconds` of the trial, and
        `model_seconds` of training and prediction within it, without folds that it took over; by
        dotted key the value of each parameter, None where it did not apply; `worker`, `error`.
    """
    rows = []
    for trial in counted(study.get_trials(deepcopy=False)):
        if trial.state == TrialState.WAITING:
            continue
        folds = folds_of(trial.user_attrs)
        row: dict[str, Any] = {
            "number": trial.number,
            "state": STATES[trial.state],
            "origin": trial.user_attrs.get(ORIGIN, "sampler"),
        }
        for metric in metrics:
            judged = judge(trial.user_attrs, metric)
            row[metric] = None if judged is None else judged.mean
            row[f"{metric}_error"] = None if judged is None else judged.error
        row |= {
            "folds": len(folds),
            "model_seconds": sum(
                fold["seconds"] + fold["predicting"] for fold in folds if _is_own(fold, trial)
            ),
            "wall_seconds": None if trial.duration is None else trial.duration.total_seconds(),
        }
        chosen = space.decode(trial.params)
        row |= {one.path: chosen.get(one.path) for one in space.parameters}
        row |= {key: trial.user_attrs.get(key) for key in (WORKER, ERROR)}
        rows.append(row)
    return rows


def write_table(path: Path, rows: Sequence[dict[str, Any]], space: SearchSpace) -> None:
    """Write the trials as Parquet; what is chosen, and not from a range, stands there as JSON."""
    chosen = {one.path for one in space.parameters if one.choices}
    plain = [
        {
            key: json.dumps(value) if key in chosen and value is not None else value
            for key, value in row.items()
        }
        for row in rows
    ]
    with replacing(path) as temporary:
        pd.DataFrame(plain).to_parquet(temporary, index=False)


def estimate(trial: FrozenTrial, best: FrozenTrial, metric: str) -> float | None:
    """Estimate what a trial would have scored on all folds; None for one without a fold.

    That is the best trial's score, and the mean gap to it on the folds that both have seen.
    """
    mine = _scores(trial, metric)
    its = _scores(best, metric)
    shared = mine.keys() & its.keys()
    if not shared:
        return None
    gap = sum(mine[key] - its[key] for key in shared) / len(shared)
    return sum(its.values()) / len(its) + gap


def importances(study: Study, best: FrozenTrial, metric: str, seed: int) -> dict[str, float]:
    """Return the share of the score's variation that each parameter explains, the largest first.

    Functional ANOVA over a forest (Hutter, Hoos and Leyton-Brown, ICML 2014), which sees the
    parameters that all trials have; trials that were stopped early count with their estimate.
    Empty where there are too few trials, or all scored the same.
    """
    copy = optuna.create_study(direction=direction_of(metric))
    values = []
    for trial in study.get_trials(deepcopy=False, states=FINISHED):
        value = estimate(trial, best, metric)
        if value is not None:
            values.append(value)
            copy.add_trial(
                create_trial(params=trial.params, distributions=trial.distributions, value=value)
            )
    if len(values) < FEWEST_TRIALS or len(set(values)) == 1:
        return {}
    shares = get_param_importances(copy, evaluator=FanovaImportanceEvaluator(seed=seed))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _is_own(fold: Mapping[str, Any], trial: FrozenTrial) -> bool:
    """Whether a trial trained a fold itself, rather than taking it over from an earlier one."""
    started = trial.datetime_start
    return started is not None and datetime.fromisoformat(fold[DONE]) >= started


def _scores(trial: FrozenTrial, metric: str) -> dict[str, float]:
    return {
        key: fold["scores"][metric]
        for key, fold in fold_results(trial.user_attrs).items()
        if metric in fold["scores"]
    }
