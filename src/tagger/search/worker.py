"""A process that takes trials from a study until there is nothing left to do."""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from tagger.config.schema import OptimizeConfig, SearchConfig
from tagger.errors import BAD_INPUT, UserError
from tagger.search.confirm import plan_confirmation
from tagger.search.folds import Folds, prepare_process
from tagger.search.liveness import forget, named_worker
from tagger.search.racing import fold_results
from tagger.search.space import SearchSpace
from tagger.search.study import (
    DEFAULT,
    ERROR,
    FINISHED,
    ORIGIN,
    WORKER,
    begun,
    build_sampler,
    counted,
    exclusive,
    give_back,
    give_back_lost,
    hours_spent,
    open_storage,
    open_study,
    quiet_optuna,
    storage_trouble,
)
from tagger.search.trials import run_trial
from tagger.training.loop import TrainingStopped

POLL_SECONDS = 1.0
SEEDS = 100_003
ORPHAN_SECONDS = 5.0
"""How long a worker whose parent died may take to come to the next step of its training."""


@dataclass(frozen=True)
class Post:
    """What a worker needs to know.

    Attributes:
        config: Of the sweep.
        folder: Of the sweep.
        url: Of the storage. It is in no file of the sweep, for it may hold a password.
        study: The name of the study.
        confirming: Whether the study confirms a winner, rather than looking for one.
    """

    config: OptimizeConfig
    folder: Path
    url: str
    study: str
    confirming: bool

    @property
    def trials_folder(self) -> Path:
        """Where the folders of trials are."""
        return self.folder / ("confirmation" if self.confirming else "trials")


def work(post: Post, trouble: Connection) -> None:
    """Take trials until none is left; the target of a process.

    SIGTERM ends it at the next step of training, with its trial back in the queue. If the process
    that started it dies, it ends in the same way.

    Args:
        post: What to work at.
        trouble: Is sent the `UserError` that ends this process, if one does.
    """
    # Ctrl-C goes to the process that started this one, which then says what to do.
    if hasattr(os, "setsid"):
        os.setsid()
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    # Its own lock for bars would be known to a process of Python's that is killed with the parent,
    # and would be reported as unknown to the next one.
    tqdm.set_lock(threading.RLock())
    quiet_optuna()
    try:
        with storage_trouble(post.url), named_worker() as name:
            _take_all(post, name, stop)
    except UserError as error:
        trouble.send(error)
        sys.exit(BAD_INPUT)


def _take_all(post: Post, name: str, stop: threading.Event) -> None:
    held: list[Callable[[], None]] = []
    threading.Thread(target=_follow_parent, args=(name, held), daemon=True).start()
    accelerator = prepare_process(post.config)
    folds = Folds(post.config, post.confirming)
    space = SearchSpace.parse(post.config.search.space, post.config.base)
    storage = open_storage(post.url, post.config.search.heartbeat)
    objectives = post.config.search.objectives[: 1 if post.confirming else None]
    study = open_study(storage, post.study, post.config.search, objectives, folds.steps)

    while not stop.is_set():
        trial = take(study, storage, space, post, name)
        if trial is None:
            # A trial that runs may come back into the queue.
            if not study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                return
            stop.wait(POLL_SECONDS)
            continue
        held[:] = [partial(give_back, study, storage, trial)]
        try:
            with _signs_of_life(storage, trial):
                if post.confirming:
                    config, steps = plan_confirmation(trial, space, folds)
                else:
                    config = space.apply(space.decode(trial.params))  # drawn when it was taken
                    steps = range(folds.steps)
                values = run_trial(
                    trial,
                    config,
                    folds,
                    steps,
                    accelerator=accelerator,
                    folder=post.trials_folder / f"{trial.number:04}",
                    prune=_may_be_stopped(trial, post),
                    stopped=stop.is_set,
                )
            told = [values[metric] for metric in objectives]
            study.tell(trial, told, skip_if_finished=True)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        except TrainingStopped:
            give_back(study, storage, trial)
            return
        except UpdateFinishedTrialError:
            continue  # this process was silent for too long, and another has the trial by now
        except (StorageInternalError, SQLAlchemyError):
            raise  # not the trial's fault
        except Exception as error:  # the other trials go on
            known = isinstance(error, UserError | ArithmeticError)
            _fail(study, trial, str(error) if known else traceback.format_exc())


@contextmanager
def _signs_of_life(storage: RDBStorage, trial: Trial) -> Iterator[None]:
    """Tell the storage every so often that a trial is worked at.

    Optuna's own thread dies with a traceback when the storage fails.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(storage.heartbeat_interval):
            # The next thing that this process asks of the storage says what is wrong.
            with suppress(StorageInternalError, SQLAlchemyError):
                storage.record_heartbeat(trial._trial_id)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def take(
    study: Study, storage: RDBStorage, space: SearchSpace, post: Post, name: str
) -> Trial | None:
    """Take the next trial: one that waits, or a new one; None when there is none for now.

    Workers do so one after another: each then knows what the others are trying, and together they
    don't exceed the budget.

    Args:
        study: Of the sweep.
        storage: Of the study.
        space: What is drawn from.
        post: What to work at.
        name: Of this worker, from `named_worker`.
    """
    search = post.config.search
    with exclusive(post.url):
        give_back_lost(study, storage)
        everything = study.get_trials(deepcopy=False)
        if not may_begin(everything, search, post.confirming):
            return None
        trials = counted(everything)
        # A seed for each trial: a sweep that was stopped draws what it would have drawn.
        study.sampler = build_sampler(search, post.config.seed * SEEDS + len(begun(trials)))
        trial = study.ask()
        storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr(WORKER, name)
        if not post.confirming:
            space.suggest(trial)
            _share(trial, trials)
        return trial


def _share(trial: Trial, trials: Sequence[FrozenTrial]) -> None:
    """Give a trial the folds of an earlier one of the same config, which would come out alike."""
    for twin in trials:
        if twin.state in FINISHED and twin.params == trial.params:
            for key, fold in fold_results(twin.user_attrs).items():
                if key not in trial.user_attrs:
                    trial.set_user_attr(key, fold)
            return


def may_begin(trials: Sequence[FrozenTrial], search: SearchConfig, confirming: bool) -> bool:
    """Whether the budget allows for another trial; `trials` are all that there are."""
    mine = counted(trials)
    count = len(begun(mine))
    waits = count < len(mine)
    if confirming:
        return waits
    if search.trials is not None and count >= search.trials:
        return False
    return not hours_are_over(trials, search) and (waits or search.sampler != "grid")


def hours_are_over(trials: Sequence[FrozenTrial], search: SearchConfig) -> bool:
    """Whether a search has taken the hours that it may; `trials` are all that there are."""
    return search.hours is not None and hours_spent(trials) >= search.hours


def _may_be_stopped(trial: Trial, post: Post) -> bool:
    """Whether a trial that is worse may be given up: not what everything is compared with."""
    if post.confirming or len(post.config.search.objectives) > 1:
        return False
    return bool(trial.user_attrs.get(ORIGIN) != DEFAULT)


def _fail(study: Study, trial: Trial, reason: str) -> None:
    try:
        trial.set_user_attr(ERROR, reason)
    except UpdateFinishedTrialError:  # it was too long silent, and has been given to another
        return
    study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def _follow_parent(name: str, held: Sequence[Callable[[], None]]) -> None:
    """End this process soon after the one that started it: the next one may wait for its trial.

    Args:
        name: Of this worker.
        held: Called then, to put the trial in hand back, if training has not stopped by itself.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(ORPHAN_SECONDS)
    try:
        for put_back in held:
            put_back()
        forget(name)
    finally:
        os._exit(BAD_INPUT)
