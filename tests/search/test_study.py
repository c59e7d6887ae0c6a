import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from tagger.config.schema import OptimizeConfig
from tagger.errors import UserError
from tagger.files import REPO_ROOT
from tagger.search.fold_results import FOLD
from tagger.search.study import (
    DEATHS,
    ERROR,
    MOST_RETRIES,
    ORIGIN,
    STOPPED,
    WORKER,
    begun,
    build_sampler,
    counted,
    exclusive,
    hours_spent,
    is_cut_short,
    open_storage,
    open_study,
    put_back,
    quiet_optuna,
    storage_trouble,
    storage_url,
)

pytestmark = pytest.mark.slow

DEADLINE = 120
Config = Callable[..., OptimizeConfig]


@pytest.fixture(autouse=True)
def quiet() -> None:
    quiet_optuna()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python with some lines of code; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()


def ran(begin: float, end: float | None, worker: str, number: int = 0) -> FrozenTrial:
    """A trial that began and ended at some hour from now; None: it still runs."""
    trial = create_trial(state=TrialState.RUNNING, user_attrs={WORKER: worker})
    trial.number = number
    trial.datetime_start = datetime.now() + timedelta(hours=begin)
    if end is not None:
        trial.state = TrialState.PRUNED
        trial.datetime_complete = datetime.now() + timedelta(hours=end)
    return trial


# Addresses


@pytest.mark.parametrize(
    "name",
    ["plain", "two words", "what?now", "what?x=1&y", "a#b", "50%", "50%20", "a@b:c", "Prüfung ✓",
     "it's", 'so "called"', "{x}", "semi;colon", "back\\slash"],
)  # fmt: skip
def test_a_file_lies_in_the_folder_of_the_sweep(
    sweep_config: Config, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    url = storage_url(sweep_config(tmp_path).search, folder)
    storage = open_storage(url, 15)
    optuna.create_study(storage=storage, study_name="x")
    storage.engine.dispose()
    assert (folder / "study.db").read_bytes().startswith(b"SQLite format 3")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert optuna.get_all_study_names(open_storage(url, 15)) == ["x"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://me:secret@host:99/db", "postgresql+psycopg://me:secret@host:99/db"),
        ("postgresql://me:p%40ss@host/db?a=b", "postgresql+psycopg://me:p%40ss@host/db?a=b"),
        ("postgresql+psycopg2://me@host/db", "postgresql+psycopg://me@host/db"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
    ],
)
def test_postgresql_gets_the_driver_that_is_installed(
    sweep_config: Config, tmp_path: Path, given: str, expected: str
) -> None:
    config = sweep_config(tmp_path, f"search.storage='{given}'")
    assert storage_url(config.search, tmp_path) == expected


@pytest.mark.parametrize(
    "given",
    ["nonsense", "''", "://", "postgresql:/db", "postgresql://me@host:port/db", "sqlite://",
     "mysql://me:secret@localhost/db"],
)  # fmt: skip
def test_what_is_no_address_is_refused(sweep_config: Config, tmp_path: Path, given: str) -> None:
    config = sweep_config(tmp_path, f"search.storage='{given.strip(chr(39))}'")
    with pytest.raises(UserError, match=r"search\.storage.*is no address of a database"):
        storage_url(config.search, tmp_path)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("postgresql+psycopg://me:secret@localhost:1/db", "refused"),
        ("sqlite:///{}/text.db?password=secret", "not a database"),
        ("sqlite:///{}", "unable to open"),
        ("sqlite:///{}/text.db/below.db", "cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(
    tmp_path: Path, given: str, reason: str
) -> None:
    (tmp_path / "text.db").write_text("No database, but a text that is long enough. " * 99)
    given = given.format(tmp_path)
    with pytest.raises(UserError, match=reason) as caught:
        open_storage(given, 15)
    shown = make_url(given).render_as_string(hide_password=True)
    assert f"search.storage={shown}" in str(caught.value)
    assert ":secret" not in str(caught.value)
    assert caught.value.__cause__ is None


# Several processes

HOLD = """
import sys
from tagger.search.study import exclusive
with exclusive(sys.argv[1]):
    print("inside", flush=True)
    sys.stdin.readline()
"""

COUNT = """
import sys, time
from pathlib import Path
from tagger.search.study import exclusive
path = Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(25):
    with exclusive(sys.argv[1]):
        count = int(path.read_text())
        time.sleep(0.002)
        path.write_text(str(count + 1))
"""

OPEN = """
import sys
from tagger.search.study import open_storage
print("ready", flush=True)
sys.stdin.readline()
open_storage(sys.argv[1], 15)
"""

WRITE = """
import sys
from itertools import count
import optuna
from tagger.search.study import open_storage, quiet_optuna
quiet_optuna()
storage = open_storage(sys.argv[1], 15)
study = optuna.create_study(storage=storage, study_name="x", load_if_exists=True)
for number in count():
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("fold_0", {"wrong": list(range(500))})
    study.tell(trial, 1.0)
    print(trial.number, flush=True)
"""


def test_a_turn_ends_with_the_process_that_had_it(
    start: Callable[..., subprocess.Popen[str]], url: str, tmp_path: Path
) -> None:
    holder = start(HOLD, url)
    assert read_line(holder) == "inside"
    with pytest.raises(Timeout), FileLock(tmp_path / "study.db.lock", timeout=0):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    with exclusive(url), pytest.raises(Timeout), FileLock(tmp_path / "study.db.lock", timeout=0):
        pass


def test_one_process_at_a_time_has_its_turn(
    start: Callable[..., subprocess.Popen[str]], url: str, tmp_path: Path
) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    processes = [start(COUNT, url, str(path)) for _ in range(2)]
    assert [read_line(process) for process in processes] == ["ready"] * 2
    for process in processes:
        tell(process, "go")
    assert [process.wait(DEADLINE) for process in processes] == [0, 0]
    assert path.read_text() == "50"


def test_processes_may_make_the_same_file_at_once(
    start: Callable[..., subprocess.Popen[str]], url: str
) -> None:
    processes = [start(OPEN, url) for _ in range(2)]
    assert [read_line(process) for process in processes] == ["ready"] * 2
    for process in processes:
        tell(process, "go")
    assert [process.wait(DEADLINE) for process in processes] == [0, 0]
    optuna.create_study(storage=open_storage(url, 15), study_name="x")


def test_a_killed_writer_leaves_a_whole_file(
    start: Callable[..., subprocess.Popen[str]], url: str, tmp_path: Path
) -> None:
    told = -1
    for _ in range(2):
        writer = start(WRITE, url)
        for _ in range(15):
            told = int(read_line(writer))
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate(timeout=10)
        told = max([told, *map(int, rest.split())])
        with sqlite3.connect(tmp_path / "study.db") as file:
            assert file.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert file.execute("pragma journal_mode").fetchall() == [("wal",)]
        file.close()
        study = optuna.load_study(storage=open_storage(url, 15), study_name="x")
        complete = {one.number for one in study.trials if one.state == TrialState.COMPLETE}
        wanted = {one.number for one in study.trials if one.number <= told}
        assert len(complete) >= 15 and told in complete
        assert all(len(study.trials[one].user_attrs["fold_0"]["wrong"]) == 500 for one in complete)
        # What was cut short is a trial that runs, one at most for each kill.
        assert len(wanted - complete) < 2


# Studies


def test_a_study_goes_on_where_it_was(sweep_config: Config, url: str, tmp_path: Path) -> None:
    config = sweep_config(tmp_path).search
    for number in range(2):
        study = open_study(open_storage(url, 15), "x", config, ["accuracy", "mib", "aurc"], 3)
        assert [one.name for one in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
        assert len(study.trials) == number
        study.tell(study.ask(), [0.5, 1.0, 0.1])


@pytest.mark.parametrize("silent", [True, False])
def test_trials_of_silent_workers_are_retried(
    sweep_config: Config, url: str, tmp_path: Path, silent: bool
) -> None:
    storage = open_storage(url, 15)
    assert (storage.heartbeat_interval, storage.grace_period) == (15, 60)
    study = open_study(storage, "x", sweep_config(tmp_path).search, ["accuracy"], 3)
    trial = study.ask()
    storage.record_heartbeat(trial._trial_id)
    with sqlite3.connect(tmp_path / "study.db") as file:
        ago = f"-{61 if silent else 30} seconds"
        file.execute("update trial_heartbeats set heartbeat = datetime(heartbeat, ?)", (ago,))
    file.close()
    trial.set_user_attr(WORKER, "elsewhere:1:of-another-machine")
    put_back(study)
    expected = [TrialState.FAIL, TrialState.WAITING] if silent else [TrialState.RUNNING]
    assert [one.state for one in study.trials] == expected


@pytest.fixture
def storage(url: str) -> RDBStorage:
    return open_storage(url, 10)


@pytest.fixture
def study(storage: RDBStorage) -> Study:
    return optuna.create_study(storage=storage, study_name="x")


def begin(study: Study) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.suggest_categorical("y", ["a", "b"])
    trial.set_user_attr(WORKER, f"host:{trial.number}")
    return trial


def cut_short(study: Study, trial: optuna.Trial, *, stopped: bool = False) -> None:
    """End a trial as a worker does that is told to stop, or as others do for one that died."""
    if stopped:
        trial.set_user_attr(STOPPED, True)
    study.tell(trial, state=TrialState.FAIL)


def test_a_retried_trial_keeps_its_choices_and_folds_but_not_its_worker(study: Study) -> None:
    study.enqueue_trial({"x": 0.5}, user_attrs={ORIGIN: "default"})
    first = begin(study)
    first.set_user_attr("fold_0", {"scores": {"accuracy": 0.5}})
    cut_short(study, first, stopped=True)
    put_back(study)
    failed, waiting = study.trials
    assert (failed.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    assert waiting.params == failed.params == first.params
    assert waiting.user_attrs == {ORIGIN: "default", "fold_0": {"scores": {"accuracy": 0.5}}}
    again = begin(study)
    assert again.number == 1 and again.params == first.params


def test_a_trial_whose_workers_die_is_retried_so_many_times(study: Study) -> None:
    for number in range(MOST_RETRIES + 1):
        trial = begin(study)
        trial.set_user_attr(f"fold_{number}", {})
        assert trial.number == number
        cut_short(study, trial)
        put_back(study)
    assert {one.state for one in study.trials} == {TrialState.FAIL}
    assert len({str(one.params) for one in study.trials}) == 1
    assert [len(one.user_attrs) for one in study.trials] == [2, 4, 5, 6]
    assert [one.number for one in begun(study.trials)] == [MOST_RETRIES]


def test_a_trial_may_be_stopped_any_number_of_times(study: Study) -> None:
    for number in range(3 * MOST_RETRIES):
        trial = begin(study)
        assert trial.number == number
        cut_short(study, trial, stopped=True)
        put_back(study)
    assert study.trials[-1].state == TrialState.WAITING


def test_what_was_drawn_before_the_end_of_the_draws_is_kept(study: Study) -> None:
    trial = study.ask()
    value = trial.suggest_float("x", 0, 1)
    cut_short(study, trial)
    put_back(study)
    again = begin(study)
    assert again.params["x"] == value and set(again.params) == {"x", "y"}


@pytest.mark.parametrize(
    "state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING]
)
def test_only_a_trial_that_was_cut_short_is_put_back(study: Study, state: TrialState) -> None:
    value = 1.0 if state == TrialState.COMPLETE else None
    study.add_trial(create_trial(state=state, value=value, user_attrs={ERROR: "it diverged"}))
    put_back(study)
    assert [one.state for one in study.trials] == [state]


@pytest.mark.parametrize("place", ["file", "postgresql"])
def test_it_is_put_back_once(request: pytest.FixtureRequest, url: str, place: str) -> None:
    if place == "postgresql":
        server = make_url(request.getfixturevalue("postgresql"))
        url = server.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    study = optuna.create_study(storage=open_storage(url, 10), study_name="put-back")
    trials = [begin(study) for _ in range(5)]
    for trial in trials:
        cut_short(study, trial)

    def put_all_back() -> None:
        storage = open_storage(url, 10)
        mine = optuna.load_study(storage=storage, study_name="put-back")
        with exclusive(url):
            put_back(mine)

    threads = [threading.Thread(target=put_all_back) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert [one.number for one in study.trials] == list(range(10))
    assert [one.state for one in study.trials[:5]] == [TrialState.FAIL] * 5
    assert sorted(one.system_attrs["retry_history"] for one in study.trials[5:]) == [
        [trial.number] for trial in trials
    ]


def test_a_worker_that_dies_while_it_puts_a_trial_back_leaves_no_failure(
    study: Study, dead_worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise who looks then takes what was cut short for a config that can't be trained."""
    begin(study).set_user_attr(WORKER, dead_worker)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RetryHeartbeatStaleTrialCallback, "__call__", die)
    with pytest.raises(KeyboardInterrupt):
        put_back(study)
    monkeypatch.undo()
    (trial,) = study.trials
    assert trial.state == TrialState.FAIL and is_cut_short(trial)
    assert begun([trial]) == [] and counted([trial]) == [trial]
    put_back(study)
    assert [one.state for one in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[1].user_attrs == {DEATHS: 1}


def test_only_the_dead_of_this_machine_are_known_at_once(
    study: Study, this_worker: str, dead_worker: str
) -> None:
    for worker in (this_worker, dead_worker, "elsewhere:1:of-another-machine"):
        study.ask().set_user_attr(WORKER, worker)
    put_back(study)
    states = [one.state for one in study.trials]
    assert states == [TrialState.RUNNING, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    assert study.trials[3].user_attrs == {DEATHS: 1}


def test_trials_that_stand_in_the_queue_again_do_not_count(study: Study) -> None:
    one, two = begin(study), begin(study)
    study.enqueue_trial({"x": 0.1})
    cut_short(study, one)
    study.tell(two, 0.5)
    assert [trial.number for trial in counted(study.trials)] == [0, 1, 2]
    assert [trial.number for trial in begun(study.trials)] == [1]
    put_back(study)
    assert [trial.number for trial in counted(study.trials)] == [1, 2, 3]
    assert [trial.number for trial in begun(study.trials)] == [1]


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([], 0),
        ([(-9, -8)], 1),
        ([(-9, -8), (-5, -3)], 3),  # a gap
        ([(-9, -6), (-8, -5)], 4),  # two at once
        ([(-9, -2), (-8, -7), (-6, -5)], 7),  # one within another
        ([(-5, -4), (-9, -8)], 2),  # in whichever order
        ([(-2, None)], 2),
        ([(-4, -1), (-3, None)], 4),
        ([(-4, None), (-3, -2)], 4),
    ],
)
def test_hours_are_those_in_which_a_trial_ran(
    this_worker: str, trials: list[tuple[float, float | None]], expected: float
) -> None:
    waiting = create_trial(state=TrialState.WAITING)
    assert hours_spent([*(ran(*one, this_worker) for one in trials), waiting]) == pytest.approx(
        expected, abs=0.2
    )


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.FAIL])
@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        ([], 0),
        ([-8.5, -7], 2),
        ([-20], 0),  # taken over from an earlier trial
    ],
)
def test_a_night_between_two_runs_does_not_count(
    dead_worker: str, state: TrialState, folds: list[float], expected: float
) -> None:
    """Of a trial whose worker was killed, only when its folds were done is known."""
    trial = ran(-9, None if state == TrialState.RUNNING else -0.1, dead_worker)
    trial.state = state
    trial.user_attrs |= {
        FOLD.format(step): {"done": (datetime.now() + timedelta(hours=hour)).isoformat()}
        for step, hour in enumerate(folds)
    }
    assert hours_spent([trial]) == pytest.approx(expected, abs=0.01)


def test_what_failed_of_itself_counts_to_its_end() -> None:
    trial = ran(-9, -5, "")
    trial.state = TrialState.FAIL
    trial.user_attrs = {ERROR: "it diverged"}
    assert hours_spent([trial]) == pytest.approx(4)


def draws(config: OptimizeConfig, seed: int) -> list[float]:
    """What a sampler draws after some trials, with the best values around 0.8."""
    study = optuna.create_study(direction="maximize")
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}
    for number in range(12):
        x = number / 12
        study.add_trial(create_trial(value=-abs(x - 0.8), params={"x": x}, distributions=space))
    drawn = []
    for at in range(12):
        study.sampler = build_sampler(config.search, seed + at)
        trial = study.ask()
        drawn.append(trial.suggest_float("x", 0, 1))
        study.tell(trial, -abs(drawn[-1] - 0.8))
    return drawn


@pytest.mark.parametrize(
    ("name", "learns"),
    [
        ("tpe", True),
        pytest.param("gp", True, marks=pytest.mark.slow),
        ("random", False),
        ("grid", False),
        ("nsga2", False),
    ],
)
def test_a_seed_decides_what_each_sampler_draws(
    sweep_config: Config, tmp_path: Path, name: str, learns: bool
) -> None:
    config = sweep_config(tmp_path, f"search.sampler={name}", "search.pruner=none")
    one, other = draws(config, 0), draws(config, 100)
    assert one == draws(config, 0) != other
    assert len(set(one)) > 6
    if learns:
        near = [abs(x - 0.8) < 0.2 for x in one + other]
        assert sum(near) >= 14  # of 24; 10 would be chance


@pytest.mark.parametrize("name", ["tpe", "gp", "random"])
def test_each_sampler_draws_with_the_shortest_start(
    sweep_config: Config, tmp_path: Path, name: str
) -> None:
    config = sweep_config(
        tmp_path, f"search.sampler={name}", "search.startup=1", "search.pruner=none"
    )
    assert all(0 <= x <= 1 for x in draws(config, 0))


# Damage


def _text(path: Path) -> None:
    path.write_text("No database, but a text that is long enough. " * 99)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _overwritten(path: Path) -> None:
    """All pages but the first, which says what kind of file it is."""
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))


def _of_another_program(path: Path) -> None:
    path.unlink()
    _execute(path, "create table songs (title)")


def _of_the_same_names(path: Path) -> None:
    path.unlink()
    _execute(path, "create table version_info (title)", "create table trials (title)")


def _newer(path: Path) -> None:
    _execute(
        path,
        "update alembic_version set version_num = 'v99.0.0.a'",
        "update version_info set library_version = '99.0.0'",
    )


def _execute(path: Path, *commands: str) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        for command in commands:
            file.execute(command)


@pytest.mark.parametrize(
    ("damage", "reason", "mend"),
    [
        (_text, "file is not a database", "remove it to start the sweep over"),
        (_folder, "unable to open database file", "have to be there and to be writable"),
        (_truncated, "database disk image is malformed", "remove it to start the sweep over"),
        (_overwritten, "", "remove it to start the sweep over"),
        (_of_another_program, "it holds the tables of another program", "remove it"),
        (_of_the_same_names, "no such column", "remove it to start the sweep over"),
        (_newer, "set up by optuna 99.0.0", "requirements.txt says which version"),
    ],
)
def test_a_damaged_file_is_one_message(
    study: Study, url: str, damage: Callable[[Path], None], reason: str, mend: str
) -> None:
    for _ in range(20):
        study.ask().set_user_attr("fold_0", {"wrong": list(range(500))})
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    path = Path(url.removeprefix("sqlite:///"))
    damage(path)
    with pytest.raises(UserError, match=r"search\.storage=.* cannot be used: ") as caught:
        open_storage(url, 10)
    assert reason in caught.value.summary and mend in caught.value.hint
    assert len(str(caught.value).splitlines()) == 2
    assert caught.value.__suppress_context__
    if damage is _of_another_program:
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("select name from sqlite_master").fetchall() == [("songs",)]


def test_an_empty_file_is_a_new_database(url: str) -> None:
    """It is what a process leaves that is killed while it makes one."""
    Path(url.removeprefix("sqlite:///")).touch()
    assert optuna.get_all_study_names(open_storage(url, 10)) == []


def test_a_file_that_another_program_writes_to_is_waited_for_and_then_named(
    storage: RDBStorage, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagger.search.study.PATIENCE", 0.2)
    storage.engine.dispose()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        file.execute("pragma locking_mode = exclusive")
        file.execute("begin exclusive")
        with pytest.raises(UserError, match="database is locked") as caught:
            open_storage(url, 10)
        assert "Close the program that has it open" in caught.value.hint
    open_storage(url, 10)


@pytest.fixture
def other_user() -> Iterator[Path]:
    """A folder of a user who is not root, whom this process is meanwhile: root may write to all."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        root = os.geteuid() == 0
        if root:
            shutil.chown(name, 65534)
            os.seteuid(65534)
        yield Path(name)
        if root:
            os.seteuid(0)
        Path(name).chmod(0o700)


@pytest.mark.parametrize("frozen", ["study.db", "."])
def test_a_file_that_may_not_be_written_to_is_named(
    study: Study, other_user: Path, frozen: str
) -> None:
    url = f"sqlite:///{other_user / 'study.db'}"
    storage = open_storage(url, 10)
    optuna.create_study(storage=storage)
    storage.engine.dispose()
    for end in ("-wal", "-shm", ".lock"):
        Path(f"{other_user / 'study.db'}{end}").unlink(missing_ok=True)
    (other_user / frozen).chmod(0o555)
    with pytest.raises(UserError, match="cannot be used: ") as caught, storage_trouble(url):
        optuna.create_study(storage=open_storage(url, 10))
    assert "have to be there and to be writable" in caught.value.hint
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("drop table trial_user_attributes", "no such table: trial_user_attributes"),
        ("update trial_user_attributes set value_json = '{'", "Expecting property name"),
        ("update trials set state = 'LOST'", "'LOST' is not among the defined enum values"),
        ("delete from studies", "Record does not exist"),
    ],
)
def test_damage_that_comes_later_is_one_message(
    study: Study, url: str, damage: str, reason: str
) -> None:
    study.ask().set_user_attr("fold_0", {"wrong": []})
    _execute(Path(url.removeprefix("sqlite:///")), "pragma foreign_keys = off", damage)
    with (
        pytest.raises(UserError, match=r"search\.storage=.* cannot be used: ") as caught,
        storage_trouble(url),
    ):
        optuna.load_study(study_name="x", storage=study._storage).get_trials()
    assert reason in str(caught.value)


def test_a_mistake_of_ours_is_not_taken_for_damage(url: str) -> None:
    with pytest.raises(KeyError, match="lr"), storage_trouble(url):
        {}["lr"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("wrong password", "password authentication failed"),
        ("no database", 'database "nowhere" does not exist'),
        ("no server", "refused"),
        ("no rights", "permission denied"),
    ],
)
def test_a_server_that_refuses_is_one_message(postgresql: str, given: str, reason: str) -> None:
    url = make_url(postgresql).set(drivername="postgresql+psycopg")
    if given == "no rights":
        with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("drop database if exists closed"))
            connection.execute(text("create database closed"))
            connection.execute(text("drop role if exists guest"))
            connection.execute(text("create role guest login password 'guest'"))
    changed = {
        "wrong password": {"password": "guessed"},
        "no database": {"database": "nowhere"},
        "no server": {"port": 1},
        "no rights": {"database": "closed", "username": "guest", "password": "guest"},
    }[given]
    tried = url.set(**changed).render_as_string(hide_password=False)
    with pytest.raises(UserError, match=reason) as caught:
        open_storage(tried, 10)
    assert "Check the address, the server and the rights" in caught.value.hint
    assert len(str(caught.value).splitlines()) == 2
    assert "guessed" not in str(caught.value)
