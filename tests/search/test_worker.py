import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from tagger.config.schema import OptimizeConfig
from tagger.files import REPO_ROOT
from tagger.search.fold_results import folds_of
from tagger.search.liveness import lives
from tagger.search.space import SearchSpace
from tagger.search.study import (
    DEATHS,
    DEFAULT,
    ERROR,
    ORIGIN,
    STOPPED,
    WORKER,
    counted,
    open_storage,
    open_study,
    quiet_optuna,
    storage_url,
)
from tagger.search.worker import (
    TrialFailedError,
    WorkerSpec,
    may_begin,
    run_next,
    work,
)

pytestmark = pytest.mark.slow

DEADLINE = 180
WHO = "elsewhere:1:of-another-machine"
Config = Callable[..., OptimizeConfig]
STATES = {
    "c": TrialState.COMPLETE, "p": TrialState.PRUNED, "f": TrialState.FAIL,
    "r": TrialState.RUNNING, "w": TrialState.WAITING,
}  # fmt: skip

ORPHAN = """
import multiprocessing, sys
from pathlib import Path
from tagger.config.composition import compose_config, load_config
from tagger.config.schema import OptimizeConfig
from tagger.search.worker import WorkerSpec, work
folder, url, *overrides = sys.argv[1:]
config = load_config(OptimizeConfig, compose_config("optimize", overrides))
context = multiprocessing.get_context("spawn")
_, trouble = context.Pipe(duplex=False)
worker = context.Process(
    target=work, args=(WorkerSpec(config, Path(folder), url, "x", False), trouble)
)
worker.start()
print(worker.pid, flush=True)
worker.join()
"""


@pytest.fixture(autouse=True)
def quiet() -> None:
    quiet_optuna()


@pytest.fixture
def start(worker_context: ForkServerContext) -> Iterator[Callable[[WorkerSpec], BaseProcess]]:
    """Starts workers; those that still live at the end are killed."""
    workers: list[BaseProcess] = []

    def run(spec: WorkerSpec) -> BaseProcess:
        _, trouble = worker_context.Pipe(duplex=False)
        worker = worker_context.Process(target=work, args=(spec, trouble))
        worker.start()
        workers.append(worker)
        return worker

    yield run
    for worker in workers:
        worker.kill()
        worker.join(10)


class DiedError(BaseException):
    """What ends a process at once."""


class Sweep:
    """The study of a sweep in a file, as this process sees it."""

    def __init__(self, config: OptimizeConfig, folder: Path, confirming: bool = False) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self.name = WHO
        self.spec = WorkerSpec(config, folder, storage_url(config.search, folder), "x", confirming)
        self.space = SearchSpace.parse(config.search.space, config.base)
        self.storage: RDBStorage
        self.study: Study
        self.reopen()

    def reopen(self) -> None:
        search = self.spec.config.search
        self.storage = open_storage(self.spec.url, search.heartbeat)
        self.study = open_study(self.storage, "x", search, search.objectives[:1], 3)

    def run(self, judge: Callable[[Trial], list[float]]) -> bool:
        return run_next(self.study, self.space, self.spec, worker=self.name, judge=judge)

    def take(self) -> Trial | None:
        """Begin the next trial, and leave it as if it was still worked at."""
        taken: list[Trial] = []

        def leave(trial: Trial) -> list[float]:
            taken.append(trial)
            raise DiedError

        with suppress(DiedError):
            self.run(leave)
        return taken[0] if taken else None

    def enqueue(self, chosen: Sequence[dict[str, Any]], origins: Sequence[str]) -> None:
        for stored, origin in zip(chosen, origins, strict=True):
            self.study.enqueue_trial(stored, user_attrs={ORIGIN: origin}, skip_if_exists=True)

    def take_one(self) -> Trial:
        trial = self.take()
        assert trial is not None
        return trial

    @property
    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.study.trials]

    def wait_for(self, ready: Callable[[list[FrozenTrial]], bool]) -> list[FrozenTrial]:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            if ready(self.study.trials):
                return self.study.trials
            time.sleep(0.05)
        raise AssertionError(f"it did not come to that: {self.states}")


def with_space(config: OptimizeConfig, space: dict[str, Any]) -> OptimizeConfig:
    return config.model_copy(update={"search": config.search.model_copy(update={"space": space})})


def trials_of(states: str, hours: float = 0.0, worker: str = WHO) -> list[FrozenTrial]:
    """Trials by the letters of `STATES`, one after another; together they took those hours."""
    trials = []
    took = sum(state != "w" for state in states)
    for number, letter in enumerate(states):
        attributes = {"r": {WORKER: worker}, "f": {ERROR: "it diverged"}}.get(letter)
        trial = create_trial(
            state=STATES[letter], value=1.0 if letter == "c" else None, user_attrs=attributes
        )
        trial.number = number
        if letter != "w":
            start = datetime.now() - timedelta(hours=hours * (1 - number / took))
            trial.datetime_start = start
            if letter != "r":
                trial.datetime_complete = start + timedelta(hours=hours / took)
        trials.append(trial)
    return trials


TRIALS_3 = ["search.trials=3"]
HOUR = ["search.trials=null", "search.hours=1"]
GRID = ["search.sampler=grid", "search.trials=null"]


@pytest.mark.parametrize(
    ("given", "past", "expected"),
    [
        (TRIALS_3, ("", 0), True),
        (TRIALS_3, ("cp", 9), True),
        (TRIALS_3, ("cpf", 0), False),  # what failed counts
        (TRIALS_3, ("ccr", 0), False),  # what runs counts
        (TRIALS_3, ("ccww", 0), True),  # what waits doesn't
        (TRIALS_3, ("cccww", 0), False),
        (HOUR, ("", 0), True),
        (HOUR, ("cccccc", 0.8), True),
        (HOUR, ("cf", 1.2), False),
        (HOUR, ("ccr", 1.2), False),
        (HOUR, ("ccw", 1.2), False),
        ([*TRIALS_3, "search.hours=1"], ("cc", 0.8), True),
        ([*TRIALS_3, "search.hours=1"], ("ccc", 0.8), False),
        ([*TRIALS_3, "search.hours=1"], ("cc", 1.2), False),
        (GRID, ("ccww", 0), True),
        (GRID, ("ccrw", 0), True),
        (GRID, ("ccr", 0), False),
        (GRID, ("ccc", 0), False),
        ([*GRID, "search.hours=1"], ("cww", 1.2), False),
        (["search.sampler=grid", *TRIALS_3], ("cccw", 0), False),
    ],
)
def test_the_budget_of_a_search(
    sweep_config: Config,
    this_worker: str,
    given: list[str],
    past: tuple[str, float],
    expected: bool,
) -> None:
    search = sweep_config(Path("sweeps"), *given).search
    assert may_begin(trials_of(*past, this_worker), search, confirming=False) is expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [("ccccw", True), ("w", True), ("cccc", False), ("ccr", False), ("", False)],
)
@pytest.mark.parametrize("given", [TRIALS_3, HOUR, GRID])
def test_a_confirmation_ends_with_its_queue(
    sweep_config: Config, tmp_path: Path, given: list[str], states: str, expected: bool
) -> None:
    search = sweep_config(tmp_path, *given).search
    assert may_begin(trials_of(states, 5.0), search, confirming=True) is expected


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_a_sweep_that_was_stopped_draws_what_it_would_have_drawn(
    sweep_config: Config, tmp_path: Path, sampler: str
) -> None:
    def draw(name: str, stops: Sequence[int], *more: str) -> list[dict[str, Any]]:
        config = sweep_config(
            tmp_path, f"search.sampler={sampler}", "search.pruner=none", "search.startup=3",
            "search.trials=6", *more,
        )  # fmt: skip
        sweep = Sweep(config, tmp_path / name)
        taken = 0
        while (trial := sweep.take()) is not None:
            assert set(trial.params) == {one.path for one in sweep.space.parameters}
            taken += 1
            if taken in stops:
                trial.set_user_attr(STOPPED, True)
                sweep.study.tell(trial, state=TrialState.FAIL)
                sweep.reopen()
            else:
                sweep.study.tell(trial, -abs(np.log(trial.params["model.C"])))
        assert taken == 6 + len(stops)
        return [trial.params for trial in counted(sweep.study.trials)]

    whole = draw("whole", [])
    assert len({json.dumps(one) for one in whole}) > 3
    assert draw("stopped", [1, 4, 5]) == whole
    assert draw("other", [], "seed=1") != whole


def test_what_is_taken_says_who_has_it(sweep_config: Config, tmp_path: Path) -> None:
    sweep = Sweep(sweep_config(tmp_path), tmp_path / "sweep")
    trial = sweep.take_one()
    assert sweep.study.trials[0].user_attrs == {WORKER: WHO}
    assert sweep.study.trials[0].params == trial.params != {}
    with sqlite3.connect(sweep.spec.folder / "study.db") as file:
        assert file.execute("select trial_id from trial_heartbeats").fetchall() == [
            (trial._trial_id,)
        ]
    file.close()


def test_what_is_enqueued_is_taken_first(sweep_config: Config, tmp_path: Path) -> None:
    sweep = Sweep(sweep_config(tmp_path, "search.trials=3"), tmp_path / "sweep")
    base = sweep.space.encode(sweep.space.assignment_of(sweep.spec.config.base))
    wanted = [base, base | {"model.C": 0.5}]
    sweep.enqueue(wanted, [DEFAULT, "a run"])
    trials = [sweep.take_one() for _ in range(3)]
    assert [trial.params for trial in trials[:2]] == wanted
    assert trials[2].params not in wanted
    assert [trial.user_attrs.get(ORIGIN) for trial in trials] == [DEFAULT, "a run", None]
    assert sweep.take() is None


@pytest.mark.parametrize("silent", ["after signs of life", "from the start"])
def test_the_trial_of_a_dead_worker_is_taken_again(
    sweep_config: Config, tmp_path: Path, silent: str
) -> None:
    sweep = Sweep(sweep_config(tmp_path, "search.trials=1"), tmp_path / "sweep")
    first = sweep.take_one()
    first.set_user_attr("fold_0", {"scores": {}})
    assert sweep.take() is None
    with sqlite3.connect(sweep.spec.folder / "study.db") as file:
        if silent == "from the start":
            file.execute("delete from trial_heartbeats")
            file.execute("delete from trial_user_attributes where key = ?", (WORKER,))
            file.execute("update trials set datetime_start = datetime(datetime_start, '-1 hour')")
        else:
            file.execute("update trial_heartbeats set heartbeat = datetime(heartbeat, '-1 hour')")
    file.close()
    sweep.reopen()
    again = sweep.take_one()
    assert (again.number, again.params) == (1, first.params)
    assert again.user_attrs == {"fold_0": {"scores": {}}, DEATHS: 1, WORKER: WHO}
    assert sweep.states == [TrialState.FAIL, TrialState.RUNNING]
    assert sweep.take() is None


def test_the_trial_of_a_dead_worker_of_this_machine_is_taken_at_once(
    sweep_config: Config, tmp_path: Path, dead_worker: str, this_worker: str
) -> None:
    sweep = Sweep(sweep_config(tmp_path, "search.trials=2"), tmp_path / "sweep")
    sweep.name = dead_worker
    first = sweep.take_one()
    sweep.name = this_worker
    again, other = sweep.take_one(), sweep.take_one()
    assert (again.number, again.params) == (1, first.params)
    assert again.user_attrs == {DEATHS: 1, WORKER: this_worker}
    assert lives(dead_worker) is None  # what it left is gone
    # That of a worker which lives is left to it.
    assert other.params != first.params
    assert sweep.take() is None


def test_a_worker_that_died_while_it_took_a_trial_is_not_waited_for(
    sweep_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(sweep_config(tmp_path, "search.trials=1"), tmp_path / "sweep")
    monkeypatch.setattr(Trial, "set_user_attr", die)
    assert sweep.take() is None
    monkeypatch.undo()
    assert sweep.states == [TrialState.RUNNING]
    sweep.reopen()
    assert sweep.take_one().number == 1
    assert sweep.states == [TrialState.FAIL, TrialState.RUNNING]


def die(*_: object, **__: object) -> None:
    raise DiedError


def test_a_trial_that_was_given_to_another_is_left_to_it(
    sweep_config: Config, tmp_path: Path
) -> None:
    """A worker that was silent for too long finds its trial failed, and in the queue again."""
    sweep = Sweep(sweep_config(tmp_path), tmp_path / "sweep")

    def is_silent(trial: Trial) -> list[float]:
        sweep.study.tell(trial.number, state=TrialState.FAIL)
        if len(sweep.study.trials) == 1:
            trial.set_user_attr("fold_0", {})
        return [1.0]

    assert sweep.run(is_silent)
    assert sweep.run(is_silent)
    assert sweep.states == [TrialState.FAIL, TrialState.FAIL]
    assert sweep.take_one().user_attrs == {DEATHS: 2, WORKER: WHO}


def test_what_a_trial_failed_of_is_not_retried(sweep_config: Config, tmp_path: Path) -> None:
    sweep = Sweep(sweep_config(tmp_path, "search.trials=2"), tmp_path / "sweep")

    def fail(trial: Trial) -> list[float]:
        trial.set_user_attr(ERROR, "it diverged")
        raise TrialFailedError

    assert sweep.run(fail) and sweep.run(fail) and not sweep.run(fail)
    assert sweep.states == [TrialState.FAIL, TrialState.FAIL]


def test_workers_together_keep_to_the_budget(sweep_config: Config, tmp_path: Path) -> None:
    config = sweep_config(tmp_path, "search.trials=10")
    sweeps = [Sweep(config, tmp_path / "sweep") for _ in range(4)]
    taken: list[int] = []

    def take_all(sweep: Sweep) -> None:
        while (trial := sweep.take()) is not None:
            taken.append(trial.number)

    threads = [threading.Thread(target=take_all, args=(sweep,)) for sweep in sweeps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(taken) == list(range(10))
    params = {json.dumps(trial.params) for trial in sweeps[0].study.trials}
    assert len(params) == 10


def test_a_confirmation_draws_nothing(sweep_config: Config, tmp_path: Path) -> None:
    sweep = Sweep(sweep_config(tmp_path), tmp_path / "sweep", confirming=True)
    assert sweep.take() is None
    sweep.study.enqueue_trial({"candidate": "winner", "repeat": 0})
    trial = sweep.take_one()
    assert trial.params == {}
    assert trial.suggest_categorical("candidate", ["default", "winner"]) == "winner"
    assert sweep.take() is None


def test_a_worker_goes_on_after_trials_that_fail(
    sweep_config: Config, tmp_path: Path, start: Callable[[WorkerSpec], BaseProcess]
) -> None:
    missing = str(tmp_path / "missing.csv")
    config = with_space(
        sweep_config(tmp_path, "search.sampler=grid", "search.trials=null"),
        {
            "model": {"C": {"choices": [1.0, 4.0]}},
            "data": {"extra": {"choices": [[missing], []]}},
        },
    )
    sweep = Sweep(config, tmp_path / "sweep")
    grid = [sweep.space.encode(one) for one in sweep.space.grid(0)]
    sweep.enqueue(grid, ["grid"] * len(grid))
    worker = start(sweep.spec)
    worker.join(DEADLINE)
    assert worker.exitcode == 0
    trials = sweep.study.trials
    assert [trial.params for trial in trials] == grid
    for trial in trials:
        folds = folds_of(trial.user_attrs)
        if trial.params["data.extra"] == "[]":
            assert (trial.state, len(folds)) == (TrialState.COMPLETE, 3)
            scores = [fold.scores["weighted_f1"] for fold in folds]
            assert trial.value == pytest.approx(np.mean(scores))
            assert ERROR not in trial.user_attrs
        else:
            assert (trial.state, folds) == (TrialState.FAIL, [])
            assert missing in trial.user_attrs[ERROR]
            assert "Traceback" not in trial.user_attrs[ERROR]
        assert trial.user_attrs[WORKER].split(":")[1] == str(worker.pid)
    assert list((sweep.spec.folder / "trials").iterdir()) == []


def test_sigterm_puts_the_trial_back_with_its_folds(
    sweep_config: Config, tmp_path: Path, start: Callable[[WorkerSpec], BaseProcess]
) -> None:
    sweep = Sweep(sweep_config(tmp_path, "search.repeats=100"), tmp_path / "sweep")
    worker = start(sweep.spec)
    sweep.wait_for(lambda trials: bool(trials) and len(folds_of(trials[0].user_attrs)) >= 2)
    worker.terminate()
    worker.join(DEADLINE)
    assert worker.exitcode == 0
    failed, waiting = sweep.study.trials
    assert (failed.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    assert failed.params == waiting.params
    assert 2 <= len(folds_of(failed.user_attrs)) < 300
    assert folds_of(failed.user_attrs) == folds_of(waiting.user_attrs)
    assert ERROR not in failed.user_attrs


def test_a_worker_ends_when_its_parent_dies(
    sweep_config: Config, toy_sweep: Callable[..., list[str]], tmp_path: Path
) -> None:
    # A model with a bar: a lock of bars between processes would be held by a semaphore.
    given = ["search=quick", "model=tiny", "search.folds=3", "search.repeats=100"]
    sweep = Sweep(sweep_config(tmp_path, *given), tmp_path / "sweep")
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(sweep.spec.folder), sweep.spec.url,
         *toy_sweep(tmp_path, *given)],
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src"), "OMP_NUM_THREADS": "1",
             "TQDM_DISABLE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    try:
        [trial] = sweep.wait_for(lambda trials: bool(trials) and "fold_0" in trials[0].user_attrs)
        name = trial.user_attrs[WORKER]
        assert lives(name)
        # Python's tracker of semaphores dies too, as by `timeout -s KILL`; the next tracker would
        # know nothing of one, and say so in a traceback.
        assert "/dev/shm/sem." not in Path(f"/proc/{worker}/maps").read_text(encoding="utf-8")
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait(10)
        sweep.wait_for(lambda trials: len(trials) == 2)
        assert sweep.states == [TrialState.FAIL, TrialState.WAITING]
        deadline = time.monotonic() + DEADLINE
        while exists(worker):
            assert time.monotonic() < deadline, "the worker goes on without its parent"
            time.sleep(0.05)
    finally:
        parent.kill()
        if exists(worker):
            os.kill(worker, signal.SIGKILL)
    assert 1 <= len(folds_of(sweep.study.trials[1].user_attrs)) < 300
    assert parent.communicate(timeout=10)[1] == ""
    assert lives(name) is None


def exists(process: int) -> bool:
    """Whether a process runs; one that ended may have nobody who asks for its exit code."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
