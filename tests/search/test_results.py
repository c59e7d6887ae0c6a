import json
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from optuna.study import Study
from optuna.trial import TrialState

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import OptimizeConfig, TrainConfig
from tagger.environment import describe_environment
from tagger.search.confirm import with_verdict
from tagger.search.racing import find_winner
from tagger.search.results import (
    SweepResults,
    estimate,
    importances,
    overhead,
    summarize,
    tabulate,
    tell,
    write_results,
    write_table,
)
from tagger.search.space import SearchSpace
from tagger.search.summary import Confirmation, Score, SweepSummary, TrialResult

StudyOf = Callable[..., Study]
MakeConfig = Callable[..., OptimizeConfig]
PRUNED, FAIL, RUNNING, WAITING = (
    TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING,
)  # fmt: skip

SPACE = """
model: {keep_layers: {choices: [null, [0, 2, 4]]}}
training:
  lr: {low: 1.0e-5, high: 1.0e-1, log: true}
  epochs: {low: 1, high: 9}
  loss: {choices: [cross_entropy, focal]}
  focal_gamma: {low: 0.5, high: 4.0, when: {training.loss: focal}}
"""
PLAIN = {"model.keep_layers": None, "training.lr": 1e-4, "training.epochs": 3}
CROSS = {**PLAIN, "training.loss": "cross_entropy"}
FOCAL = {
    "model.keep_layers": [0, 2, 4], "training.lr": 1e-3, "training.epochs": 5,
    "training.loss": "focal", "training.focal_gamma": 1.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    base = load_config(TrainConfig, compose_config("train", []))
    return SearchSpace.parse(yaml.safe_load(SPACE), base)


def test_a_row_tells_all_of_a_trial(space: SearchSpace, study_of: StudyOf) -> None:
    study = study_of(
        space,
        ["accuracy"],
        {"chosen": CROSS, "scores": [0.5, 0.6, 0.7], "origin": "default", "worker": "host:1"},
        {"chosen": FOCAL, "scores": [0.9], "wall": 3.0},
    )
    first, second = tabulate(study, space, ["accuracy"])
    assert first.model_dump() == {
        "number": 0, "state": "complete", "origin": "default",
        "scores": {
            "accuracy": {
                "mean": pytest.approx(0.6), "error": pytest.approx(0.1 / np.sqrt(3)),
            }
        },
        "folds": 3, "model_seconds": 7.5, "wall_seconds": 10.0, "chosen": CROSS,
        "worker": "host:1", "error": None,
    }  # fmt: skip
    assert second.chosen == FOCAL
    assert (second.origin, second.worker) == ("sampler", None)
    assert second.scores == {"accuracy": Score(mean=0.9, error=0.0)}
    assert (second.folds, second.wall_seconds) == (1, 3.0)


def test_states_are_told_in_words_and_what_waits_is_left_out(
    space: SearchSpace, study_of: StudyOf
) -> None:
    study = study_of(
        space,
        ["accuracy"],
        {"chosen": CROSS, "scores": [0.5]},
        {"chosen": CROSS, "scores": [0.2], "state": PRUNED},
        {"chosen": CROSS, "state": FAIL, "error": "it diverged"},
        {"chosen": CROSS, "scores": [0.4], "state": RUNNING},
        {"chosen": CROSS, "state": WAITING},
    )
    trials = tabulate(study, space, ["accuracy"])
    assert [(one.number, one.state, one.scores.get("accuracy")) for one in trials] == [
        (0, "complete", Score(mean=0.5, error=0.0)),
        (1, "stopped early", Score(mean=0.2, error=0.0)),
        (2, "failed", None),
        (3, "running", Score(mean=0.4, error=0.0)),
    ]
    assert (trials[2].error, trials[2].folds) == ("it diverged", 0)
    assert trials[3].wall_seconds is None


def test_a_trial_that_was_begun_again_counts_once(space: SearchSpace, study_of: StudyOf) -> None:
    study = study_of(
        space,
        ["accuracy"],
        {"chosen": CROSS, "scores": [0.5], "state": FAIL},
        {"chosen": CROSS, "scores": [0.5, 0.6], "system": {"retry_history": [0]}},
    )
    assert [trial.number for trial in tabulate(study, space, ["accuracy"])] == [1]


def test_each_objective_has_its_mean_and_error(space: SearchSpace, study_of: StudyOf) -> None:
    """Costs are measured once, but for the seconds of training, which each fold has."""
    metrics = ["accuracy", "mib", "seconds"]
    scores: list[dict[str, float]] = [
        {"accuracy": 0.5, "seconds": 1.0},
        {"accuracy": 0.7, "seconds": 3.0, "mib": 80.0},
    ]
    study = study_of(space, metrics, {"chosen": CROSS, "scores": scores})
    (trial,) = tabulate(study, space, metrics)
    assert {metric: (score.mean, score.error) for metric, score in trial.scores.items()} == {
        "accuracy": (pytest.approx(0.6), pytest.approx(0.1)),
        "mib": (80.0, 0.0),
        "seconds": (pytest.approx(2.0), pytest.approx(1.0)),
    }


def test_the_table_is_read_back(
    sweep_config: MakeConfig, space: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    study = study_of(
        space,
        ["accuracy"],
        {"chosen": CROSS, "scores": [0.5, 0.6]},
        {"chosen": FOCAL, "scores": [0.9], "state": PRUNED},
        {"chosen": FOCAL, "state": FAIL, "error": "ü"},
    )
    config = sweep_config(tmp_path, "search.objectives=[accuracy]")
    write_table(tmp_path / "trials.parquet", summarize(tmp_path, config, space, study, None))
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert list(table.columns) == [
        "number", "state", "origin", "accuracy", "accuracy_error", "folds", "model_seconds",
        "wall_seconds", *(one.path for one in space.parameters), "worker", "error",
    ]  # fmt: skip
    assert table["number"].tolist() == [0, 1, 2]
    assert table["training.lr"].tolist() == [1e-4, 1e-3, 1e-3]
    assert table["model.keep_layers"].isna().tolist() == [True, False, False]
    assert table["model.keep_layers"].tolist()[1:] == ["[0, 2, 4]", "[0, 2, 4]"]
    assert table["training.loss"].tolist() == ['"cross_entropy"', '"focal"', '"focal"']
    assert table["accuracy"].isna().tolist() == [False, False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["trials.parquet"]


@pytest.mark.parametrize(
    ("mine", "its", "expected"),
    [
        ([0.5, 0.7], [0.8, 0.9], 0.6),  # of all folds: its own mean
        ([0.5], [0.8, 0.9], 0.55),  # a hard fold, on which the best too is worse than elsewhere
        ([0.9], [0.8, 0.9], 0.95),
        ([], [0.8, 0.9], None),
    ],
)
def test_a_trial_that_was_stopped_is_held_against_the_best_on_the_folds_of_both(
    space: SearchSpace,
    study_of: StudyOf,
    mine: list[float],
    its: list[float],
    expected: float | None,
) -> None:
    study = study_of(
        space,
        ["accuracy"],
        {"chosen": CROSS, "scores": its},
        {"chosen": CROSS, "scores": mine, "state": PRUNED},
    )
    best, trial = study.trials
    found = estimate(trial, best, "accuracy")
    assert found == (None if expected is None else pytest.approx(expected))
    assert estimate(best, best, "accuracy") == pytest.approx(np.mean(its))


def trials_of(score: Callable[[dict[str, Any]], float], count: int, **more: Any) -> list[Any]:
    """Trials over the whole space, each with three folds of the score that its choices give."""
    rng = np.random.default_rng(0)
    told = []
    for number in range(count):
        chosen: dict[str, Any] = {
            "model.keep_layers": [None, [0, 2, 4]][number % 2],
            "training.lr": float(10 ** rng.uniform(-5, -1)),
            "training.epochs": int(rng.integers(1, 10)),
            "training.loss": ["cross_entropy", "focal"][int(rng.integers(2))],
        }
        if chosen["training.loss"] == "focal":
            chosen["training.focal_gamma"] = float(rng.uniform(0.5, 4))
        value = score(chosen)
        told.append({"chosen": chosen, "scores": [value - 0.01, value, value + 0.01], **more})
    return told


def by_epochs(chosen: dict[str, Any]) -> float:
    return 0.1 * float(chosen["training.epochs"])


def by_layers(chosen: dict[str, Any]) -> float:
    return 0.9 if chosen["model.keep_layers"] else 0.5


def by_rate(chosen: dict[str, Any]) -> float:
    return -float(np.log10(chosen["training.lr"]))


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
@pytest.mark.parametrize(
    ("score", "path"),
    [
        (by_epochs, "training.epochs"),
        (by_layers, "model.keep_layers"),
        (by_rate, "training.lr"),
    ],
)
def test_what_decides_has_the_largest_share(
    space: SearchSpace,
    study_of: StudyOf,
    score: Callable[[dict[str, Any]], float],
    path: str,
    metric: str,
) -> None:
    study = study_of(space, [metric], *trials_of(score, 40))
    best = find_winner(study)
    assert best is not None
    shares = importances(study, best, metric, seed=0)
    # All but the one that not every trial has.
    assert shares.keys() == {
        "model.keep_layers", "training.lr", "training.epochs", "training.loss",
    }  # fmt: skip
    assert next(iter(shares)) == path
    assert shares[path] > 0.7
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(study, best, metric, seed=0) == shares


def test_trials_that_were_stopped_count_with_their_estimate(
    space: SearchSpace, study_of: StudyOf
) -> None:
    """Of the few that were finished all scored alike; what matters is seen in the others alone."""
    finished = [told | {"scores": [0.9, 0.9, 0.9]} for told in trials_of(by_epochs, 3)]
    told = trials_of(by_epochs, 40)[3:]
    stopped = [one | {"scores": one["scores"][:1], "state": PRUNED} for one in told]
    study = study_of(space, ["accuracy"], *finished, *stopped)
    shares = importances(study, study.trials[0], "accuracy", seed=0)
    assert next(iter(shares)) == "training.epochs"


def test_failed_trials_say_nothing_of_what_mattered(space: SearchSpace, study_of: StudyOf) -> None:
    told = trials_of(by_epochs, 10)
    failed = [one | {"state": FAIL} for one in trials_of(by_layers, 20)]
    running = [one | {"state": RUNNING} for one in trials_of(by_rate, 20)]
    alone = study_of(space, ["accuracy"], *told)
    among = study_of(space, ["accuracy"], *told, *failed, *running)
    best = alone.best_trial
    assert importances(among, best, "accuracy", 0) == importances(alone, best, "accuracy", 0)


@pytest.mark.parametrize("count", [1, 3])
def test_of_few_trials_nothing_is_said(space: SearchSpace, study_of: StudyOf, count: int) -> None:
    study = study_of(space, ["accuracy"], *trials_of(by_epochs, count))
    assert importances(study, study.best_trial, "accuracy", 0) == {}


def test_of_equal_trials_nothing_is_said(space: SearchSpace, study_of: StudyOf) -> None:
    study = study_of(space, ["accuracy"], *trials_of(lambda chosen: 0.5, 8))
    assert importances(study, study.best_trial, "accuracy", 0) == {}


HTML = "<b>&bold</b>.csv"
WIDE = f"""
model:
  C: {{low: 0.1, high: 100.0, log: true}}
  balanced: {{choices: [true, false]}}
data: {{extra: {{choices: [[], ['{HTML}']]}}}}
training:
  loss: {{choices: [cross_entropy, focal]}}
  focal_gamma: {{low: 0.5, high: 4.0, when: {{training.loss: focal}}}}
"""
DEFAULT = {
    "model.C": 4.0, "model.balanced": True, "data.extra": [], "training.loss": "cross_entropy",
}  # fmt: skip
OTHER = {**DEFAULT, "model.C": 1.0, "training.loss": "focal", "training.focal_gamma": 1.0}


@pytest.fixture(scope="module")
def wide(sweep_config: MakeConfig) -> SearchSpace:
    return SearchSpace.parse(yaml.safe_load(WIDE), sweep_config(Path("sweeps")).base)


def confirmation(**changes: Any) -> Confirmation:
    values = {
        "metric": "weighted_f1", "seeds": 3, "searched": {"winner": 0.9, "default": 0.8},
        "confirmed": {"winner": 0.87, "default": 0.81}, "gain": 0.06, "low": 0.02, "high": 0.1,
    }  # fmt: skip
    return with_verdict(**{**values, **changes})


def trial(
    number: int, score: float | None, metric: str = "weighted_f1", **more: Any
) -> TrialResult:
    told = {
        "state": "complete", "origin": "sampler", "folds": 3, "model_seconds": 1.0,
        "wall_seconds": 2.0, "worker": None, "error": None,
    }  # fmt: skip
    told |= {key: more.pop(key) for key in told.keys() & more.keys()}
    scores = {} if score is None else {metric: Score(mean=score, error=0.01)}
    return TrialResult(number=number, scores=scores, chosen={**DEFAULT, **more}, **told)


environment = cache(describe_environment)
ROWS = [trial(0, 0.8, origin="default"), trial(1, 0.9, **OTHER), trial(2, 0.7)]


def summary(**changes: Any) -> SweepSummary:
    values = {
        "sweep": "one", "space": "mine", "objectives": ["weighted_f1"], "best": 1, "default": 0,
        "front": [], "states": {"complete": 3}, "hours": 0.5, "overhead": None, "importances": {},
        "confirmation": None, "chosen": {}, "environment": environment(),
        "paragraph": "",
    }  # fmt: skip
    return SweepSummary(**{**values, **changes})


def test_all_that_is_known_is_told_in_one_paragraph(wide: SearchSpace) -> None:
    told = summary(
        states={"complete": 3, "stopped early": 2, "failed": 1},
        importances={"model.C": 0.72, "training.loss": 0.2, "model.balanced": 0.08},
        confirmation=confirmation(),
    )
    rows = [*ROWS, trial(3, 0.5, state="stopped early"), trial(4, None, state="failed")]
    assert tell(told, rows, wide.parameters) == (
        "Of 5 trials in 30 min 3 were judged on all folds, 2 were stopped early, 1 failed. "
        "The best is trial 1, with weighted f1 0.9000 ± 0.0100 over 3 folds; the default config "
        "has 0.8000 ± 0.0100. "
        "What mattered most: model.C (72% of the variation, from 1 to 4 in the best 3 "
        "trials); training.loss (20% of the variation, mostly cross_entropy in the best 3 trials). "
        "On 3 fresh seeds the winner has weighted f1 0.8700 and the default 0.8100: a difference "
        "of +0.0600, 95 % interval [+0.0200, +0.1000], which is more than chance makes. The search "
        "had promised +0.1000, of which +0.0400 was luck; the winner's own score was 0.9000 there, "
        "an optimism of +0.0300."
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"best": 0}, "The best is trial 0, with weighted f1 0.8000 ± 0.0100 over 3 folds: the "
         "default config, which no trial surpassed."),
        ({"default": None}, "over 3 folds; the default config was not judged."),
        ({"default": 9}, "over 3 folds; the default config was not judged."),
        ({}, "There are too few trials, or too little between them, to say what mattered. The "
         "winner was not confirmed on fresh seeds, so part of this is luck."),
        ({"hours": 0.001}, "Of 3 trials in 4 seconds 3 were judged on all folds."),
        ({"hours": 1.9}, "Of 3 trials in 114 min 3 were judged"),
        ({"hours": 12.34}, "Of 3 trials in 12.3 hours 3 were judged"),
        ({"states": {"complete": 1, "stopped early": 2}}, "1 were judged on all folds, 2 were "
         "stopped early."),
        ({"states": {"complete": 2, "failed": 1}}, "2 were judged on all folds, 1 failed."),
        ({"objectives": ["weighted_f1", "p50_ms"], "front": [0, 1]}, "2 trials are on the Pareto "
         "front of weighted f1, p50 ms: for each of them, nothing is better in one without being "
         "worse in another."),
    ],
)  # fmt: skip
def test_each_outcome_has_its_sentence(
    wide: SearchSpace, changes: dict[str, Any], text: str
) -> None:
    assert text in tell(summary(**changes), ROWS, wide.parameters)


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"best": 0}, "luck"),  # there is nothing to confirm
        ({"default": None}, "luck"),
        ({"objectives": ["weighted_f1", "mib"], "front": [1]}, "Pareto"),
        ({}, "stopped early"),
        ({}, "failed"),
    ],
)
def test_what_is_not_so_is_not_told(
    wide: SearchSpace, changes: dict[str, Any], absent: str
) -> None:
    assert absent not in tell(summary(**changes), ROWS, wide.parameters)


@pytest.mark.parametrize(
    ("changes", "verdict", "luck"),
    [
        ({}, "which is more than chance makes", "+0.0300"),
        ({"low": -0.01}, "which may be chance", "+0.0300"),
        ({"gain": -0.02, "low": -0.05, "high": 0.01}, "which may be chance", "+0.0300"),
        ({"gain": -0.05, "low": -0.09, "high": -0.01}, "so the default is the better one",
         "+0.0300"),
        ({"confirmed": {"winner": 0.92, "default": 0.8}}, "which is more than chance makes",
         "-0.0200"),
        # Where less is better, all of it turns round.
        ({"metric": "aurc", "gain": -0.05, "low": -0.09, "high": -0.01},
         "which is more than chance makes", "-0.0300"),
        ({"metric": "aurc", "gain": -0.05, "low": -0.09, "high": 0.01}, "which may be chance",
         "-0.0300"),
        ({"metric": "aurc"}, "so the default is the better one", "-0.0300"),
    ],
)  # fmt: skip
def test_the_verdict_is_that_of_the_interval(
    wide: SearchSpace, changes: dict[str, Any], verdict: str, luck: str
) -> None:
    told = tell(summary(confirmation=confirmation(seeds=1, **changes)), ROWS, wide.parameters)
    assert "On 1 fresh seed the winner" in told
    assert f"], {verdict}." in told
    assert told.endswith(f" there, an optimism of {luck}.")


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, "promised +0.1000, of which +0.0400 was luck;"),
        ({"gain": 0.12}, "promised +0.1000, which held;"),
        ({"metric": "aurc"}, "promised +0.1000, which held;"),
        ({"metric": "aurc", "gain": 0.12}, "promised +0.1000, of which -0.0200 was luck;"),
    ],
)
def test_a_promise_holds_or_was_luck(wide: SearchSpace, changes: dict[str, Any], kept: str) -> None:
    assert kept in tell(summary(confirmation=confirmation(**changes)), ROWS, wide.parameters)


def sixteen(metric: str = "weighted_f1") -> list[TrialResult]:
    """Of 16 trials the last 4 have the highest scores; of those only the last is focal."""
    trials = []
    for number in range(16):
        chosen: dict[str, Any] = {
            "model.C": number + 1.0, "model.balanced": number < 13,
            "data.extra": [HTML] if number in (12, 13, 15) else [],
            "training.loss": "focal" if number == 15 else "cross_entropy",
        }  # fmt: skip
        if number == 15:
            chosen["training.focal_gamma"] = 2.5
        trials.append(trial(number, 0.5 + number / 100, metric, **chosen))
    return trials


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("model.C", "from 13 to 16"),
        ("model.balanced", "mostly False"),
        ("data.extra", f"mostly ['{HTML}']"),
        ("training.loss", "mostly cross_entropy"),
        ("training.focal_gamma", "from 2.5 to 2.5"),
    ],
)
def test_what_mattered_is_told_with_the_values_of_the_best_quarter(
    wide: SearchSpace, path: str, where: str
) -> None:
    told = tell(summary(best=15, importances={path: 0.6}), sixteen(), wide.parameters)
    assert f"most: {path} (60% of the variation, {where} in the best 4 trials)." in told


def test_where_less_is_better_the_best_have_the_least(wide: SearchSpace) -> None:
    told = summary(best=0, objectives=["aurc"], importances={"model.C": 1.0})
    assert "from 1 to 4 in the best 4 trials" in tell(told, sixteen("aurc"), wide.parameters)


def test_of_a_parameter_that_no_good_trial_had_no_values_are_told(
    wide: SearchSpace,
) -> None:
    told = summary(best=14, importances={"training.focal_gamma": 0.6})
    assert "training.focal_gamma (60% of the variation)." in tell(
        told, sixteen()[:15], wide.parameters
    )


def test_small_shares_are_left_out_but_for_the_largest(wide: SearchSpace) -> None:
    shares = {"model.C": 0.09, "model.balanced": 0.08}
    told = tell(summary(best=15, importances=shares), sixteen(), wide.parameters)
    assert "most: model.C (9% of the variation" in told
    assert "model.balanced" not in told


@pytest.mark.parametrize("state", ["stopped early", "running"])
def test_a_lucky_first_fold_makes_no_good_trial(wide: SearchSpace, state: str) -> None:
    """A trial that was stopped was clearly worse than the best, whatever its few folds gave."""
    lucky = [trial(16 + n, 0.99, state=state, folds=1, **{"model.C": 90.0}) for n in range(2)]
    told = summary(best=15, importances={"model.C": 0.6})
    assert "from 13 to 16 in the best 4 trials" in tell(told, [*sixteen(), *lucky], wide.parameters)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(8.0, 10.0, "complete"), (1.0, 2.0, "stopped early")], 0.25),
        ([(8.0, 10.0, "complete"), (0.0, 90.0, "failed"), (5.0, None, "running")], 0.2),
        ([(0.0, 90.0, "failed")], None),
        ([], None),
    ],
)
def test_overhead_is_the_time_that_is_neither_training_nor_prediction(
    rows: list[tuple[float, float | None, str]], expected: float | None
) -> None:
    trials = [
        trial(0, 0.5, model_seconds=model, wall_seconds=wall, state=state)
        for model, wall, state in rows
    ]
    assert overhead(trials) == (None if expected is None else pytest.approx(expected))


@pytest.fixture(scope="module")
def sweep(
    sweep_config: MakeConfig,
    wide: SearchSpace,
    study_of: StudyOf,
    tmp_path_factory: pytest.TempPathFactory,
) -> SweepResults:
    """A sweep that was written: the default, a better trial, one stopped, one failed, others."""
    others = [
        {"chosen": {**DEFAULT, "model.C": 10.0 + n}, "scores": [0.6, 0.7 + n / 100]}
        for n in range(4)
    ]
    study = study_of(
        wide,
        ["weighted_f1"],
        {"chosen": DEFAULT, "scores": [0.7, 0.8], "origin": "default"},
        {"chosen": {**OTHER, "data.extra": [HTML]}, "scores": [0.9, 0.94], "worker": "<i>host"},
        {"chosen": OTHER, "scores": [0.95], "state": PRUNED},
        {"chosen": DEFAULT, "state": FAIL, "error": "it diverged"},
        *others,
    )
    folder = tmp_path_factory.mktemp("sweeps") / "one"
    reported: list[SweepResults] = []
    write_results(folder, sweep_config(folder), wide, study, confirmation(), report=reported.append)
    return reported[0]


def test_a_sweep_leaves_its_winner_its_trials_and_a_summary(sweep: SweepResults) -> None:
    folder = sweep.folder
    assert {path.name for path in folder.iterdir()} == {
        "best.yaml", "trials.parquet", "summary.json",
    }  # fmt: skip
    found = SweepSummary.read(folder / "summary.json")
    assert found == sweep.summary
    assert (found.sweep, found.space) == ("one", "linear")
    assert (found.best, found.default, found.front) == (1, 0, [])
    assert found.states == {"complete": 6, "stopped early": 1, "failed": 1}
    assert found.chosen == {**OTHER, "data.extra": [HTML]}
    assert found.confirmation == confirmation()
    assert found.importances.keys() == DEFAULT.keys()
    assert found.overhead == pytest.approx(1 - (6 * 5 + 2.5) / 70)
    assert found.hours == pytest.approx(80 / 3600)
    assert "The best is trial 1, with weighted f1 0.9200 ± 0.0200 over 2 folds" in found.paragraph
    table = pd.read_parquet(folder / "trials.parquet")
    assert table["number"].tolist() == list(range(8))
    assert json.loads(table["data.extra"][1]) == [HTML]


def test_the_winner_is_an_experiment(sweep: SweepResults, wide: SearchSpace) -> None:
    path = sweep.folder / "best.yaml"
    assert recipe(path) == wide.apply({**OTHER, "data.extra": [HTML]})
    assert path.read_text(encoding="utf-8").splitlines()[1:3] == [
        "# Trial 1 of the sweep one: weighted_f1 0.9200.",
        f"# python train.py experiment={path}",
    ]


def recipe(path: Path) -> TrainConfig:
    return load_config(TrainConfig, compose_config("train", [f"experiment={path}"]))


@pytest.mark.slow
def test_each_trial_of_a_front_is_an_experiment(
    sweep_config: MakeConfig, wide: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    def told(score: float, size: float, strength: float, **more: Any) -> dict[str, Any]:
        scores = [{"accuracy": score - 0.1}, {"accuracy": score + 0.1, "mib": size}]
        return {"chosen": {**DEFAULT, "model.C": strength}, "scores": scores, **more}

    config = sweep_config(tmp_path, "search.objectives=[accuracy,mib]", "search.pruner=none")
    folder = tmp_path / "sweep"
    (folder / "front").mkdir(parents=True)
    (folder / "front/0002.yaml").write_text("of an earlier report")
    study = study_of(
        wide,
        ["accuracy", "mib"],
        told(0.6, 20.0, 4.0, origin="default"),
        told(0.8, 30.0, 8.0),
        told(0.5, 25.0, 9.0),
        told(0.4, 10.0, 0.5),
    )
    write_results(folder, config, wide, study, None, report=lambda results: None)
    found = SweepSummary.read(folder / "summary.json")
    assert "3 trials are on the Pareto front of accuracy, mib" in found.paragraph
    assert "The best is trial 1, with accuracy 0.8000" in found.paragraph
    assert (found.best, found.front) == (1, [0, 1, 3])
    front = {path.name: recipe(path) for path in sorted((folder / "front").iterdir())}
    assert list(front) == ["0000.yaml", "0001.yaml", "0003.yaml"]
    for name, strength in {"0000.yaml": 4.0, "0001.yaml": 8.0, "0003.yaml": 0.5}.items():
        assert front[name] == wide.apply({**DEFAULT, "model.C": strength})
    assert recipe(folder / "best.yaml") == front["0001.yaml"]
    assert "accuracy 0.8000, mib 30.0000." in (folder / "best.yaml").read_text(encoding="utf-8")


def test_where_less_is_better_the_least_wins(
    sweep_config: MakeConfig, wide: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    config = sweep_config(tmp_path, "search.objectives=[aurc]", "search.pruner=none")
    told = [
        {"chosen": {**DEFAULT, "model.C": strength}, "scores": [score]}
        for strength, score in {4.0: 0.3, 5.0: 0.1, 6.0: 0.2}.items()
    ]
    results = summarize(tmp_path, config, wide, study_of(wide, ["aurc"], *told), None)
    assert "The best is trial 1, with aurc 0.1000" in results.summary.paragraph
    assert results.summary.chosen == told[1]["chosen"]


def test_a_sweep_of_one_trial_has_a_summary(
    sweep_config: MakeConfig, wide: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    study = study_of(
        wide,
        ["weighted_f1"],
        {"chosen": DEFAULT, "scores": [0.7], "origin": "default"},
        {"chosen": OTHER, "state": RUNNING},
    )
    found = summarize(tmp_path, sweep_config(tmp_path), wide, study, None).summary
    expected = "the default config, which no trial surpassed. There are too few trials"
    assert expected in found.paragraph
    assert found.states == {"complete": 1, "running": 1}


@pytest.mark.slow
def test_two_commands_may_come_to_the_end_of_a_sweep_together(
    sweep_config: MakeConfig, wide: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    study = study_of(wide, ["weighted_f1"], {"chosen": DEFAULT, "scores": [0.7]})
    at_work: list[str] = []

    def report(_: SweepResults) -> None:
        at_work.append("begun")
        time.sleep(0.2)
        at_work.append("done")

    arguments = (tmp_path / "sweep", sweep_config(tmp_path), wide, study, None)
    writers = [
        threading.Thread(target=write_results, args=arguments, kwargs={"report": report})
        for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert at_work == ["begun", "done"] * 3
    assert not list((tmp_path / "sweep").glob(".*"))


def test_folds_of_an_earlier_worker_are_not_time_of_the_trial(
    sweep_config: MakeConfig, wide: SearchSpace, study_of: StudyOf, tmp_path: Path
) -> None:
    """A trial that goes on where a killed worker stopped brings its folds, not its hours."""
    again = {"wall": 3.0, "taken_over": 2, "system": {"retry_history": [0]}}
    study = study_of(
        wide,
        ["weighted_f1"],
        {"chosen": DEFAULT, "scores": [0.7, 0.7], "state": FAIL},
        {"chosen": DEFAULT, "scores": [0.7] * 3, **again},
        {"chosen": OTHER, "scores": [0.6] * 3},
    )
    found = summarize(tmp_path, sweep_config(tmp_path), wide, study, None).summary
    assert found.overhead is not None and 0 < found.overhead < 0.5
