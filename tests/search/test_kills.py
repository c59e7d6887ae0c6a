"""Workers, and the process that started them, are killed at random; the sweep ends as without."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tagger.search.fold_results import folds_of
from tagger.search.liveness import process_of
from tagger.search.study import DEATHS, FILE, MOST_RETRIES, WORKER, counted, open_storage

pytestmark = pytest.mark.slow

DEADLINE = 300
TRIALS = 14
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
SETTINGS = (
    f"search.trials={TRIALS}",
    "search.folds=3",
    "search.sampler=random",
    "search.pruner=none",
    "search.heartbeat=1",
    "search.workers=2",
    # Trials of seconds: on a fast machine, too, the sweep outlasts the kills.
    "search.repeats=25",
    "name=shared",
)


def trials_of(url: str) -> list[FrozenTrial]:
    storage = open_storage(url, 1)
    try:
        return optuna.load_study(study_name="shared", storage=storage).get_trials()
    finally:
        storage.engine.dispose()


def result(trial: FrozenTrial) -> list[tuple[list[int], float]]:
    folds = folds_of(trial.user_attrs)
    return [(fold.predicted, fold.scores["weighted_f1"]) for fold in folds]


def children(process: subprocess.Popen[str]) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()] if path.exists() else []


def kill_some(process: subprocess.Popen[str], url: str, rng: random.Random, kills: int) -> int:
    """Kill processes of a sweep while it goes on; return how many had a trial in hand.

    A trial is spared that would be given up, because too many of its workers have died.
    """
    hit = 0
    deadline = time.monotonic() + DEADLINE
    while kills and process.poll() is None and time.monotonic() < deadline:
        time.sleep(rng.uniform(0.1, 0.8))
        running = {
            process_of(trial.user_attrs[WORKER])
            for trial in trials_of(url)
            if trial.state == TrialState.RUNNING
            and WORKER in trial.user_attrs
            and trial.user_attrs.get(DEATHS, 0) < MOST_RETRIES
        }
        at_work = [child for child in children(process) if child in running]
        if not at_work:
            continue
        victim = rng.choice(at_work)
        os.kill(victim, signal.SIGKILL)
        hit += 1
        kills -= 1
    return hit


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, toy_sweep, start_sweep):
    """The trials of the sweep that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start_sweep(*toy_sweep(folder, *SETTINGS))
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output
    return by_params(trials_of(f"sqlite:///{folder / 'shared' / FILE}"))


def by_params(trials: list[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    found: dict[str, list[FrozenTrial]] = {}
    for trial in counted(trials):
        found.setdefault(json.dumps(trial.params, sort_keys=True), []).append(trial)
    return found


@pytest.fixture(params=["file", "postgresql"])
def place(request, tmp_path) -> tuple[str, list[str], list[Path]]:
    """A storage, the setting that names it, and a folder for each machine that shares it."""
    one, two = tmp_path / "one", tmp_path / "two"
    if request.param == "file":
        return f"sqlite:///{one / 'shared' / FILE}", [], [one]
    url = request.getfixturevalue("postgresql")
    setting = f"search.storage={url}"
    return url.replace("postgresql:", "postgresql+psycopg:"), [setting], [one, two]


def test_kills_cost_the_fold_in_hand_and_nothing_else(
    place, toy_sweep, start_sweep, undisturbed, wait_for
):
    rng = random.Random(0)
    url, setting, folders = place

    def start(folder: Path) -> subprocess.Popen[str]:
        return start_sweep(*toy_sweep(folder, *SETTINGS, *setting))

    first = start(folders[0])
    wait_for(lambda: finished(url) >= 1, first)
    processes = [first, *(start(folder) for folder in folders[1:])]
    assert kill_some(first, url, rng, kills=4) == 4
    before = {trial.number: result(trial) for trial in trials_of(url) if trial.state in FINISHED}
    assert before

    # The one that started the workers dies; they notice, and end themselves.
    orphans = children(first)
    first.kill()
    first.wait()
    wait_for(lambda: not any(Path(f"/proc/{orphan}").exists() for orphan in orphans))

    first = start(folders[0])
    kill_some(first, url, rng, kills=2)
    for process in [first, *processes[1:]]:
        output, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, output

    after = trials_of(url)
    assert before == {t.number: result(t) for t in after if t.number in before}
    assert all(trial.state in FINISHED for trial in counted(after))
    assert any(trial.system_attrs.get("retry_history") for trial in counted(after))
    found = by_params(after)
    assert found.keys() == undisturbed.keys()
    for params, [trial] in found.items():
        assert result(trial) == result(undisturbed[params][0])
    for folder in folders:
        summary = json.loads((folder / "shared" / "summary.json").read_text())
        assert summary["states"] == {"complete": TRIALS}
        assert not (folder / "shared" / "trials").exists()


def finished(url: str) -> int:
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:///")).exists():
        return 0
    try:
        return sum(trial.state in FINISHED for trial in trials_of(url))
    except KeyError:  # the study is not there yet
        return 0
