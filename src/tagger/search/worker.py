"""One worker process of a sweep: takes trials from the study until there is nothing left to do."""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from tagger.config.schema import OptimizeConfig, SearchConfig
from tagger.errors import BAD_INPUT, UserError
from tagger.search.confirm import plan_confirmation
from tagger.search.fold_results import stored_folds
from tagger.search.folds import Folds, prepare_process
from tagger.search.liveness import forget, named_worker
from tagger.search.space import SearchSpace
from tagger.search.study import (
    DEFAULT,
    ERROR,
    FINISHED,
    ORIGIN,
    STOPPED,
    WORKER,
    begun,
    build_sampler,
    counted,
    exclusive,
    hours_spent,
    open_storage,
    open_study,
    put_back,
    quiet_optuna,
    storage_trouble,
)
from tagger.search.trials import run_trial
from tagger.training.loop import TrainingStopped

POLL_SECONDS = 1.0
SEEDS = 100_003
ORPHAN_SECONDS = 5.0
"""How long a worker whose parent died may take to come to the next step of its training."""


class TrialFailedError(Exception):
    """A trial whose config can't be judged, for a reason that it keeps; the others go on."""


@dataclass(frozen=True)
class WorkerSpec:
    """Config, folder, storage and study of one worker process.

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


def work(spec: WorkerSpec, trouble: Connection) -> None:
    """Run trials until none is left; the target of a process.

    SIGTERM ends it at the next step of training, with its trial back in the queue. If the process
    that started it dies, it ends in the same way.

    Args:
        spec: What to work at.
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
        with storage_trouble(spec.url), named_worker() as name:
            _run_trials(spec, name, stop)
    except UserError as error:
        trouble.send(error)
        sys.exit(BAD_INPUT)


def _run_trials(spec: WorkerSpec, name: str, stop: threading.Event) -> None:
    in_hand: list[tuple[Study, Trial]] = []
    threading.Thread(target=_follow_parent, args=(name, in_hand), daemon=True).start()
    accelerator = prepare_process(spec.config)
    folds = Folds(spec.config, spec.confirming)
    space = SearchSpace.parse(spec.config.search.space, spec.config.base)
    storage = open_storage(spec.url, spec.config.search.heartbeat)
    objectives = spec.config.search.objectives[: 1 if spec.confirming else None]
    study = open_study(storage, spec.study, spec.config.search, objectives, folds.steps)
    trials_folder = spec.folder / ("confirmation" if spec.confirming else "trials")
    may_prune = not spec.confirming and len(objectives) == 1

    def judge(trial: Trial) -> list[float]:
        in_hand[:] = [(study, trial)]
        try:
            if spec.confirming:
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
                folder=trials_folder / f"{trial.number:04}",
                # What everything is compared with is trained on all folds.
                prune=may_prune and trial.user_attrs.get(ORIGIN) != DEFAULT,
                stopped=stop.is_set,
            )
            return [values[metric] for metric in objectives]
        except (
            optuna.TrialPruned, UpdateFinishedTrialError, StorageInternalError, SQLAlchemyError
        ):  # fmt: skip
            raise  # not the trial's fault
        except TrainingStopped:
            trial.set_user_attr(STOPPED, True)
            raise
        except Exception as error:
            known = isinstance(error, UserError | ArithmeticError)
            trial.set_user_attr(ERROR, str(error) if known else traceback.format_exc())
            raise TrialFailedError from error

    while not stop.is_set():
        try:
            ran = run_next(study, space, spec, worker=name, judge=judge)
        except TrainingStopped:
            with exclusive(spec.url):
                put_back(study)
            return
        if not ran:
            # A trial that runs may come back into the queue.
            if not study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                return
            stop.wait(POLL_SECONDS)


def run_next(
    study: Study,
    space: SearchSpace,
    spec: WorkerSpec,
    *,
    worker: str,
    judge: Callable[[Trial], list[float]],
) -> bool:
    """Run the next trial: one that waits, or a new one; return False when there is none for now.

    Workers take trials one after another: each then knows what the others are trying, and together
    they don't exceed the budget. `Study.optimize` does the rest: it asks for the trial, gives signs
    of life while it is judged, and tells how it ended.

    Args:
        study: Of the sweep.
        space: What is drawn from.
        spec: What to work at.
        worker: The name of this process, from `named_worker`.
        judge: Gives the value of each objective for a trial that was drawn.
    """
    search = spec.config.search
    with ExitStack() as turn:
        turn.enter_context(exclusive(spec.url))
        put_back(study)
        everything = study.get_trials(deepcopy=False)
        if not may_begin(everything, search, spec.confirming):
            return False
        trials = counted(everything)

        def objective(trial: Trial) -> list[float]:
            trial.set_user_attr(WORKER, worker)
            if not spec.confirming:
                space.suggest(trial)
                _share(trial, trials)
            turn.close()
            values = judge(trial)
            trial.set_user_attr(WORKER, worker)  # refused if it was given to another meanwhile
            return values

        # A seed for each trial: a sweep that was stopped draws what it would have drawn.
        study.sampler = build_sampler(search, spec.config.seed * SEEDS + len(begun(trials)))
        try:
            study.optimize(objective, n_trials=1, catch=(TrialFailedError,))
        except ValueError as error:
            if "Cannot tell" not in str(error):
                raise
            # This process was silent for too long, and another has the trial by now.
    return True


def _share(trial: Trial, trials: Sequence[FrozenTrial]) -> None:
    """Give a trial the folds of an earlier one of the same config, which would come out alike."""
    for twin in trials:
        if twin.state in FINISHED and twin.params == trial.params:
            for key, fold in stored_folds(twin.user_attrs).items():
                if key not in trial.user_attrs:
                    trial.set_user_attr(key, fold)
            return


def may_begin(trials: Sequence[FrozenTrial], search: SearchConfig, confirming: bool) -> bool:
    """Whether the budget allows for another trial; `trials` are all that there are."""
    count = len(begun(trials))
    waits = count < len(counted(trials))
    if confirming:
        return waits
    if search.trials is not None and count >= search.trials:
        return False
    return not hours_are_over(trials, search) and (waits or search.sampler != "grid")


def hours_are_over(trials: Sequence[FrozenTrial], search: SearchConfig) -> bool:
    """Whether a search has taken the hours that it may; `trials` are all that there are."""
    return search.hours is not None and hours_spent(trials) >= search.hours


def _follow_parent(name: str, in_hand: Sequence[tuple[Study, Trial]]) -> None:
    """End this process soon after the one that started it: the next one may wait for its trial."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(ORPHAN_SECONDS)
    try:
        for study, trial in in_hand:  # training has not stopped by itself
            trial.set_user_attr(STOPPED, True)
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        forget(name)
    finally:
        os._exit(BAD_INPUT)
