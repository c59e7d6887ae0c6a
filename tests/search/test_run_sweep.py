import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import OptimizeConfig, TrainConfig
from tagger.errors import UserError
from tagger.reporting.sweep import report_sweep
from tagger.search.fold_results import stored_folds
from tagger.search.results import SweepResults
from tagger.search.run_sweep import run_sweep
from tagger.search.study import FILE, MADE_FROM, begun, counted
from tagger.search.summary import SweepSummary
from tagger.training.train_run import train

pytestmark = pytest.mark.slow

# On these rows nothing errs, so that only the loss can tell configs apart.
START = ("model.C=0.05", "search.objectives=[log_loss]", "search.pruner=none")

NAME = "linear-linear-toy"
DEADLINE = 180
SweepConfig = Callable[..., OptimizeConfig]


Watch = Callable[[str, str], list[FrozenTrial]]


def trials_of(folder: Path) -> list[FrozenTrial]:
    storage = RDBStorage(f"sqlite:///{folder / FILE}", skip_table_creation=True)
    try:
        return counted(optuna.load_study(study_name=folder.name, storage=storage).get_trials())
    finally:
        storage.engine.dispose()


def summary_of(folder: Path) -> SweepSummary:
    return SweepSummary.read(folder / "summary.json")


def no_report(results: SweepResults) -> None:
    """Take the place of a page, where nobody looks at it."""


@pytest.fixture(scope="module", autouse=True)
def quick_workers(worker_context: ForkServerContext) -> Iterator[None]:
    """Let sweeps of this process start workers at once; those of `start_sweep` do as users' do."""
    with pytest.MonkeyPatch.context() as patch:
        context = SimpleNamespace(get_context=lambda method: worker_context)
        patch.setattr("tagger.search.run_sweep.multiprocessing", context)
        patch.setattr("tagger.search.run_sweep.POLL_SECONDS", 0.05)
        yield


@pytest.fixture
def start(
    toy_sweep: Callable[..., list[str]], start_sweep: Callable[..., subprocess.Popen[str]]
) -> Callable[..., subprocess.Popen[str]]:
    return lambda folder, *overrides: start_sweep(*toy_sweep(folder, *overrides))


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory, sweep_config: SweepConfig
) -> tuple[OptimizeConfig, Path]:
    """A sweep that came to its end, and its folder."""
    config = sweep_config(tmp_path_factory.mktemp("swept"), *START, "search.confirm=2")
    return config, run_sweep(config, report_sweep)


def test_it_leaves_all_that_is_promised(swept: tuple[OptimizeConfig, Path]) -> None:
    config, folder = swept
    assert folder.name == NAME
    names = {path.name for path in folder.iterdir() if not path.name.startswith(FILE)}
    expected = {"best.yaml", "config.yaml", "plots", "report.html", "summary.json"}
    assert names == expected | {"trials.parquet"}
    table = pd.read_parquet(folder / "trials.parquet")
    assert len(table) == config.search.trials
    assert table.origin[0] == "default"
    complete = table[table.state == "complete"]
    assert complete.log_loss.min() < table.log_loss[0]
    assert (complete.folds == 3).all()


def test_its_best_is_an_experiment(swept: tuple[OptimizeConfig, Path], tmp_path: Path) -> None:
    _, folder = swept
    overrides = [f"experiment={folder / 'best.yaml'}", f"runs_dir={tmp_path}", "name=best"]
    config = load_config(TrainConfig, compose_config("train", overrides))
    plain = config.model_dump()
    for path, value in summary_of(folder).chosen.items():
        group, key = path.split(".")
        assert plain[group][key] == value
    assert train(config, lambda text: None).is_dir()


def test_the_winner_is_confirmed_on_fresh_seeds(swept: tuple[OptimizeConfig, Path]) -> None:
    _, folder = swept
    summary = summary_of(folder)
    assert summary.best != summary.default
    confirmation = summary.confirmation
    assert confirmation is not None and confirmation.seeds == 2
    assert confirmation.low < confirmation.gain < confirmation.high < 0
    assert confirmation.proven
    assert "fresh seeds" in summary.paragraph


def test_the_same_command_finds_it_done(swept: tuple[OptimizeConfig, Path]) -> None:
    config, folder = swept
    said = summary_of(folder).paragraph
    before = [(trial.number, trial.datetime_complete) for trial in trials_of(folder)]
    reported: list[SweepResults] = []
    run_sweep(config, reported.append)
    assert [(trial.number, trial.datetime_complete) for trial in trials_of(folder)] == before
    assert reported[0].summary.paragraph == said


def test_more_trials_are_added_to_those_that_are_there(
    swept: tuple[OptimizeConfig, Path],
    sweep_config: SweepConfig,
    tmp_path: Path,
) -> None:
    _, folder = swept
    shutil.copytree(folder, tmp_path / NAME)
    before = {trial.number: trial.params for trial in trials_of(tmp_path / NAME)}
    more = sweep_config(tmp_path, *START, "search.trials=8", "search.workers=2")
    run_sweep(more, no_report)
    after = {trial.number: trial.params for trial in trials_of(tmp_path / NAME)}
    assert len(after) == 8
    assert before == {number: after[number] for number in before}


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ("search.folds=4", "search.folds: 3 and 4"),
        ("seed=1", "seed: 0 and 1"),
        ("search.space.model.C.high=9.5", "search.space.model.C.high: 100.0 and 9.5"),
        ("search.pruner=median", "search.pruner: 'none' and 'median'"),
        ("model.word_ngrams=1", "model.word_ngrams: 2 and 1"),
    ],
)
def test_another_sweep_does_not_go_on_in_its_place(
    swept: tuple[OptimizeConfig, Path],
    sweep_config: SweepConfig,
    changed: str,
    key: str,
) -> None:
    config, folder = swept
    before = (folder / "config.yaml").read_bytes()
    with pytest.raises(UserError, match="begun with other settings") as error:
        run_sweep(
            sweep_config(Path(config.sweeps_dir), *START, "search.confirm=2", changed), no_report
        )
    assert key in error.value.problems
    assert (folder / "config.yaml").read_bytes() == before


def test_other_rows_are_another_sweep(
    swept: tuple[OptimizeConfig, Path], sweep_config: SweepConfig, tmp_path: Path
) -> None:
    config, _ = swept
    assert config.data.path is not None
    fewer = tmp_path / "items.csv"
    fewer.write_text("".join(Path(config.data.path).read_text().splitlines(True)[:-3]))
    # The same path, as far as the sweep can tell, would be a file that was edited.
    changed = config.model_copy(
        update={"data": config.data.model_copy(update={"path": str(fewer)})}
    )
    with pytest.raises(UserError, match="begun with other settings") as error:
        run_sweep(changed, no_report)
    assert any(problem.startswith("the rows: ") for problem in error.value.problems)


def complete(trials: list[FrozenTrial]) -> dict[int, list[float]]:
    return {trial.number: trial.values for trial in trials if trial.state == TrialState.COMPLETE}


def check_stopped(folder: Path) -> dict[int, list[float]]:
    """Return the trials that a sweep which was stopped has judged."""
    stopped = trials_of(folder)
    assert not any(trial.state == TrialState.RUNNING for trial in stopped)
    assert all(trial.state == TrialState.WAITING or begun([trial]) for trial in stopped)
    done = complete(stopped)
    assert summary_of(folder).states["complete"] == len(done) < 5
    assert load_config(TrainConfig, compose_config("train", [f"experiment={folder / 'best.yaml'}"]))
    return done


# Only as many trials as needed; the sampler is then asked what it would have been asked.
STOPPED = ("search.trials=5", "search.repeats=8")


def test_ctrl_c_leaves_a_report_and_the_command_goes_on(
    tmp_path: Path,
    sweep_config: SweepConfig,
    start: Callable[..., subprocess.Popen[str]],
    wait_for: Callable[..., None],
    watch: Watch,
) -> None:
    folder = tmp_path / NAME
    process = start(tmp_path, *STOPPED)

    def imports_torch(worker: int) -> bool:
        return "libtorch" in Path(f"/proc/{worker}/maps").read_text(encoding="utf-8")

    # A terminal sends it to all processes; that which starts the workers says what to do.
    wait_for(lambda: any(map(imports_torch, workers_of(process))), process)
    [worker] = workers_of(process)
    os.kill(worker, signal.SIGINT)
    wait_for(lambda: bool(complete(watch(f"sqlite:///{folder / FILE}", NAME))), process)
    assert workers_of(process) == [worker]
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "report.html" in output
    done = check_stopped(folder)

    run_sweep(sweep_config(tmp_path, *STOPPED), no_report)
    trials = trials_of(folder)
    assert len(trials) == 5
    assert complete(trials).items() >= done.items()
    assert not (folder / "trials").exists()


def test_sigterm_leaves_a_report_too(
    tmp_path: Path, sweep_config: SweepConfig, watch: Watch
) -> None:
    config = sweep_config(tmp_path, *STOPPED, "search.workers=2")
    over = threading.Event()

    def stop() -> None:
        while not complete(watch(f"sqlite:///{tmp_path / NAME / FILE}", NAME)):
            if over.wait(0.02):
                return
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_sweep(config, report_sweep)
    finally:
        over.set()
        stopper.join(10)
    assert (tmp_path / NAME / "report.html").exists()
    check_stopped(tmp_path / NAME)


def test_two_commands_at_once_are_one_sweep(
    tmp_path: Path, sweep_config: SweepConfig, worker_context: ForkServerContext
) -> None:
    config = sweep_config(tmp_path, "search.trials=5")
    other = worker_context.Process(target=run_sweep, args=(config, no_report))
    other.start()
    run_sweep(config, no_report)
    other.join(DEADLINE)
    assert other.exitcode == 0
    trials = trials_of(tmp_path / NAME)
    assert [trial.number for trial in trials] == list(range(5))
    assert sum(trial.user_attrs.get("origin") == "default" for trial in trials) == 1
    assert summary_of(tmp_path / NAME).states.keys() <= {"complete", "stopped early"}


def test_hours_end_it(tmp_path: Path, sweep_config: SweepConfig) -> None:
    config = sweep_config(tmp_path, "search.trials=null", "search.hours=0.002", "search.repeats=5")
    folder = run_sweep(config, no_report)
    assert 0.002 <= summary_of(folder).hours < 0.004
    assert not any(trial.state == TrialState.RUNNING for trial in trials_of(folder))


def test_a_grid_is_tried_to_its_end(tmp_path: Path, sweep_config: SweepConfig) -> None:
    config = sweep_config(
        tmp_path,
        "search.sampler=grid",
        "search.trials=null",
        "search.pruner=none",
        "search.space.model.C={low: null, high: null, log: null, choices: [0.1, 4.0]}",
        "search.space.model.char_ngrams=null",
        "search.space.model.balanced=null",
    )
    folder = run_sweep(config, no_report)
    table = pd.read_parquet(folder / "trials.parquet")
    assert (table.state == "complete").all()
    pairs = {(row["model.word_ngrams"], row["model.C"]) for _, row in table.iterrows()}
    assert len(table) == len(pairs) == 6


def test_several_objectives_give_a_front(tmp_path: Path, sweep_config: SweepConfig) -> None:
    config = sweep_config(
        tmp_path, "search.objectives=[precision_at_90, p50_ms, mib]", "search.pruner=none"
    )
    folder = run_sweep(config, report_sweep)
    summary = summary_of(folder)
    table = pd.read_parquet(folder / "trials.parquet").set_index("number")
    front = table.loc[summary.front]
    for number, row in table.iterrows():
        surpassed = any(
            other.precision_at_90 >= row.precision_at_90
            and other.p50_ms <= row.p50_ms
            and other.mib <= row.mib
            and tuple(other[["precision_at_90", "p50_ms", "mib"]])
            != tuple(row[["precision_at_90", "p50_ms", "mib"]])
            for _, other in table.iterrows()
        )
        assert surpassed == (number not in front.index)
    assert {int(path.stem) for path in (folder / "front").glob("*.yaml")} == set(summary.front)
    assert summary.best in summary.front
    assert ("Pareto front" in summary.paragraph) == (len(front) > 1)


def test_earlier_runs_come_first(
    tmp_path: Path,
    sweep_config: SweepConfig,
    swept: tuple[OptimizeConfig, Path],
) -> None:
    config, _ = swept
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "# @package _global_\ndefaults:\n- override /data: file\n- override /model: linear\n"
        "model:\n  C: 33.0\n"
        f"data:\n  path: {config.data.path}\n  tags: {config.data.tags}\n"
    )
    base = config.base.model_copy(update={"runs_dir": str(tmp_path / "runs"), "name": "earlier"})
    better = base.model_copy(update={"model": base.model.model_copy(update={"C": 7.5})})
    train(better, lambda text: None)
    enqueued = sweep_config(
        tmp_path, *START, f"runs_dir={tmp_path / 'runs'}", f"search.enqueue=[earlier,{recipe}]"
    )
    table = pd.read_parquet(run_sweep(enqueued, no_report) / "trials.parquet")
    assert table.origin.tolist() == ["default", "earlier", str(recipe), *["sampler"] * 3]
    assert table["model.C"][:3].tolist() == [0.05, 7.5, 33.0]


def test_what_the_space_leaves_out_is_no_start(tmp_path: Path, sweep_config: SweepConfig) -> None:
    with pytest.raises(UserError, match="leaves out the config that the search starts from") as e:
        run_sweep(sweep_config(tmp_path, "search.space.model.C.low=50"), no_report)
    assert e.value.problems == ("model.C: 4.0 is not from 50.0 to 100.0",)
    assert not list(tmp_path.iterdir())


def test_what_the_space_leaves_out_is_not_enqueued(
    tmp_path: Path, sweep_config: SweepConfig
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("# @package _global_\ndefaults:\n- override /model: linear\n")
    other = tmp_path / "other.yaml"
    other.write_text(f"{recipe.read_text()}model:\n  C: 500.0\n")
    with pytest.raises(UserError, match=f"leaves out {other}") as error:
        run_sweep(sweep_config(tmp_path, f"search.enqueue=[{other}]"), no_report)
    assert "model.C: 500.0 is not from 0.05 to 100.0" in error.value.problems
    other.write_text(f"{recipe.read_text()}training:\n  epochs: 17\n")
    with pytest.raises(UserError, match="differs from where the search starts") as error:
        run_sweep(sweep_config(tmp_path, f"search.enqueue=[{other}]"), no_report)
    assert "training.epochs" in error.value.problems
    with pytest.raises(UserError, match="no-such-run"):
        run_sweep(
            sweep_config(tmp_path, f"runs_dir={tmp_path}", "search.enqueue=[no-such-run]"),
            no_report,
        )


def test_too_few_rows_are_refused_before_the_first_trial(
    tmp_path: Path, sweep_config: SweepConfig
) -> None:
    with pytest.raises(UserError, match=r"search\.folds=100: .* too few"):
        run_sweep(sweep_config(tmp_path, "search.folds=100"), no_report)
    assert not list(tmp_path.iterdir())


def test_a_start_that_cannot_be_trained_ends_it(tmp_path: Path, sweep_config: SweepConfig) -> None:
    config = sweep_config(
        tmp_path,
        "search=quick",
        "model=hub",
        "model.encoder=nowhere/to-be-found",
    )
    with pytest.raises(UserError, match="starts from can't be trained") as error:
        run_sweep(config, no_report)
    assert "nowhere/to-be-found" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_database_that_cannot_be_used_leaves_no_folder(
    tmp_path: Path, sweep_config: SweepConfig
) -> None:
    sweeps, file = tmp_path / "sweeps", tmp_path / "text.db"
    file.write_text("No database, but a text that is long enough. " * 99)
    for storage in ("postgresql://me@127.0.0.1:1/db", f"sqlite:///{file}"):
        with pytest.raises(UserError, match="cannot be used"):
            run_sweep(sweep_config(sweeps, f"search.storage={storage}"), no_report)
        assert not list(sweeps.iterdir())


def test_a_damaged_database_is_left_as_it_is(tmp_path: Path, sweep_config: SweepConfig) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / FILE).write_text("No database, but a text that is long enough. " * 99)
    (folder / "report.html").touch()
    with pytest.raises(UserError, match="file is not a database"):
        run_sweep(sweep_config(tmp_path), no_report)
    assert {path.name for path in folder.iterdir()} == {FILE, "report.html"}


@pytest.mark.parametrize("whose", ["another program's", "another sweep's"])
def test_a_study_of_that_name_may_be_somebody_elses(
    tmp_path: Path, sweep_config: SweepConfig, whose: str
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    study = optuna.create_study(storage=url, study_name=NAME)
    if whose == "another sweep's":
        study.set_user_attr(MADE_FROM, {"seed": 77})
    study.tell(study.ask(), 1.0)
    expected = "no sweep of this project" if whose == "another program's" else "other settings"
    with pytest.raises(UserError, match=expected):
        run_sweep(sweep_config(tmp_path / "sweeps", f"search.storage={url}"), no_report)
    assert not list((tmp_path / "sweeps").iterdir())
    assert [trial.value for trial in study.trials] == [1.0]


def test_a_database_that_vanishes_is_one_message(
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    wait_for: Callable[..., None],
    watch: Watch,
) -> None:
    folder = tmp_path / NAME
    process = start(tmp_path, "search.repeats=100")

    def has_begun() -> bool:
        trials = watch(f"sqlite:///{folder / FILE}", NAME)
        return any(stored_folds(trial.user_attrs) for trial in trials)

    wait_for(has_begun, process)
    for path in folder.glob(f"{FILE}*"):
        path.unlink()
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, output


def test_workers_that_always_die_end_it(tmp_path: Path, sweep_config: SweepConfig) -> None:
    over = threading.Event()

    def kill_workers() -> None:
        while not over.wait(0.02):
            for worker in multiprocessing.active_children():
                worker.kill()

    killer = threading.Thread(target=kill_workers)
    killer.start()
    try:
        with pytest.raises(UserError, match=r"4 workers died .*, the last with exit code -9"):
            run_sweep(sweep_config(tmp_path), no_report)
    finally:
        over.set()
        killer.join(10)
    assert not list(tmp_path.iterdir())


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a sweep has started to train in."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = []
    for child in children.read_text().split() if children.exists() else []:
        command = Path(f"/proc/{child}/cmdline")
        if command.exists() and b"spawn_main" in command.read_bytes():
            found.append(int(child))
    return found
