from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tagger.config.schema import OptimizeConfig
from tagger.search.fold_results import FOLD
from tagger.search.racing import ItemsPruner, build_pruner, find_winner
from tagger.search.study import quiet_optuna

ROWS = 100
LOOKS = 4
Wrong = Sequence[Sequence[int]]


def kept(wrong: Wrong, first: int = 0) -> dict[str, dict[str, list[int]]]:
    return {FOLD.format(first + step): {"wrong": list(rows)} for step, rows in enumerate(wrong)}


def running(wrong: Wrong, first: int = 0) -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        user_attrs=kept(wrong, first),
        intermediate_values={first + step: 0.5 for step in range(len(wrong))},
    )


def study_of(*best: Wrong) -> Study:
    """A study whose best trial, the last, was wrong about these rows of each fold."""
    study = optuna.create_study(direction="maximize")
    for value, wrong in enumerate(best):
        study.add_trial(create_trial(value=value, user_attrs=kept(wrong)))
    return study


def first_stop(rng: np.random.Generator, best: float, other: float, p: float) -> int | None:
    """Draw the mistakes of two trials by their shares, and say at which look one is stopped."""
    its, mine = (
        [np.flatnonzero(rng.random(ROWS) < share).tolist() for _ in range(LOOKS)]
        for share in (best, other)
    )
    study, pruner = study_of(its), ItemsPruner(p)
    for look in range(1, LOOKS + 1):
        if pruner.prune(study, running(mine[:look])):
            return look
    return None


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.05, 0.2])
def test_equal_trials_are_stopped_no_more_often_than_p_a_look(p: float) -> None:
    rng = np.random.default_rng(0)
    stops = [first_stop(rng, 0.2, 0.2, p) for _ in range(800)]
    at_first = sum(stop == 1 for stop in stops) / len(stops)
    slack = 3 * (p * (1 - p) / len(stops)) ** 0.5
    assert p / 3 < at_first <= p + slack  # the exact test falls short of p, for counts are whole
    assert sum(stop is not None for stop in stops) / len(stops) <= p * LOOKS


def test_a_clearly_worse_trial_is_stopped_at_its_first_fold() -> None:
    rng = np.random.default_rng(0)
    stops = [first_stop(rng, 0.2, 0.5, 0.05) for _ in range(200)]
    assert stops.count(1) >= 195 and None not in stops


def test_a_better_trial_is_never_stopped() -> None:
    rng = np.random.default_rng(0)
    assert {first_stop(rng, 0.3, 0.15, 0.05) for _ in range(200)} == {None}


@pytest.mark.parametrize(
    ("worse", "better", "p", "expected"),
    [
        (5, 0, 0.05, True),  # 1 / 2**5 = 0.031
        (5, 0, 0.03, False),
        (4, 0, 0.05, False),  # 1 / 2**4 = 0.063
        (4, 0, 0.07, True),
        (8, 2, 0.05, False),  # (1 + 10 + 45) / 2**10 = 0.055
        (8, 2, 0.06, True),
        (9, 2, 0.05, True),  # (1 + 11 + 55) / 2**11 = 0.033
        (2, 9, 0.5, False),
        (6, 6, 0.5, False),
        (0, 0, 0.5, False),
    ],
)
def test_a_sign_test_of_the_rows_they_differ_on(
    worse: int, better: int, p: float, expected: bool
) -> None:
    both = list(range(30))  # rows that both get wrong say nothing
    mine = [*both, *range(30, 30 + worse)]
    its = [*both, *range(60, 60 + better)]
    split = [[mine[::2], mine[1::2]], [its[::2], its[1::2]]]
    for one, other in ([[mine], [its]], split):
        assert ItemsPruner(p).prune(study_of(other), running(one)) is expected


def test_only_steps_that_both_have_are_compared() -> None:
    pruner = ItemsPruner(0.05)
    bad = [list(range(20))]
    best = study_of([[], []])
    assert pruner.prune(best, running(bad, first=0))
    assert pruner.prune(best, running(bad, first=1))
    assert not pruner.prune(best, running(bad, first=2))
    assert not pruner.prune(best, running([]))


def test_it_is_compared_with_the_best_complete_trial() -> None:
    worse, better = [list(range(20))], [list[int]()]
    mine = running([list(range(15))])
    pruner = ItemsPruner(0.05)
    assert not pruner.prune(study_of(), mine)
    assert not pruner.prune(study_of(worse), mine)
    assert pruner.prune(study_of(worse, better), mine)
    study = study_of(worse)
    study.add_trial(running(better))
    assert not pruner.prune(study, mine)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    # Of 20 trials, each worse than all before: median waits for five whole ones, and hyperband
    # lets some brackets run longer than others.
    [("items", {20}), ("wilcoxon", {20}), ("median", {16}), ("hyperband", set(range(5, 21))),
     ("none", {0})],
)  # fmt: skip
def test_bad_trials_are_stopped_by_each_pruner(
    sweep_config: Callable[..., OptimizeConfig], tmp_path: Path, name: str, expected: set[int]
) -> None:
    quiet_optuna()
    config = sweep_config(tmp_path, f"search.pruner={name}", "search.startup=5").search
    steps = 8
    study = optuna.create_study(
        study_name="x", direction="maximize", pruner=build_pruner(config, steps)
    )
    stopped = []
    for score, wrong in [(0.9, 5), *((0.5 - at / 50, 60 + at) for at in range(20))]:
        trial = study.ask()
        for step in range(steps):
            trial.set_user_attr(FOLD.format(step), {"wrong": list(range(wrong))})
            trial.report(score + step / 1000, step)
            if trial.should_prune():
                stopped.append(score)
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, score)
    assert len(stopped) in expected
    assert 0.9 not in stopped


@pytest.mark.slow
@pytest.mark.parametrize(("p", "stopped"), [(0.4, True), (0.001, False)])
@pytest.mark.parametrize("name", ["items", "wilcoxon"])
def test_pruners_that_test_are_as_sure_as_asked(
    sweep_config: Callable[..., OptimizeConfig], tmp_path: Path, name: str, p: float, stopped: bool
) -> None:
    quiet_optuna()
    config = sweep_config(tmp_path, f"search.pruner={name}", f"search.prune_p={p}").search
    pruner = build_pruner(config, 4)
    study = optuna.create_study(direction="maximize")
    for state, score, wrong in ((TrialState.COMPLETE, 0.9, 0), (TrialState.RUNNING, 0.8, 1)):
        study.add_trial(
            create_trial(
                state=state,
                value=score if state == TrialState.COMPLETE else None,
                user_attrs=kept([list(range(wrong))] * 4),
                intermediate_values={step: score + wrong * step / 100 for step in range(4)},
            )
        )
    assert pruner.prune(study, study.trials[-1]) is stopped


def with_values(directions: list[str], *values: list[float] | None) -> Study:
    study = optuna.create_study(directions=[StudyDirection[one.upper()] for one in directions])
    for one in values:
        state = TrialState.COMPLETE if one else TrialState.PRUNED
        study.add_trial(create_trial(state=state, values=one))
    return study


@pytest.mark.parametrize(
    ("directions", "values", "expected"),
    [
        (["maximize"], [], None),
        (["maximize"], [None], None),
        (["maximize"], [[0.5], [0.9], [0.7]], 1),
        (["minimize"], [[0.5], [0.9], [0.2]], 2),
        (["maximize"], [None, [0.5], [0.9], [0.9]], 2),  # the first of equal ones
        (["maximize", "minimize"], [[0.5, 1.0], [0.9, 9.0], [0.7, 0.1]], 1),
        (["minimize", "maximize"], [[0.5, 1.0], [0.1, 0.2], [0.7, 9.0]], 1),
        # Of those with the best first objective, one that no other one is better than.
        (["maximize", "minimize"], [[0.9, 9.0], [0.9, 1.0], [0.7, 0.1]], 1),
        (["maximize", "minimize", "maximize"], [[0.9, 1.0, 0.1], [0.9, 1.0, 0.2]], 1),
    ],
)
def test_the_winner_is_the_best_complete_trial(
    directions: list[str], values: list[list[float] | None], expected: int | None
) -> None:
    study = with_values(directions, *values)
    found = find_winner(study)
    assert (None if found is None else found.number) == expected
    if found is not None:
        assert found.number in {trial.number for trial in study.best_trials}
