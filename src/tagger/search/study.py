"""The Optuna study of a sweep: where it is stored, who is alive, what was spent."""

import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import psutil
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tagger.config import SearchConfig
from tagger.errors import UserError
from tagger.search.metrics import direction_of
from tagger.search.racing import build_pruner, fold_results

FILE = "study.db"
ADVISORY_LOCK = 0x7A66E4
"""What processes of this project ask PostgreSQL for, to go one after another."""

BEATS = 4
"""Signs of life that a worker may miss before its trial is given to another."""

MOST_RETRIES = 3
DEATHS = "deaths"
"""How many workers a trial has outlived."""

WORKER = "worker"
ERROR = "error"
ORIGIN = "origin"
DEFAULT = "default"
MADE_FROM = "made_from"
DONE = "done"
"""When a fold was finished, kept with it."""

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def quiet_optuna() -> None:
    """Keep Optuna from writing a line a trial, and from warning of what this project tests."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    # Its own loop gives signs of life; that of `tagger.search.worker` does too.
    warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with")


def storage_url(config: SearchConfig, folder: Path) -> str:
    """Return the address of a sweep's storage: the database, or a file in its folder.

    Raises:
        UserError: for an address that is none.
    """
    if config.storage is None:
        # Quoted, for `?` and `%` mean something in an address, and `{` to Optuna.
        return f"sqlite:///{quote(str((folder / FILE).resolve()))}"
    try:
        url = make_url(config.storage)
        if url.get_backend_name() == "sqlite" and not url.database:
            raise ValueError("in memory, where no other process finds it")
    except (ArgumentError, ValueError):
        raise UserError(
            f"search.storage: {config.storage!r} is no address of a database",
            hint="It looks like postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.",
        ) from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")  # the driver that the project installs
    return url.render_as_string(hide_password=False)


def without_password(url: str) -> str:
    """Return an address of a storage as files and messages may show it."""
    return make_url(url).render_as_string(hide_password=True)


def open_storage(url: str, heartbeat: int) -> RDBStorage:
    """Open a storage, and make its tables where there are none.

    Args:
        url: From `storage_url`.
        heartbeat: Seconds between signs of life of a trial.

    Raises:
        UserError: when it cannot be reached, or holds something else.
    """
    shown = without_password(url)
    local = url.startswith("sqlite:")
    # A writer waits for another's turn; a server may have closed what was idle.
    settings: dict[str, Any] = (
        {"connect_args": {"timeout": 120}} if local else {"pool_pre_ping": True}
    )
    try:
        with exclusive(url):  # or two would make its tables at once
            storage = RDBStorage(
                url,
                engine_kwargs=settings,
                heartbeat_interval=heartbeat,
                grace_period=BEATS * heartbeat,
                heartbeat_stale_trial_callback=retry,
            )
            if local:
                _write_ahead(storage)
        return storage
    except ImportError as error:
        raise UserError(
            f"search.storage={shown}: its driver is not installed: {error.name or error}",
            hint="Install it, or use PostgreSQL: its driver came with requirements.txt.",
        ) from None
    except (SQLAlchemyError, RuntimeError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise UserError(f"search.storage={shown} cannot be used: {reason}") from None


@contextmanager
def exclusive(url: str) -> Iterator[None]:
    """Let one process at a time go on, of all that share a storage, on whichever machine.

    A process that dies lets the next one go on. Of databases PostgreSQL can do this; with another
    one, two workers that ask at the same moment may begin one trial more than the budget.

    Args:
        url: Of the storage.
    """
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        with FileLock(f"{address.database}.lock"):
            yield
        return
    with create_engine(address, poolclass=NullPool).connect() as connection:
        if address.get_backend_name() == "postgresql":
            connection.execute(select(func.pg_advisory_lock(ADVISORY_LOCK)))
        yield


def _write_ahead(storage: RDBStorage) -> None:
    """Let a SQLite file append to a log, which takes a tenth of the time.

    It survives a killed process as surely; a power cut may cost the last few folds, never the file.
    """

    def prepare(connection: Any, record: Any) -> None:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")

    event.listen(storage.engine, "connect", prepare)
    storage.engine.dispose()  # connections from before


def open_study(
    storage: RDBStorage, name: str, config: SearchConfig, objectives: Sequence[str], steps: int
) -> Study:
    """Open a study, or make it.

    Args:
        storage: Where it is kept.
        name: Of the study.
        config: Its pruner.
        objectives: What its trials are ranked by.
        steps: How many trainings judge a trial.
    """
    return optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[direction_of(metric) for metric in objectives],
        load_if_exists=True,
        sampler=RandomSampler(seed=0),  # `worker` puts another in its place for each trial
        pruner=build_pruner(config, steps),
    )


def build_sampler(config: SearchConfig, seed: int) -> BaseSampler:
    """Build the sampler that a config names; of `grid` all trials are enqueued, none is drawn."""
    if config.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=config.startup, multivariate=True, group=True)
    if config.sampler == "gp":
        return GPSampler(
            seed=seed, n_startup_trials=config.startup, warn_independent_sampling=False
        )
    if config.sampler == "nsga2":
        return NSGAIISampler(seed=seed, population_size=config.startup)
    return RandomSampler(seed=seed)


def retry(study: Study, trial: FrozenTrial, *, died: bool = True) -> None:
    """Put a trial that was not finished back into the queue, with the folds that it has done.

    Args:
        study: Of the sweep.
        trial: What was cut short.
        died: Whether its worker died, which it may be the reason of: after a few times it is left.
    """
    history = [*trial.system_attrs.get("retry_history", []), trial.number]
    kept = {key: value for key, value in trial.user_attrs.items() if key != WORKER}
    if died:
        kept[DEATHS] = kept.get(DEATHS, 0) + 1
        if kept[DEATHS] > MOST_RETRIES:
            return
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=kept,
            system_attrs=trial.system_attrs
            | {"failed_trial": history[0], "retry_history": history},
        )
    )


def give_back(study: Study, number: int, *, died: bool = False) -> None:
    """Fail a trial that is not finished, and retry it; nothing happens if another did so before."""
    try:
        trial = study.tell(number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return
    retry(study, trial, died=died)


def fail_unheard_of(study: Study, heartbeat: int) -> None:
    """Give back trials whose worker died before its first sign of life.

    Optuna fails those that fell silent, and leaves those alone that never said anything.
    """
    limit = datetime.now() - timedelta(seconds=BEATS * heartbeat)
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        started = trial.datetime_start
        if WORKER not in trial.user_attrs and started is not None and started < limit:
            give_back(study, trial.number, died=True)


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Leave out the trials that were cut short and stand in the queue again under a new number."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [trial for trial in trials if trial.number not in again]


def begun(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Leave out the trials that wait."""
    return [trial for trial in trials if trial.state != TrialState.WAITING]


def this_worker() -> str:
    """Return a name for this process that no other has while it lives."""
    return f"{socket.gethostname()}:{os.getpid()}"


def hours_spent(trials: Sequence[FrozenTrial]) -> float:
    """Return for how long a study was at work: hours in which at least one trial ran.

    Args:
        trials: All of the study, also those that were cut short.
    """
    spans = sorted(
        (trial.datetime_start, _end(trial)) for trial in trials if trial.datetime_start is not None
    )
    total = timedelta()
    end: datetime | None = None
    for start, stop in spans:
        begin = start if end is None else max(start, end)
        if stop > begin:
            total += stop - begin
        end = stop if end is None else max(end, stop)
    return total.total_seconds() / 3600


def _end(trial: FrozenTrial) -> datetime:
    """Return until when a trial was worked at, which of one that was cut short nobody noted.

    It is taken for the end of its last fold, lest a night between two runs be counted.
    """
    ended_well = trial.state in FINISHED or ERROR in trial.user_attrs
    if ended_well and trial.datetime_complete is not None:
        return trial.datetime_complete
    if trial.state == TrialState.RUNNING and _is_alive(trial.user_attrs.get(WORKER, "")):
        return datetime.now()
    assert trial.datetime_start is not None
    folds = fold_results(trial.user_attrs).values()
    done = [datetime.fromisoformat(fold[DONE]) for fold in folds if DONE in fold]
    return max([trial.datetime_start, *done])


def _is_alive(worker: str) -> bool:
    """Whether a worker runs on this machine."""
    host, _, number = worker.rpartition(":")
    # Not os.kill(number, 0), which on Windows sends Ctrl-C.
    return host == socket.gethostname() and psutil.pid_exists(int(number))


def enqueue(
    study: Study, assignments: Sequence[dict[str, Any]], origin: Callable[[int], str]
) -> None:
    """Put parameters at the end of the queue, but for those that were there before.

    Args:
        study: Of the sweep.
        assignments: As Optuna stores them.
        origin: Says where the one at a position comes from, for the report.
    """
    for position, stored in enumerate(assignments):
        study.enqueue_trial(stored, user_attrs={ORIGIN: origin(position)}, skip_if_exists=True)
