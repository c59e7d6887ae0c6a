"""Pruners, which stop a trial after a fold once it is clearly worse than the best so far."""

from collections.abc import Sequence

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    WilcoxonPruner,
)
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tagger.config.schema import SearchConfig
from tagger.search.fold_results import FOLD

RUNNING_MEANS = ("median", "hyperband")
"""Pruners that compare how far trials have come by a step; the others pair the steps themselves."""


def rank(
    complete: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[FrozenTrial]:
    """Sort complete trials, the best first: by the first objective, then by the next ones."""
    signs = [1 if direction == StudyDirection.MINIMIZE else -1 for direction in directions]

    def key(trial: FrozenTrial) -> tuple[float, ...]:
        values = (sign * value for sign, value in zip(signs, trial.values, strict=True))
        return (*values, trial.number)

    return sorted(complete, key=key)


def find_winner(study: Study) -> FrozenTrial | None:
    """Return the best complete trial: of several objectives, the front's best by the first."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return rank(complete, study.directions)[0] if complete else None


class ItemsPruner(BasePruner):
    """Compare a trial with the best one item by item, on the rows that both have predicted.

    A fold is one number to Wilcoxon's test, and no test is sure of anything after three numbers.
    The same fold is a hundred rows: those that one of the two trials gets right and the other gets
    wrong are counted, and a sign test (exact McNemar, Dietterich 1998) says how likely so lopsided
    a count would be if both were equally good.

    Args:
        p: A trial is stopped once that is less likely than this.
    """

    def __init__(self, p: float) -> None:
        self.p = p

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is clearly worse than the best one that is complete."""
        # `study.best_trial` copies all that a trial keeps, which takes longer than the test.
        best = find_winner(study)
        if best is None:
            return False
        worse = better = 0
        for step in trial.intermediate_values:
            mine = trial.user_attrs.get(FOLD.format(step))
            its = best.user_attrs.get(FOLD.format(step))
            if mine is not None and its is not None:
                worse += len(set(mine["wrong"]) - set(its["wrong"]))
                better += len(set(its["wrong"]) - set(mine["wrong"]))
        if worse <= better:
            return False
        from scipy.stats import binomtest  # most of a second, which others need not wait

        return bool(binomtest(worse, worse + better, alternative="greater").pvalue < self.p)


def build_pruner(config: SearchConfig, steps: int) -> BasePruner:
    """Build the pruner that a config names.

    Args:
        config: Of the search.
        steps: How many trainings judge a trial.
    """
    if config.pruner == "items":
        return ItemsPruner(config.prune_p)
    if config.pruner == "wilcoxon":
        return WilcoxonPruner(p_threshold=config.prune_p)
    if config.pruner == "median":
        return MedianPruner(n_startup_trials=config.startup, n_warmup_steps=1)
    if config.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=steps, reduction_factor=2)
    return NopPruner()
