"""The Optuna study of a sweep: its storage, the retry of trials that were cut short, its hours."""

import json
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from copy import deepcopy
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import (
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tagger.config.schema import SearchConfig
from tagger.errors import UserError
from tagger.search.fold_results import stored_folds
from tagger.search.liveness import forget, lives
from tagger.search.metrics import direction_of
from tagger.search.racing import build_pruner

FILE = "study.db"
ADVISORY_LOCK = 0x7A66E4
"""What processes of this project ask PostgreSQL for, to go one after another."""

BEATS = 4
"""Signs of life that a worker may miss before its trial is given to another."""

PATIENCE = 30
"""Seconds that a process waits for a file that another one writes to, or for a server."""

TABLES = {"studies", "trials", "version_info"}
"""Some of those that Optuna keeps studies in."""

NOT_FOUND = "Record does not exist."
"""What Optuna says of a study or a trial that is gone."""

MOST_RETRIES = 3
DEATHS = "deaths"
"""How many workers a trial has outlived."""

STOPPED = "stopped"
"""Set in a trial that was cut short on request, and is no death of its worker."""

WORKER = "worker"
ERROR = "error"
ORIGIN = "origin"
DEFAULT = "default"
MADE_FROM = "made_from"

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def quiet_optuna() -> None:
    """Keep Optuna from writing a line a trial, and from warning of what this project tests."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    # Trials are drawn outside of its loop by none but tests.
    warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with")


def storage_url(config: SearchConfig, folder: Path) -> str:
    """Return the address of a sweep's storage: the database, or a file in its folder.

    Raises:
        UserError: for an address that is none of PostgreSQL or of a file of SQLite.
    """
    if config.storage is None:
        # Quoted, for `?` and `%` mean something in an address, and `{` to Optuna.
        return f"sqlite:///{quote(str((folder / FILE).resolve()))}"
    with suppress(ArgumentError, ValueError):
        url = make_url(config.storage)
        backend = url.get_backend_name()
        if backend == "postgresql":
            url = url.set(drivername="postgresql+psycopg")  # the driver that the project installs
        # In memory, no other process would find it.
        if backend == "postgresql" or (backend == "sqlite" and url.database):
            return url.render_as_string(hide_password=False)
    raise UserError(
        f"search.storage: {config.storage!r} is no address of a database that sweeps can share",
        hint="It looks like postgresql://USER:PASSWORD@HOST/DATABASE, or sqlite:///FILE.",
    )


def without_password(url: str) -> str:
    """Return an address of a storage as files and messages may show it."""
    return make_url(url).render_as_string(hide_password=True)


class Storage(RDBStorage):
    """A database of Optuna's whose signs of life fail silently.

    Optuna gives them in a thread, which would die with a traceback. The next thing that the worker
    asks of the storage says what is wrong.
    """

    def record_heartbeat(self, trial_id: int) -> None:
        """Note that a trial is worked at."""
        with suppress(StorageInternalError, SQLAlchemyError):
            super().record_heartbeat(trial_id)


def open_storage(url: str, heartbeat: int) -> Storage:
    """Open a storage, and make its tables where there are none.

    Args:
        url: From `storage_url`.
        heartbeat: Seconds between signs of life of a trial.

    Raises:
        UserError: when it cannot be reached, is damaged, or holds something else.
    """
    path = database_file(url)
    # A server may have closed what was idle.
    settings = {"connect_args": _connect_args(path), "pool_pre_ping": path is None}
    try:
        with storage_trouble(url), exclusive(url):  # or two would make its tables at once
            if path is not None and path.exists():
                _check_file(path)
            storage = Storage(
                url,
                engine_kwargs=settings,
                heartbeat_interval=heartbeat,
                grace_period=BEATS * heartbeat,
            )
            if path is not None:
                _write_ahead(storage)
        return storage
    # Of another version of Optuna, or tables of the same name that somebody else made.
    except (RuntimeError, AssertionError, OSError) as error:
        raise _unusable(url, error) from None


def _connect_args(path: Path | None) -> dict[str, int]:
    """Return for how many seconds a writer waits for another's turn, or anybody for a server."""
    return {"connect_timeout" if path is None else "timeout": PATIENCE}


@contextmanager
def storage_trouble(url: str) -> Iterator[None]:
    """Turn what a storage answers when it is damaged, gone or refuses into one message.

    Raises:
        UserError: with the reason.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error, json.JSONDecodeError) as error:
        raise _unusable(url, error) from None
    except LookupError as error:  # `KeyError` of Optuna, or a state that there is none
        if type(error) is not LookupError and NOT_FOUND not in error.args:
            raise
        raise _unusable(url, error) from None


def _unusable(url: str, error: BaseException) -> UserError:
    """Say why a storage cannot be used, and what to do about it."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    reason = lines[0] if lines else type(cause).__name__
    path = database_file(url)
    if "optuna version" in reason:
        hint = "requirements.txt says which version this project uses."
    elif path is None:
        hint = "Check the address, the server and the rights of its user; the same command goes on."
    elif "locked" in reason:
        hint = "Close the program that has it open; the same command then goes on."
    elif isinstance(error, OSError) or any(word in reason for word in ("readonly", "unable to")):
        hint = "The file, and the folder that it lies in, have to be there and to be writable."
    else:
        hint = "Put a copy of it back, or remove it to start the sweep over."
    return UserError(f"search.storage={without_password(url)} cannot be used: {reason}", hint=hint)


def database_file(url: str) -> Path | None:
    """Return the file that a storage is in; None for a server."""
    address = make_url(url)
    is_file = address.get_backend_name() == "sqlite" and address.database
    return Path(is_file) if is_file else None


def _check_file(path: Path) -> None:
    """Read a SQLite file once: it may be damaged where nobody would look for hours."""
    with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
        found = connection.execute("pragma quick_check(1)").fetchone()[0]
        tables = {name for (name,) in connection.execute("select tbl_name from sqlite_master")}
    if found != "ok":
        raise RuntimeError(f"it is damaged: {' '.join(found.split())}")
    if tables and tables.isdisjoint(TABLES):
        raise RuntimeError("it holds the tables of another program")


@contextmanager
def exclusive(url: str) -> Iterator[None]:
    """Let one process at a time go on, of all that share a storage, on whichever machine.

    A process that dies lets the next one go on.
    """
    path = database_file(url)
    if path is not None:
        with FileLock(f"{path}.lock"):
            yield
        return
    engine = create_engine(url, poolclass=NullPool, connect_args=_connect_args(path))
    with engine.connect() as connection:
        connection.execute(select(func.pg_advisory_lock(ADVISORY_LOCK)))
        yield


def _write_ahead(storage: RDBStorage) -> None:
    """Let a SQLite file append to a log, which takes a tenth of the time.

    It survives a killed process as surely; a power cut may cost the last few folds, never the file.
    """

    def prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")

    event.listen(storage.engine, "connect", prepare)
    storage.engine.dispose()  # connections from before


def open_study(
    storage: RDBStorage, name: str, config: SearchConfig, objectives: Sequence[str], steps: int
) -> Study:
    """Open a study, or make it; `steps` trainings judge each of its trials."""
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


def put_back(study: Study) -> None:
    """Fail the trials whose worker has ended, and put back into the queue what was cut short.

    A worker of this machine is known to have ended at once, by its lock; another one by Optuna's
    heartbeat. Optuna's callback retries a trial in a transaction after that which fails it, so a
    process may die between the two, or leave out the second: whoever has the next turn makes up
    for it, and nobody takes a trial that failed without a reason for a failure until then.

    Whoever calls this has the turn of `exclusive`, and so has everyone who takes a trial: a trial
    that runs without a worker's name is that of one who died while taking it.
    """
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        worker = trial.user_attrs.get(WORKER)
        if worker is not None and lives(worker) is not False:
            continue
        if worker is not None:
            forget(worker)
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    for trial in counted(trials):
        if is_cut_short(trial):
            again = deepcopy(trial)
            died = again.user_attrs.pop(STOPPED, None) is None
            again.user_attrs.pop(WORKER, None)
            if died:
                again.user_attrs[DEATHS] = again.user_attrs.get(DEATHS, 0) + 1
            RetryHeartbeatStaleTrialCallback()(study, again)


def is_cut_short(trial: FrozenTrial) -> bool:
    """Whether a trial failed for no reason of its own, and waits to be put into the queue again.

    One whose workers have died too often is given up: it may be the reason.
    """
    attributes = trial.user_attrs
    if trial.state != TrialState.FAIL or ERROR in attributes:
        return False
    return STOPPED in attributes or attributes.get(DEATHS, 0) < MOST_RETRIES


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Leave out the trials that were cut short and stand in the queue again under a new number."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [trial for trial in trials if trial.number not in again]


def begun(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Leave out the trials that wait, or are about to wait again."""
    there = counted(trials)
    return [one for one in there if one.state != TrialState.WAITING and not is_cut_short(one)]


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
    if trial.state == TrialState.RUNNING and lives(trial.user_attrs.get(WORKER, "")):
        return datetime.now()
    assert trial.datetime_start is not None
    folds = stored_folds(trial.user_attrs).values()
    done = [datetime.fromisoformat(fold["done"]) for fold in folds]
    return max([trial.datetime_start, *done])
