"""Workers, and the process that started them, are killed at random; the sweep ends as without."""

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from accelerate import Accelerator
from optuna.trial import FrozenTrial, Trial, TrialState

from tagger.config.schema import OptimizeConfig
from tagger.search.fold_results import folds_of, stored_folds
from tagger.search.folds import Folds
from tagger.search.run_sweep import run_sweep
from tagger.search.space import SearchSpace
from tagger.search.study import (
    DEFAULT,
    FILE,
    FINISHED,
    ORIGIN,
    WORKER,
    counted,
    open_storage,
    open_study,
    quiet_optuna,
    storage_url,
)
from tagger.search.summary import SweepSummary
from tagger.search.trials import run_trial
from tagger.search.worker import WorkerSpec, run_next

pytestmark = pytest.mark.slow

DEADLINE = 300
TRIALS = 5
SETTINGS = (
    f"search.trials={TRIALS}",
    "search.folds=3",
    "search.sampler=random",
    "search.pruner=none",
    "search.heartbeat=1",
    "search.workers=1",
    # Trials of about a second: on a fast machine, too, the sweep outlasts the kills.
    "search.repeats=6",
    "name=shared",
)


def result(trial: FrozenTrial) -> list[tuple[list[int], float]]:
    folds = folds_of(trial.user_attrs)
    return [(fold.predicted, fold.scores["weighted_f1"]) for fold in folds]


def children(process: subprocess.Popen[str]) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()] if path.exists() else []


def process_of(worker: str) -> int:
    """The number of a worker's process."""
    return int(worker.split(":")[1])


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, sweep_config: Callable[..., OptimizeConfig]
) -> dict[str, FrozenTrial]:
    """The trials of the sweep that nobody disturbs, which this process runs one by one."""
    quiet_optuna()
    folder = tmp_path_factory.mktemp("undisturbed")
    config = sweep_config(folder, *SETTINGS)
    url = storage_url(config.search, folder)
    spec = WorkerSpec(config, folder, url, "shared", confirming=False)
    space = SearchSpace.parse(config.search.space, config.base)
    folds = Folds(config, confirming=False)
    storage = open_storage(url, 1)
    study = open_study(storage, "shared", config.search, config.search.objectives, folds.steps)
    first = space.encode(space.assignment_of(space.base))
    study.enqueue_trial(first, user_attrs={ORIGIN: DEFAULT})
    accelerator = Accelerator(cpu=True)

    def judge(trial: Trial) -> list[float]:
        values = run_trial(
            trial, space.apply(space.decode(trial.params)), folds, range(folds.steps),
            accelerator=accelerator, folder=folder / "trial", prune=False, stopped=lambda: False,
        )  # fmt: skip
        return list(values.values())

    while run_next(study, space, spec, worker="elsewhere:1:undisturbed", judge=judge):
        pass
    return by_params(study.trials)


def by_params(trials: list[FrozenTrial]) -> dict[str, FrozenTrial]:
    found = {json.dumps(trial.params, sort_keys=True): trial for trial in counted(trials)}
    assert len(found) == TRIALS
    return found


class Sweeps:
    """The sweep as users start it, on one machine or several, and what is known of it meanwhile."""

    def __init__(
        self,
        url: str,
        toy_sweep: Callable[..., list[str]],
        start_sweep: Callable[..., subprocess.Popen[str]],
        wait_for: Callable[..., None],
        watch: Callable[[str, str], list[FrozenTrial]],
    ) -> None:
        self.url, self.command, self.start_sweep = url, toy_sweep, start_sweep
        self.wait_for, self.watch = wait_for, watch
        self.rng = random.Random(0)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.watch(self.url, "shared")

    def start(self, folder: Path, *settings: str) -> subprocess.Popen[str]:
        return self.start_sweep(*self.command(folder, *SETTINGS, *settings))

    def wait_for_work(self, process: subprocess.Popen[str]) -> list[int]:
        """Wait until the workers of a process are somewhere within a trial; return them."""
        folds = self.rng.randrange(1, 12)
        found: list[int] = []

        def ready() -> bool:
            running = [
                trial
                for trial in self.trials
                if trial.state == TrialState.RUNNING
                and WORKER in trial.user_attrs
                and process_of(trial.user_attrs[WORKER]) in children(process)
            ]
            found[:] = [process_of(trial.user_attrs[WORKER]) for trial in running]
            return any(len(stored_folds(trial.user_attrs)) >= folds for trial in running)

        self.wait_for(ready, process)
        return found

    def kill(self, process: subprocess.Popen[str]) -> list[int]:
        """Kill the process that started the workers; return these, which notice and end too."""
        orphans = children(process)
        process.kill()
        process.wait(10)
        return orphans

    def wait_for_end(self, orphans: list[int]) -> None:
        self.wait_for(lambda: not any(Path(f"/proc/{orphan}").exists() for orphan in orphans))

    def check(self, before: dict[int, object], undisturbed: dict[str, FrozenTrial]) -> None:
        """Hold the trials against those of the sweep that nobody disturbed."""
        after = self.trials
        assert before == {t.number: result(t) for t in after if t.number in before}
        assert all(trial.state in FINISHED for trial in counted(after))
        assert any(trial.system_attrs.get("retry_history") for trial in counted(after))
        found = by_params(after)
        assert found.keys() == undisturbed.keys()
        for params, trial in found.items():
            assert result(trial) == result(undisturbed[params])

    def done(self) -> dict[int, object]:
        return {trial.number: result(trial) for trial in self.trials if trial.state in FINISHED}


@pytest.fixture
def sweeps(
    toy_sweep: Callable[..., list[str]],
    start_sweep: Callable[..., subprocess.Popen[str]],
    wait_for: Callable[..., None],
    watch: Callable[[str, str], list[FrozenTrial]],
) -> Callable[[str], Sweeps]:
    return lambda url: Sweeps(url, toy_sweep, start_sweep, wait_for, watch)


def finish(config: OptimizeConfig) -> None:
    """Go on with the sweep, in this process, to its end."""
    folder = run_sweep(config, lambda results: None)
    assert not (folder / "trials").exists()
    assert SweepSummary.read(folder / "summary.json").states == {"complete": TRIALS}


def test_kills_cost_the_fold_in_hand_and_nothing_else(
    tmp_path: Path,
    sweeps: Callable[[str], Sweeps],
    undisturbed: dict[str, FrozenTrial],
    sweep_config: Callable[..., OptimizeConfig],
) -> None:
    sweep = sweeps(f"sqlite:///{tmp_path / 'shared' / FILE}")
    process = sweep.start(tmp_path, "search.workers=2")
    os.kill(sweep.rng.choice(sweep.wait_for_work(process)), signal.SIGKILL)
    sweep.wait_for_work(process)
    before = sweep.done()
    orphans = sweep.kill(process)
    finish(sweep_config(tmp_path, *SETTINGS))  # at once, as users do
    sweep.wait_for_end(orphans)
    sweep.check(before, undisturbed)


def test_machines_that_share_a_database_take_over_from_each_other(
    tmp_path: Path,
    sweeps: Callable[[str], Sweeps],
    undisturbed: dict[str, FrozenTrial],
    sweep_config: Callable[..., OptimizeConfig],
    postgresql: str,
) -> None:
    sweep = sweeps(postgresql.replace("postgresql:", "postgresql+psycopg:"))
    storage = f"search.storage={postgresql}"
    one, two = (sweep.start(tmp_path / name, storage) for name in ("one", "two"))
    [worker] = sweep.wait_for_work(one)
    before = sweep.done()
    os.kill(worker, signal.SIGKILL)
    orphans = sweep.kill(one)
    output, _ = two.communicate(timeout=DEADLINE)
    assert two.returncode == 0, output
    sweep.wait_for_end(orphans)
    sweep.check(before, undisturbed)

    # The machine whose processes were killed finds the sweep done.
    finish(sweep_config(tmp_path / "one", *SETTINGS, storage))
    tables = [
        pd.read_parquet(tmp_path / name / "shared" / "trials.parquet") for name in ("one", "two")
    ]
    pd.testing.assert_frame_equal(*tables)
    password = postgresql.split(":")[2].partition("@")[0]
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or password.encode() not in path.read_bytes(), path
