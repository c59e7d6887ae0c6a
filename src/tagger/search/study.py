"""The Optuna study of a sweep: where it is stored, who is alive, what was spent."""

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
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
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import (
    NOT_FOUND_MSG,
    BaseModel,
    StudyModel,
    TrialModel,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tagger.config.schema import SearchConfig
from tagger.errors import UserError
from tagger.search.liveness import forget, lives
from tagger.search.metrics import direction_of
from tagger.search.racing import build_pruner, fold_results

FILE = "study.db"
ADVISORY_LOCK = 0x7A66E4
"""What processes of this project ask PostgreSQL for, to go one after another."""

BEATS = 4
"""Signs of life that a worker may miss before its trial is given to another."""

PATIENCE = 30
"""Seconds that a process waits for a file that another one writes to, or for a server."""

EXCLUSIVE = ("sqlite", "postgresql")
"""Databases whose users `exclusive` lets go on one at a time."""

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
        UserError: when it cannot be reached, is damaged, or holds something else.
    """
    path = database_file(url)
    # A server may have closed what was idle.
    settings = {"connect_args": _connect_args(url), "pool_pre_ping": path is None}
    try:
        with storage_trouble(url), exclusive(url):  # or two would make its tables at once
            if path is not None and path.exists():
                _check_file(path)
            storage = RDBStorage(
                url,
                engine_kwargs=settings,
                heartbeat_interval=heartbeat,
                grace_period=BEATS * heartbeat,
            )
            if path is not None:
                _write_ahead(storage)
        return storage
    except ImportError as error:
        raise UserError(
            f"search.storage={without_password(url)}: its driver is not installed: "
            f"{error.name or error}",
            hint="Install it, or use PostgreSQL: its driver came with requirements.txt.",
        ) from None
    # Of another version of Optuna, or tables of the same name that somebody else made.
    except (RuntimeError, AssertionError, OSError) as error:
        raise _unusable(url, error) from None


def _connect_args(url: str) -> dict[str, Any]:
    """Return for how many seconds a writer waits for another's turn, or anybody for a server."""
    backend = make_url(url).get_backend_name()
    return {"sqlite": {"timeout": PATIENCE}, "postgresql": {"connect_timeout": PATIENCE}}.get(
        backend, {}
    )


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
        if type(error) is not LookupError and NOT_FOUND_MSG not in error.args:
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
    local = address.get_backend_name() == "sqlite" and address.database
    return Path(address.database) if local and address.database else None


def database_files(url: str) -> list[Path]:
    """Return the files that a storage consists of: none for a server."""
    path = database_file(url)
    return [] if path is None else [Path(f"{path}{end}") for end in ("", "-wal", "-shm", ".lock")]


def _check_file(path: Path) -> None:
    """Read a SQLite file once: it may be damaged where nobody would look for hours."""
    with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
        found = connection.execute("pragma quick_check(1)").fetchone()[0]
        tables = {name for (name,) in connection.execute("select tbl_name from sqlite_master")}
    if found != "ok":
        raise RuntimeError(f"it is damaged: {' '.join(found.split())}")
    if tables and tables.isdisjoint(BaseModel.metadata.tables):
        raise RuntimeError("it holds the tables of another program")


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
    engine = create_engine(address, poolclass=NullPool, connect_args=_connect_args(url))
    with engine.connect() as connection:
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


def give_back(
    study: Study, storage: RDBStorage, trial: FrozenTrial | Trial, *, died: bool = False
) -> None:
    """Fail a trial that runs and put it back into the queue, with the folds that it has done.

    Both or neither is done, so nobody sees a failure that is none. Nothing happens if the trial
    does not run, because another process did so before.

    Args:
        study: Of the sweep.
        storage: Of the study.
        trial: What was cut short.
        died: Whether its worker died, which it may be the reason of: after a few times it is left.
    """
    with Session(storage.engine) as session, session.begin():
        # The order of locks is Optuna's, which numbers the trials of a study that it has locked.
        StudyModel.find_or_raise_by_id(study._study_id, session, for_update=True)
        mine = (TrialModel.trial_id == trial._trial_id, TrialModel.state == TrialState.RUNNING)
        if not session.query(TrialModel).where(*mine).update({"state": TrialState.FAIL}):
            return
        row = TrialModel.find_or_raise_by_id(trial._trial_id, session)
        row.datetime_complete = datetime.now()
        again = _retry_of(storage._build_frozen_trial_from_trial_model(row), died)
        if again is not None:
            storage._get_prepared_new_trial(study._study_id, again, session)


def _retry_of(trial: FrozenTrial, died: bool) -> FrozenTrial | None:
    """Return what goes on with a trial that was cut short; None after too many deaths."""
    history = [*trial.system_attrs.get("retry_history", []), trial.number]
    kept = {key: value for key, value in trial.user_attrs.items() if key not in (WORKER, ERROR)}
    if died:
        kept[DEATHS] = kept.get(DEATHS, 0) + 1
        if kept[DEATHS] > MOST_RETRIES:
            return None
    return optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=kept,
        system_attrs=trial.system_attrs | {"failed_trial": history[0], "retry_history": history},
    )


def give_back_lost(study: Study, storage: RDBStorage) -> None:
    """Give back the trials whose worker has ended, as far as that is known.

    A worker of this machine is known to have ended at once, another one by its silence. Whoever
    calls this has the turn of `exclusive`, and so has everyone who takes a trial: a trial that
    runs without a worker's name is that of one who died while taking it.
    """
    silent = set(storage._get_stale_trial_ids(study._study_id))
    sure = storage.engine.name in EXCLUSIVE
    limit = datetime.now() - timedelta(seconds=storage.grace_period or 0)
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        worker = trial.user_attrs.get(WORKER)
        if worker is None:
            assert trial.datetime_start is not None
            lost = sure or trial.datetime_start < limit
        else:
            lost = trial._trial_id in silent or lives(worker) is False
        if lost:
            give_back(study, storage, trial, died=True)
            if worker is not None:
                forget(worker)


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Leave out the trials that were cut short and stand in the queue again under a new number."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [trial for trial in trials if trial.number not in again]


def begun(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Leave out the trials that wait."""
    return [trial for trial in trials if trial.state != TrialState.WAITING]


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
    folds = fold_results(trial.user_attrs).values()
    done = [datetime.fromisoformat(fold[DONE]) for fold in folds if DONE in fold]
    return max([trial.datetime_start, *done])


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
