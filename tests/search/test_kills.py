"""Workers, and the process that started them, are killed at random; the sweep ends as without."""

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from accelerate import Accelerator
from optuna.trial import FrozenTrial, Trial, TrialState

from tagger.config.schema import OptimizeConfig
from tagger.errors import UserError
from tagger.search.fold_results import folds_of, stored_folds
from tagger.search.folds import Folds
from tagger.search.liveness import process_of
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
TRIALS = 6
SETTINGS = (
    f"search.trials={TRIALS}",
    "search.folds=3",
    "search.sampler=random",
    "search.pruner=none",
    "search.heartbeat=1",
    "search.workers=2",
    # Trials of about a second: on a fast machine, too, the sweep outlasts the kills.
    "search.repeats=8",
    "name=shared",
)


def trials_of(url: str) -> list[FrozenTrial]:
    """The trials of the sweep; none before there is a study."""
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:///")).exists():
        return []
    storage = open_storage(url, 1)
    try:
        return optuna.load_study(study_name="shared", storage=storage).get_trials()
    except (KeyError, UserError):
        return []
    finally:
        storage.engine.dispose()


def result(trial: FrozenTrial) -> list[tuple[list[int], float]]:
    folds = folds_of(trial.user_attrs)
    return [(fold.predicted, fold.scores["weighted_f1"]) for fold in folds]


def children(process: subprocess.Popen[str]) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()] if path.exists() else []


def at_work(process: subprocess.Popen[str], url: str, folds: int) -> list[int]:
    """The workers of a process that have a trial in hand, once one has done so many folds."""
    running = [
        trial
        for trial in trials_of(url)
        if trial.state == TrialState.RUNNING
        and WORKER in trial.user_attrs
        and process_of(trial.user_attrs[WORKER]) in children(process)
    ]
    if max((len(stored_folds(trial.user_attrs)) for trial in running), default=-1) < folds:
        return []
    return [process_of(trial.user_attrs[WORKER]) for trial in running]


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

    while run_next(study, storage, space, spec, worker="elsewhere:1:undisturbed", judge=judge):
        pass
    return by_params(study.trials)


def by_params(trials: list[FrozenTrial]) -> dict[str, FrozenTrial]:
    found = {json.dumps(trial.params, sort_keys=True): trial for trial in counted(trials)}
    assert len(found) == TRIALS
    return found


@pytest.fixture(params=["file", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, list[str], list[Path]]:
    """A storage, the settings that name it, and a folder for each machine that shares it."""
    one, two = tmp_path / "one", tmp_path / "two"
    if request.param == "file":
        return f"sqlite:///{one / 'shared' / FILE}", [], [one]
    url = request.getfixturevalue("postgresql")
    settings = [f"search.storage={url}", "search.workers=1"]
    return url.replace("postgresql:", "postgresql+psycopg:"), settings, [one, two]


def test_kills_cost_the_fold_in_hand_and_nothing_else(
    place: tuple[str, list[str], list[Path]],
    toy_sweep: Callable[..., list[str]],
    start_sweep: Callable[..., subprocess.Popen[str]],
    undisturbed: dict[str, FrozenTrial],
    wait_for: Callable[..., None],
) -> None:
    rng = random.Random(0)
    url, settings, folders = place

    def start(folder: Path) -> subprocess.Popen[str]:
        return start_sweep(*toy_sweep(folder, *SETTINGS, *settings))

    def wait_for_work(process: subprocess.Popen[str]) -> list[int]:
        """Wait until the workers of a process are somewhere within a trial; return them."""
        found: list[int] = []
        folds = rng.randrange(1, 16)

        def ready() -> bool:
            found[:] = at_work(process, url, folds)
            return bool(found)

        wait_for(ready, process)
        return found

    first = start(folders[0])
    for worker in wait_for_work(first):
        os.kill(worker, signal.SIGKILL)
    others = [start(folder) for folder in folders[1:]]
    wait_for_work(first)
    before = {trial.number: result(trial) for trial in trials_of(url) if trial.state in FINISHED}

    # The one that started the workers dies; they notice, and end themselves.
    orphans = children(first)
    first.kill()
    first.wait()
    wait_for(lambda: not any(Path(f"/proc/{orphan}").exists() for orphan in orphans))

    first = start(folders[0])
    for process in [first, *others]:
        output, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, output

    after = trials_of(url)
    assert before == {t.number: result(t) for t in after if t.number in before}
    assert all(trial.state in FINISHED for trial in counted(after))
    assert any(trial.system_attrs.get("retry_history") for trial in counted(after))
    found = by_params(after)
    assert found.keys() == undisturbed.keys()
    for params, trial in found.items():
        assert result(trial) == result(undisturbed[params])
    for folder in folders:
        summary = SweepSummary.read(folder / "shared" / "summary.json")
        assert summary.states == {"complete": TRIALS}
        assert not (folder / "shared" / "trials").exists()
