"""Compares the winner with the default again, on seeds that had no part in choosing it.

The best of many trials is partly the luckiest of them. Both are trained again, on fresh divisions
of the rows: what the winner loses on the way was luck (Cawley and Talbot, JMLR 2010), and what is
left of its lead is held against the chance draw of the items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from tagger.compare.scoring import SCORES, compare_all
from tagger.config.schema import TrainConfig
from tagger.scores import FloatArray, IntArray
from tagger.search.fold_results import folds_of, mean_score
from tagger.search.folds import Folds
from tagger.search.metrics import as_loss, score_confidence
from tagger.search.space import SearchSpace
from tagger.search.study import DEFAULT, FINISHED, ORIGIN
from tagger.search.summary import Confirmation

CANDIDATES = ("default", "winner")
CHOSEN = "chosen"
LEVEL = 0.95
RESAMPLES = 2000


def find_default(study: Study) -> FrozenTrial | None:
    """Return the finished trial of the config that the search started from."""
    for trial in study.get_trials(deepcopy=False, states=FINISHED):
        if trial.user_attrs.get(ORIGIN) == DEFAULT:
            return trial
    return None


def enqueue_confirmation(
    study: Study, winner: FrozenTrial, default: FrozenTrial, seeds: int
) -> None:
    """Put the trainings that confirm a winner into the queue of their own study, once."""
    chosen = {"default": default.params, "winner": winner.params}
    for repeat in range(seeds):
        for candidate in CANDIDATES:
            study.enqueue_trial(
                {"candidate": candidate, "repeat": repeat},
                user_attrs={CHOSEN: chosen[candidate]},
                skip_if_exists=True,
            )


def plan_confirmation(
    trial: Trial, space: SearchSpace, folds: Folds
) -> tuple[TrainConfig, Sequence[int]]:
    """Say what a trial of a confirmation trains, and on which steps of the fresh divisions."""
    trial.suggest_categorical("candidate", CANDIDATES)
    repeat = trial.suggest_int("repeat", 0, folds.repeats - 1)
    config = space.apply(space.decode(trial.user_attrs[CHOSEN]))
    each = folds.config.search.folds
    return config, range(repeat * each, (repeat + 1) * each)


def conclude(
    study: Study, winner: FrozenTrial, default: FrozenTrial, folds: Folds
) -> Confirmation | None:
    """Compare what the winner and the default gave on fresh seeds; None before all is there.

    Args:
        study: Of the confirmation.
        winner: The best trial of the search.
        default: The trial of the config that the search started from.
        folds: The fresh divisions.
    """
    metric = folds.config.search.objectives[0]
    done: dict[str, dict[int, FrozenTrial]] = {candidate: {} for candidate in CANDIDATES}
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        done[trial.params["candidate"]][trial.params["repeat"]] = trial
    seeds = sorted(done["winner"].keys() & done["default"].keys())
    if len(seeds) < folds.repeats:
        return None
    searched, confirmed, outcomes = {}, {}, {}
    for name, trial in {"default": default, "winner": winner}.items():
        score = mean_score(trial.user_attrs, metric)
        assert score is not None
        searched[name] = score.mean
        confirmed[name] = float(np.mean([done[name][seed].values[0] for seed in seeds]))
        outcomes[name] = [_pool(done[name][seed], folds) for seed in seeds]
    gain, low, high = _paired_interval(metric, outcomes, folds)
    return with_verdict(
        metric=metric, seeds=len(seeds), searched=searched, confirmed=confirmed,
        gain=gain, low=low, high=high,
    )  # fmt: skip


def with_verdict(**measured: Any) -> Confirmation:
    """Complete what was measured of a lead with its luck, and whether it is proven."""
    found = Confirmation(**measured, luck=0.0, proven=False)
    searched, confirmed, *ends = (
        as_loss(found.metric, value)
        for value in (found.searched["winner"], found.confirmed["winner"], found.low, found.high)
    )
    return found.model_copy(update={"luck": confirmed - searched, "proven": max(ends) < 0})


@dataclass(frozen=True)
class _Outcome:
    """Predictions of all rows, each by the model that had not seen it."""

    predicted: IntArray
    confidence: FloatArray
    of_true: FloatArray


def _pool(trial: FrozenTrial, folds: Folds) -> _Outcome:
    """Put the folds of one seed together in the order of the rows."""
    n = len(folds.items)
    predicted = np.zeros(n, dtype=np.int64)
    confidence, of_true = np.zeros(n), np.zeros(n)
    each = folds.config.search.folds
    first = trial.params["repeat"] * each
    for step, fold in zip(range(first, first + each), folds_of(trial.user_attrs), strict=True):
        rows = folds.split(step).test
        predicted[rows] = fold.predicted
        confidence[rows] = fold.confidence
        of_true[rows] = fold.of_true
    return _Outcome(predicted, confidence, of_true)


def _paired_interval(
    metric: str, outcomes: dict[str, list[_Outcome]], folds: Folds
) -> tuple[float, float, float]:
    """Return the winner's score minus the default's, and its interval over items drawn anew."""
    true = folds.true
    if metric in SCORES:
        certain = {
            name: np.eye(len(folds.tags))[[one.predicted for one in seeds]]
            for name, seeds in outcomes.items()
        }
        pair = compare_all(certain, true, metric, pairs=[("winner", "default")])[0]
        return pair.value, pair.low, pair.high
    rng = np.random.default_rng(folds.config.seed)
    drawn = []
    for resample in range(RESAMPLES + 1):
        rows = np.arange(len(true)) if not resample else rng.integers(len(true), size=len(true))
        means = {
            name: np.mean([_score(metric, one, true, rows) for one in seeds])
            for name, seeds in outcomes.items()
        }
        drawn.append(float(means["winner"] - means["default"]))
    low, high = np.quantile(drawn[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return drawn[0], float(low), float(high)


def _score(metric: str, outcome: _Outcome, true: IntArray, rows: IntArray) -> float:
    right = outcome.predicted[rows] == true[rows]
    return score_confidence(metric, outcome.confidence[rows], right, outcome.of_true[rows])
