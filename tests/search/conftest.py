import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import OptimizeConfig
from tagger.files import REPO_ROOT
from tagger.search.fold_results import FOLD, FoldResult
from tagger.search.liveness import forget, named_worker
from tagger.search.metrics import direction_of
from tagger.search.space import Assignment, SearchSpace

DEADLINE = 300


@pytest.fixture(scope="session")
def toy_sweep(toy_folder: Path) -> Callable[..., list[str]]:
    """Gives the command line of a sweep over a linear model on the toy file: 0.2 s a trial."""

    def make(sweeps_dir: Path, *overrides: str) -> list[str]:
        return [
            "search=linear",
            "model=linear",
            "data=file",
            "data.name=toy",
            f"data.path={toy_folder / 'items.csv'}",
            f"data.tags={toy_folder / 'tags.yaml'}",
            f"sweeps_dir={sweeps_dir}",
            "search.folds=3",
            "search.repeats=1",
            "search.trials=6",
            "search.confirm=0",
            *overrides,
        ]

    return make


@pytest.fixture(scope="session")
def sweep_config(toy_sweep: Callable[..., list[str]]) -> Callable[..., OptimizeConfig]:
    """Makes the config of such a sweep, in a folder."""

    def make(sweeps_dir: Path, *overrides: str) -> OptimizeConfig:
        return load_config(
            OptimizeConfig, compose_config("optimize", toy_sweep(sweeps_dir, *overrides))
        )

    return make


@pytest.fixture(scope="session")
def start_sweep() -> Callable[..., subprocess.Popen[str]]:
    """Starts `optimize.py` as users do, in a process of its own."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "optimize.py", *arguments],
            cwd=REPO_ROOT,
            env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src"), "OMP_NUM_THREADS": "1"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return start


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Waits until a condition holds; a process that it depends on must not end before."""

    def wait(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            if process is not None and process.poll() is not None:
                raise AssertionError(process.communicate(timeout=10)[0])
            assert time.monotonic() < deadline
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def worker_context() -> ForkServerContext:
    """Starts workers at once: from a process that has imported, the first time, what they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tagger.search.worker"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TQDM_DISABLE", "1")
        forkserver.ensure_running()
    return context


@pytest.fixture
def watch() -> Iterator[Callable[[str, str], list[FrozenTrial]]]:
    """Reads the trials of a study that others work at; none before it is there.

    It keeps nobody waiting, as `open_storage` would, and writes nothing: Optuna puts its version
    into a database that has none yet, even for one who only reads.
    """
    storages: dict[str, RDBStorage] = {}

    def read(url: str, name: str) -> list[FrozenTrial]:
        try:
            if url not in storages:
                reading = url
                if url.startswith("sqlite:"):
                    path = url.removeprefix("sqlite:///")
                    reading = f"sqlite:///file:{path}?mode=ro&uri=true"
                with create_engine(reading, poolclass=NullPool).connect() as database:
                    if not database.scalar(text("SELECT count(*) FROM studies")):
                        return []
                storages[url] = RDBStorage(url, skip_table_creation=True)
            return optuna.load_study(study_name=name, storage=storages[url]).get_trials()
        except (KeyError, SQLAlchemyError, StorageInternalError):
            return []

    yield read
    for storage in storages.values():
        storage.engine.dispose()


@pytest.fixture
def this_worker() -> Iterator[str]:
    """The name of a worker that lives: this process."""
    with named_worker() as name:
        yield name


@pytest.fixture
def dead_worker() -> Iterator[str]:
    """The name of a worker that was killed: its process is gone, and what it left is not."""
    code = """if True:
        from tagger.search.liveness import named_worker
        with named_worker() as name:
            print(name, flush=True)
            input()
        """
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    process.kill()
    process.communicate(timeout=10)
    yield name
    forget(name)


@pytest.fixture(scope="session")
def study_of() -> Callable[..., Study]:
    """Makes a study in memory of trials that are told; scores of folds stand for their training."""

    def make(space: SearchSpace, metrics: Sequence[str], *trials: dict[str, Any]) -> Study:
        study = optuna.create_study(directions=[direction_of(metric) for metric in metrics])
        for number, told in enumerate(trials):
            study.add_trial(_trial(space, metrics, number, **told))
        return study

    return make


def _trial(
    space: SearchSpace,
    metrics: Sequence[str],
    number: int,
    *,
    chosen: Assignment,
    scores: Sequence[float | dict[str, float]] = (),
    state: TrialState = TrialState.COMPLETE,
    wall: float = 10.0,
    system: dict[str, Any] | None = None,
    taken_over: int = 0,
    **attributes: Any,
) -> FrozenTrial:
    """A trial with a fold for each score: of the first metric, or of several by name.

    The first folds may be taken over from an earlier trial.
    """
    folds = [one if isinstance(one, dict) else {metrics[0]: one} for one in scores]
    began = datetime(2026, 1, 1) + number * timedelta(minutes=1)
    for step, by_metric in enumerate(folds):
        result = FoldResult(
            scores=by_metric, predicted=[0], wrong=[], confidence=[0.9], of_true=[0.9],
            seconds=2.0, predicting=0.5,
            done=began + timedelta(seconds=-1 if step < taken_over else 2.5 * (step + 1)),
        )  # fmt: skip
        attributes[FOLD.format(step)] = result.model_dump(mode="json")
    values = None
    if state == TrialState.COMPLETE:
        values = [fmean(fold[metric] for fold in folds if metric in fold) for metric in metrics]
    stored = space.encode(chosen)
    drawn = {one.path: one.distribution for one in space.parameters if one.path in stored}
    ended = began + timedelta(seconds=wall) if state.is_finished() else None
    return FrozenTrial(
        number=-1, trial_id=-1, state=state, value=None, values=values, params=stored,
        distributions=drawn, datetime_complete=ended,
        datetime_start=None if state == TrialState.WAITING else began,
        user_attrs=attributes, system_attrs=system or {}, intermediate_values={},
    )  # fmt: skip
