import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from optuna.study import Study
from optuna.trial import TrialState

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.search.racing import find_winner
from tagger.search.space import SearchSpace
from tagger.search.table import estimate, importances, tabulate, write_table

StudyOf = Callable[..., Study]
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
    assert first == {
        "number": 0, "state": "complete", "origin": "default",
        "accuracy": pytest.approx(0.6), "accuracy_error": pytest.approx(0.1 / np.sqrt(3)),
        "folds": 3, "model_seconds": 7.5, "wall_seconds": 10.0, "model.keep_layers": None,
        "training.lr": 1e-4, "training.epochs": 3, "training.loss": "cross_entropy",
        "training.focal_gamma": None, "worker": "host:1", "error": None,
    }  # fmt: skip
    assert second["model.keep_layers"] == [0, 2, 4]
    assert second["training.focal_gamma"] == 1.5
    assert (second["origin"], second["worker"]) == ("sampler", None)
    assert (second["accuracy"], second["accuracy_error"]) == (0.9, 0.0)
    assert (second["folds"], second["wall_seconds"]) == (1, 3.0)
    json.dumps([first | {"accuracy": 0.0, "accuracy_error": 0.0}, second])


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
    rows = tabulate(study, space, ["accuracy"])
    assert [(row["number"], row["state"], row["accuracy"]) for row in rows] == [
        (0, "complete", 0.5), (1, "stopped early", 0.2), (2, "failed", None), (3, "running", 0.4),
    ]  # fmt: skip
    assert (rows[2]["error"], rows[2]["accuracy_error"], rows[2]["folds"]) == (
        "it diverged",
        None,
        0,
    )
    assert rows[3]["wall_seconds"] is None


def test_a_trial_that_was_begun_again_counts_once(space: SearchSpace, study_of: StudyOf) -> None:
    study = study_of(
        space,
        ["accuracy"],
        {"chosen": CROSS, "scores": [0.5], "state": FAIL},
        {"chosen": CROSS, "scores": [0.5, 0.6], "system": {"retry_history": [0]}},
    )
    assert [row["number"] for row in tabulate(study, space, ["accuracy"])] == [1]


def test_each_objective_has_its_mean_and_error(space: SearchSpace, study_of: StudyOf) -> None:
    """Costs are measured once, but for the seconds of training, which each fold has."""
    metrics = ["accuracy", "mib", "seconds"]
    scores: list[dict[str, float]] = [
        {"accuracy": 0.5, "seconds": 1.0},
        {"accuracy": 0.7, "seconds": 3.0, "mib": 80.0},
    ]
    study = study_of(space, metrics, {"chosen": CROSS, "scores": scores})
    (row,) = tabulate(study, space, metrics)
    assert {key: row[key] for metric in metrics for key in (metric, f"{metric}_error")} == {
        "accuracy": pytest.approx(0.6), "accuracy_error": pytest.approx(0.1),
        "mib": 80.0, "mib_error": 0.0, "seconds": pytest.approx(2.0),
        "seconds_error": pytest.approx(1.0),
    }  # fmt: skip


def test_the_table_is_read_back(space: SearchSpace, study_of: StudyOf, tmp_path: Path) -> None:
    study = study_of(
        space,
        ["accuracy"],
        {"chosen": CROSS, "scores": [0.5, 0.6]},
        {"chosen": FOCAL, "scores": [0.9], "state": PRUNED},
        {"chosen": FOCAL, "state": FAIL, "error": "ü"},
    )
    rows = tabulate(study, space, ["accuracy"])
    before = json.dumps(rows)
    write_table(tmp_path / "trials.parquet", rows, space)
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert json.dumps(rows) == before
    assert list(table.columns) == list(rows[0])
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
