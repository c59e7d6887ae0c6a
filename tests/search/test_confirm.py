import csv
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import pytest
from accelerate import Accelerator
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sklearn.metrics import accuracy_score, f1_score

from tagger.compare.scoring import SCORES
from tagger.config.schema import OptimizeConfig, TrainConfig
from tagger.evaluation.selective import area_under_risk_coverage, precision_at_coverage
from tagger.scores import IntArray
from tagger.search.confirm import (
    CANDIDATES,
    CHOSEN,
    conclude,
    enqueue_confirmation,
    find_default,
    plan_confirmation,
    with_verdict,
)
from tagger.search.fold_results import folds_of
from tagger.search.folds import Folds
from tagger.search.space import SearchSpace
from tagger.search.study import DEFAULT, ORIGIN, quiet_optuna
from tagger.search.summary import Confirmation
from tagger.search.trials import run_trial

pytestmark = pytest.mark.slow

SEEDS = 2
Config = Callable[..., OptimizeConfig]


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    quiet_optuna()


@pytest.fixture(scope="module")
def hard(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An override: the toy file without most of the words that tell a tag."""
    with (toy_folder / "items.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    counts = Counter(word for row in rows for text in row[2:4] for word in text.split())
    rng = random.Random(0)
    for row in rows:
        for at in (2, 3):
            words = [word for word in row[at].split() if counts[word] == 1 or rng.random() < 0.2]
            row[at] = " ".join(words)
    path = tmp_path_factory.mktemp("hard") / "items.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return f"data.path={path}"


class Sweep:
    """A sweep of three trials, and the confirmation of its winner, in this process."""

    def __init__(self, config: OptimizeConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.space = SearchSpace.parse(config.search.space, config.base)
        self.accelerator = Accelerator(cpu=True)
        metric = config.search.objectives[0]
        self.smaller = metric in ("aurc", "log_loss")
        direction = StudyDirection.MINIMIZE if self.smaller else StudyDirection.MAXIMIZE
        self.study = self.confirming = optuna.create_study(direction=direction)
        self.fresh = Folds(config, confirming=True)

    def search(self) -> None:
        base = self.space.encode(self.space.assignment_of(self.config.base))
        self.study.enqueue_trial(base, user_attrs={ORIGIN: DEFAULT})
        for C, words in ((0.05, 1), (100.0, 3)):
            self.study.enqueue_trial(base | {"model.C": C, "model.word_ngrams": words})
        folds = Folds(self.config, confirming=False)
        for _ in range(3):
            trial = self.study.ask()
            config = self.space.apply(self.space.suggest(trial))
            self.run(self.study, trial, config, folds, range(folds.steps))

    def confirm(self, trials: int) -> None:
        for _ in range(trials):
            trial = self.confirming.ask()
            config, steps = plan_confirmation(trial, self.space, self.fresh)
            self.run(self.confirming, trial, config, self.fresh, steps)

    def run(
        self, study: Study, trial: Trial, config: TrainConfig, folds: Folds, steps: Sequence[int]
    ) -> None:
        values = run_trial(
            trial, config, folds, steps, accelerator=self.accelerator,
            folder=self.folder / "trial", prune=False, stopped=lambda: False,
        )  # fmt: skip
        study.tell(trial, values[folds.config.search.objectives[0]])

    @property
    def chosen(self) -> tuple[FrozenTrial, FrozenTrial]:
        """The best of those that are not the default, and the default."""
        default = find_default(self.study)
        assert default is not None and default.number == 0
        best = min if self.smaller else max
        return best(self.study.trials[1:], key=lambda trial: trial.values[0]), default

    def conclude(self) -> Confirmation | None:
        return conclude(self.confirming, *self.chosen, self.fresh)

    def enqueue(self) -> None:
        enqueue_confirmation(self.confirming, *self.chosen, SEEDS)


@pytest.fixture(scope="module")
def make_sweep(
    sweep_config: Config, hard: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Sweep]:
    @cache
    def searched(metric: str, *more: str) -> Sweep:
        folder = tmp_path_factory.mktemp("confirm")
        config = sweep_config(
            folder, hard, f"search.objectives=[{metric}]", "search.pruner=none",
            f"search.confirm={SEEDS}", *more,
        )  # fmt: skip
        sweep = Sweep(config, folder)
        sweep.search()
        return sweep

    def make(metric: str, *more: str) -> Sweep:
        """A sweep that came to its end, which nobody has confirmed."""
        sweep = searched(metric, *more)
        sweep.confirming = optuna.create_study(direction=sweep.study.direction)
        return sweep

    return make


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], None),
        ([(TrialState.COMPLETE, "a run")], None),
        ([(TrialState.COMPLETE, "a run"), (TrialState.COMPLETE, DEFAULT)], 1),
        ([(TrialState.PRUNED, DEFAULT)], 0),
        ([(TrialState.FAIL, DEFAULT), (TrialState.WAITING, DEFAULT)], None),
        ([(TrialState.FAIL, DEFAULT), (TrialState.COMPLETE, DEFAULT)], 1),  # it was retried
        ([(TrialState.RUNNING, DEFAULT)], None),
    ],
)
def test_the_default_is_found_by_where_it_comes_from(
    states: list[tuple[TrialState, str]], expected: int | None
) -> None:
    study = optuna.create_study()
    for state, origin in states:
        value = 1.0 if state == TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, value=value, user_attrs={ORIGIN: origin}))
    found = find_default(study)
    assert (None if found is None else found.number) == expected


def test_both_are_trained_on_each_fresh_seed_once() -> None:
    winner = create_trial(value=1.0, user_attrs={})
    default = create_trial(value=0.5, user_attrs={})
    study = optuna.create_study()
    for seeds in (2, 2, 3):
        enqueue_confirmation(study, winner, default, seeds)
    queued = [trial.system_attrs["fixed_params"] for trial in study.trials]
    assert queued == [
        {"candidate": candidate, "repeat": repeat}
        for repeat in range(3)
        for candidate in CANDIDATES
    ]


def test_a_plan_trains_what_was_chosen_on_the_steps_of_its_seed(
    make_sweep: Callable[..., Sweep],
) -> None:
    sweep = make_sweep("accuracy")
    sweep.enqueue()
    winner, default = sweep.chosen
    planned = []
    for _ in range(2 * SEEDS):
        trial = sweep.confirming.ask()
        config, steps = plan_confirmation(trial, sweep.space, sweep.fresh)
        planned.append((trial.params["candidate"], trial.params["repeat"], list(steps)))
        chosen = {"winner": winner, "default": default}[trial.params["candidate"]]
        assert trial.user_attrs[CHOSEN] == chosen.params
        assert config == sweep.space.apply(sweep.space.decode(chosen.params))
        assert (config == sweep.config.base) is (trial.params["candidate"] == "default")
    assert planned == [
        ("default", 0, [0, 1, 2]), ("winner", 0, [0, 1, 2]),
        ("default", 1, [3, 4, 5]), ("winner", 1, [3, 4, 5]),
    ]  # fmt: skip


def score(metric: str, sweep: Sweep, number: int, rows: IntArray | None = None) -> float:
    """Score a trial of the confirmation by hand: its folds together, each row by its own one."""
    trial = sweep.confirming.trials[number]
    first = 3 * trial.params["repeat"]
    by_row: dict[int, tuple[int, float, float]] = {}
    for step, fold in enumerate(folds_of(trial.user_attrs), start=first):
        told = zip(fold.predicted, fold.confidence, fold.of_true, strict=True)
        by_row |= dict(zip(sweep.fresh.split(step).test, told, strict=True))
    every = np.arange(len(sweep.fresh.items)) if rows is None else rows
    predicted, confidence, of_true = (
        np.array([by_row[row][at] for row in every]) for at in range(3)
    )
    true = sweep.fresh.true[every]
    if metric == "weighted_f1":
        return float(f1_score(true, predicted, average="weighted"))
    if metric == "accuracy":
        return float(accuracy_score(true, predicted))
    if metric == "log_loss":
        return float(-np.log(np.maximum(of_true, 1e-12)).mean())
    if metric == "aurc":
        return area_under_risk_coverage(confidence, predicted == true)
    return precision_at_coverage(confidence, predicted == true, 0.9)


@pytest.mark.parametrize(
    "metric",
    [
        pytest.param("weighted_f1", marks=pytest.mark.slow),
        "accuracy",
        "aurc",
        "log_loss",
        "precision_at_90",
    ],
)
def test_a_lead_is_measured_on_fresh_seeds(make_sweep: Callable[..., Sweep], metric: str) -> None:
    sweep = make_sweep(metric)
    sweep.enqueue()
    sweep.confirm(2 * SEEDS)
    found = sweep.conclude()
    assert found is not None
    winner, default = sweep.chosen
    assert (found.metric, found.seeds) == (metric, SEEDS)

    def mean_of(*attributes: dict[str, object]) -> float:
        return float(np.mean([fold.scores[metric] for one in attributes for fold in folds_of(one)]))

    trials = [trial.user_attrs for trial in sweep.confirming.trials]
    assert found.searched == pytest.approx(
        {"default": mean_of(default.user_attrs), "winner": mean_of(winner.user_attrs)}
    )
    assert found.confirmed == pytest.approx(
        {"default": mean_of(trials[0], trials[2]), "winner": mean_of(trials[1], trials[3])}
    )
    lost = found.searched["winner"] - found.confirmed["winner"]
    assert found.luck == pytest.approx(-lost if sweep.smaller else lost)

    def gain(rows: IntArray | None = None) -> float:
        scores = [score(metric, sweep, number, rows) for number in range(2 * SEEDS)]
        return (scores[1] + scores[3] - scores[0] - scores[2]) / 2

    assert found.gain == pytest.approx(gain(), abs=1e-9)
    rng = np.random.default_rng(1)
    n = len(sweep.fresh.items)
    drawn = [gain(rng.integers(n, size=n)) for _ in range(200)]
    spread = float(np.std(drawn))
    assert spread > 0
    if metric in SCORES:
        ends = [found.gain - 1.96 * spread, found.gain + 1.96 * spread]
    else:
        ends = np.quantile(drawn, [0.025, 0.975]).tolist()
    assert [found.low, found.high] == pytest.approx(ends, abs=0.6 * spread)
    assert found.proven is (found.high < 0 if sweep.smaller else found.low > 0)


@pytest.mark.parametrize(
    ("metric", "low", "high", "proven"),
    [
        ("accuracy", 0.01, 0.03, True),
        ("accuracy", -0.01, 0.03, False),
        ("accuracy", -0.03, -0.01, False),
        ("aurc", -0.03, -0.01, True),
        ("aurc", -0.03, 0.01, False),
        ("log_loss", 0.01, 0.03, False),
    ],
)
def test_a_lead_is_proven_beyond_its_interval(
    metric: str, low: float, high: float, proven: bool
) -> None:
    scores = {"default": 0.5, "winner": 0.6}
    one = with_verdict(
        metric=metric, seeds=3, searched=scores, confirmed=scores, gain=(low + high) / 2,
        low=low, high=high,
    )  # fmt: skip
    assert one.proven is proven


def test_nothing_is_concluded_before_all_is_there(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep("accuracy")
    sweep.enqueue()
    for _ in range(2 * SEEDS - 1):
        assert sweep.conclude() is None
        sweep.confirm(1)
    trial = sweep.confirming.ask()
    plan_confirmation(trial, sweep.space, sweep.fresh)
    sweep.confirming.tell(trial, state=TrialState.FAIL)
    assert sweep.conclude() is None


def test_rows_held_out_are_not_confirmed_on(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep("accuracy", "data.split.test=0.3")
    sweep.enqueue()
    sweep.confirm(2 * SEEDS)
    judged = [
        len(fold.predicted)
        for trial in sweep.confirming.trials
        for fold in folds_of(trial.user_attrs)
    ]
    assert sum(judged) == 2 * SEEDS * len(sweep.fresh.items) == 4 * 42
    assert sweep.conclude() is not None
