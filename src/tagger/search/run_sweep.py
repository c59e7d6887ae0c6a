"""Runs a sweep: starts workers, shows progress, confirms the winner, and writes the results."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tagger.config.composition import compose_config, load_config
from tagger.config.overrides import differences, flatten, is_within
from tagger.config.paths import with_portable_paths
from tagger.config.saved import load_saved_config, save_config
from tagger.config.schema import OptimizeConfig, SearchConfig, TrainConfig
from tagger.data.sources import data_sha256
from tagger.errors import UserError
from tagger.progress import progress_bar
from tagger.runs import find_run
from tagger.search.confirm import (
    conclude,
    enqueue_confirmation,
    find_default,
)
from tagger.search.fold_results import mean_score, stored_folds
from tagger.search.folds import Folds
from tagger.search.metrics import direction_of
from tagger.search.racing import find_winner, rank
from tagger.search.results import SweepResults, write_results
from tagger.search.space import Assignment, SearchSpace
from tagger.search.study import (
    DEFAULT,
    ERROR,
    MADE_FROM,
    ORIGIN,
    begun,
    counted,
    database_file,
    exclusive,
    hours_spent,
    open_storage,
    open_study,
    quiet_optuna,
    storage_trouble,
    storage_url,
    without_password,
)
from tagger.search.summary import Confirmation
from tagger.search.worker import WorkerSpec, hours_are_over, may_begin, work

CHANGEABLE = (
    "sweeps_dir", "runs_dir", "name", "tracking", "search.trials", "search.hours",
    "search.workers", "search.storage", "search.heartbeat", "search.enqueue", "search.confirm",
    "search.keep_trials",
)  # fmt: skip
"""Keys that may be other ones when a sweep goes on: they say how it is run, not what it finds."""

FAILURES = 3
"""Trials that may fail in a row, or workers that may die without finishing one, before it ends."""

POLL_SECONDS = 0.5
STOP_SECONDS = 120.0


def run_sweep(config: OptimizeConfig, report: Callable[[SweepResults], None]) -> Path:
    """Search as the config says, and return the folder of the sweep.

    A sweep that is there already goes on: its finished trials count. After Ctrl-C what there is
    gets reported.

    Args:
        config: What to search, from where, for how long.
        report: Is given what has become of it.

    Raises:
        UserError: for spaces, data, storages or folders that can't be used, and when trials fail
            one after another.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the report is written.
    """
    quiet_optuna()
    space = SearchSpace.parse(config.search.space, config.base)
    name = config.name or f"{config.search.name}-{config.model.name}-{config.data.name}"
    folder = Path(config.sweeps_dir) / name
    folds = Folds(config, confirming=False)
    for step in range(folds.steps):
        folds.split(step)
    first = _first_trials(config, space)
    url = storage_url(config.search, folder)

    database = database_file(url)
    files = [Path(f"{database}{end}") for end in ("", "-wal", "-shm", ".lock") if database]
    absent = [path for path in [folder, *files] if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    study: Study | None = None
    begun_here = False
    try:
        with storage_trouble(url), ExitStack() as stack:
            storage = open_storage(url, config.search.heartbeat)
            stack.callback(storage.engine.dispose)
            study = open_study(storage, name, config.search, config.search.objectives, folds.steps)
            with exclusive(url):
                begun_here = _check_made_from(study, config, folds, folder)
                for origin, chosen in first:  # but for those that were there before
                    study.enqueue_trial(
                        space.encode(chosen), user_attrs={ORIGIN: origin}, skip_if_exists=True
                    )
            # Without the password that the address of a database may hold.
            shown = config.search.storage and without_password(config.search.storage)
            public = config.search.model_copy(update={"storage": shown})
            save_config(config.model_copy(update={"search": public}), folder / "config.yaml")
            spec = WorkerSpec(config, folder, url, name, confirming=False)
            _search(spec, study, storage, space, report)
    except (UserError, OSError):
        if study is None or (begun_here and _delete(study, storage, url)):
            for path in absent:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        elif folder in absent:
            with suppress(OSError):  # it is in use
                folder.rmdir()
        raise
    return folder


def _delete(study: Study, storage: RDBStorage, url: str) -> bool:
    """Delete a study without any result that nobody works at; return whether it was so."""
    with suppress(UserError), storage_trouble(url):
        trials = study.get_trials(deepcopy=False)
        if any(one.state == TrialState.RUNNING or stored_folds(one.user_attrs) for one in trials):
            return False
        optuna.delete_study(study_name=study.study_name, storage=storage)
        return True
    return False


def _search(
    spec: WorkerSpec,
    study: Study,
    storage: RDBStorage,
    space: SearchSpace,
    report: Callable[[SweepResults], None],
) -> None:
    """Let workers search, confirm what they found, and report what has come of it in any case."""
    confirmation: Confirmation | None = None
    try:
        with _sigterm_as_ctrl_c():
            _run_workers(spec, study, "search")
            confirmation = _confirm(spec, study, storage)
    finally:
        running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        if not spec.config.search.keep_trials and not running:
            for scratch in ("trials", "confirmation"):  # of workers that were killed
                shutil.rmtree(spec.folder / scratch, ignore_errors=True)
        if find_winner(study) is not None:
            write_results(spec.folder, spec.config, space, study, confirmation, report=report)


def _first_trials(config: OptimizeConfig, space: SearchSpace) -> list[tuple[str, Assignment]]:
    """Return what is tried before anything is drawn: where it comes from, and its choices.

    Raises:
        UserError: for what the space leaves out.
    """
    try:
        trials = [(DEFAULT, space.assignment_of(space.base))]
    except UserError as error:
        raise UserError(
            "the search space leaves out the config that the search starts from, so that nothing "
            "could be compared with it:",
            error.problems,
            "Widen the space, or start from elsewhere: give these keys on the command line.",
        ) from None
    for given in config.search.enqueue:
        recipe = _read_recipe(given, config)
        try:
            trials.append((given, space.assignment_of(recipe)))
        except UserError as error:
            raise UserError(
                f"search.enqueue: the search space leaves out {given}:", error.problems
            ) from None
        other = space.elsewhere(recipe)
        if other:
            raise UserError(
                f"search.enqueue: {given} differs from where the search starts in keys that the "
                "space does not hold, so it would not be what is tried:",
                other,
                "Add them to the space, give their values on the command line, or leave it out.",
            )
    if config.search.sampler == "grid":
        trials += [("grid", chosen) for chosen in space.grid(config.seed)]
    return trials


def _read_recipe(given: str, config: OptimizeConfig) -> TrainConfig:
    """Read the config of a run, or of an experiment's yaml file."""
    if given.endswith((".yaml", ".yml")):
        return load_config(TrainConfig, compose_config("train", [f"experiment={given}"]))
    path = find_run(given, config.runs_dir)
    return load_saved_config(TrainConfig, path / "config.yaml")


def _check_made_from(study: Study, config: OptimizeConfig, folds: Folds, folder: Path) -> bool:
    """Note in the study what it is made from, or refuse to go on with something else.

    Returns:
        Whether the study is a new one.
    """
    plain = flatten(with_portable_paths(config.model_dump(mode="json")))
    made_from = {key: value for key, value in plain.items() if not is_within(key, CHANGEABLE)} | {
        "the rows": data_sha256(folds.items)
    }
    before = study.user_attrs.get(MADE_FROM)
    if before is None:
        if study.get_trials(deepcopy=False):
            raise UserError(
                f"the database holds a study {study.study_name!r} that no sweep of this project "
                "has made",
                hint="Choose another name=, or another search.storage=.",
            )
        study.set_user_attr(MADE_FROM, made_from)
        return True
    changed = differences(before, made_from)
    if changed:
        raise UserError(
            f"{folder} was begun with other settings, so it can't go on with these:",
            changed,
            "Choose another name=, or remove that folder to start over.",
        )
    return False


def _confirm(spec: WorkerSpec, study: Study, storage: RDBStorage) -> Confirmation | None:
    """Train the winner and the default on fresh seeds; None where there is nothing to confirm."""
    config = spec.config
    winner, default = find_winner(study), find_default(study)
    if winner is None or default is None or winner.params == default.params:
        return None
    if not config.search.confirm:
        return None
    folds = Folds(config, confirming=True)
    name = f"{study.study_name}/confirm-{winner.number}"  # each winner has a study of its own
    confirming = open_study(storage, name, config.search, config.search.objectives[:1], folds.steps)
    with exclusive(spec.url):
        enqueue_confirmation(confirming, winner, default, config.search.confirm)
    _run_workers(replace(spec, study=name, confirming=True), confirming, "confirm")
    return conclude(confirming, winner, default, folds)


def _run_workers(spec: WorkerSpec, study: Study, description: str) -> None:
    """Let workers take trials until the budget is used up, and show how far they are.

    A worker that dies is replaced. On Ctrl-C they are asked to put their trials back.
    """
    search = spec.config.search
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = []
    told, trouble = context.Pipe(duplex=False)
    deaths = finished_before = 0
    path = database_file(spec.url)
    inode = None if path is None else path.stat().st_ino

    def trials() -> list[FrozenTrial]:
        return study.get_trials(deepcopy=False)

    def wanted(now: Sequence[FrozenTrial]) -> bool:
        running = any(trial.state == TrialState.RUNNING for trial in now)
        return running or may_begin(now, search, spec.confirming)

    total = len(counted(trials())) if spec.confirming or search.trials is None else search.trials
    with progress_bar(total, description, "trial", _done(trials())) as bar:
        try:
            while wanted(now := trials()):
                _show(bar, now, search, spec.confirming)
                _check_failures(now)
                if path is not None and (not path.exists() or path.stat().st_ino != inode):
                    raise UserError(
                        f"{path}, the database of the sweep, has been removed while it went on",
                        hint="Put it back, or run the same command again to start over.",
                    )
                if told.poll():
                    raise told.recv()
                if not spec.confirming and hours_are_over(now, search):
                    break
                for worker in [one for one in workers if not one.is_alive()]:
                    workers.remove(worker)
                    if worker.exitcode:
                        done = _done(now)
                        deaths = deaths + 1 if done == finished_before else 1
                        finished_before = done
                        if deaths > FAILURES * search.workers:
                            raise UserError(
                                f"{deaths} workers died one after another, the last with exit code "
                                f"{worker.exitcode}",
                                hint="A negative code is a signal: -9 mostly means that memory "
                                "ran out; fewer search.workers need less.",
                            )
                while len(workers) < search.workers:
                    # A daemon is asked to end, and not waited for, if this process is interrupted.
                    started = context.Process(target=work, args=(spec, trouble), daemon=True)
                    with _as_workers_start():
                        started.start()
                    workers.append(started)
                time.sleep(POLL_SECONDS)
            _show(bar, now, search, spec.confirming)
        finally:
            _stop(workers)
    _check_failures(trials())


def _stop(workers: Sequence[BaseProcess]) -> None:
    """Ask workers to put their trials back into the queue; after a while, or Ctrl-C, kill them."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    try:
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.kill()


def _done(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state.is_finished() for trial in begun(trials))


def _show(bar: Any, trials: Sequence[FrozenTrial], search: SearchConfig, confirming: bool) -> None:
    bar.n = _done(trials)
    metric = search.objectives[0]
    parts = []
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if complete and not confirming:
        best = rank(complete, [direction_of(one) for one in search.objectives])[0]
        score = mean_score(best.user_attrs, metric)
        assert score is not None
        parts.append(f"best {metric} {score.mean:.4f} ± {score.error:.4f} (trial {best.number})")
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    if running:
        folds = "+".join(str(len(stored_folds(trial.user_attrs))) for trial in running)
        parts.append(f"{len(running)} running, {folds} folds done")
    stopped = sum(trial.state == TrialState.PRUNED for trial in trials)
    if stopped:
        parts.append(f"{stopped} stopped early")
    if search.hours is not None and not confirming:
        parts.append(f"{max(0.0, search.hours - hours_spent(trials)):.2f} h left")
    bar.set_postfix_str(", ".join(parts), refresh=False)
    bar.update(0)


def _check_failures(trials: Sequence[FrozenTrial]) -> None:
    """End a sweep that fails again and again, or whose very first config does.

    Raises:
        UserError: with what the last one said.
    """
    finished = [trial for trial in begun(trials) if trial.state.is_finished()]
    failed = [trial for trial in finished if trial.state == TrialState.FAIL]
    if not failed:
        return
    last = failed[-1].user_attrs.get(ERROR, "its worker died, again and again")
    if any(trial.user_attrs.get(ORIGIN) == DEFAULT for trial in failed):
        raise UserError("the config that the search starts from can't be trained:", [last])
    if len(finished) >= FAILURES and all(one in failed for one in finished[-FAILURES:]):
        raise UserError(f"{FAILURES} trials failed one after another; the last:", [last])


@contextmanager
def _as_workers_start() -> Iterator[None]:
    """Start processes that draw no bars and never hear of Ctrl-C, not even in their first seconds.

    There is one bar for the sweep, and this process says what becomes of them on Ctrl-C.
    """
    bars = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    if masks:
        resource_tracker.ensure_running()  # whose own start would unblock it
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        if bars is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = bars


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let a request to end, as a cluster makes it, write the report as Ctrl-C does."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
