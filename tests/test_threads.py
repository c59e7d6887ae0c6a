import os
import subprocess
import sys
from pathlib import Path

import pytest

from tagger import threads
from tagger.files import REPO_ROOT
from tagger.threads import (
    WAITING,
    available_cores,
    cores_are_taken,
    settle_threads,
    usable_threads,
)

LAUNCHED = {"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, WAITING),
        ({"GOMP_SPINCOUNT": "7"}, WAITING | {"GOMP_SPINCOUNT": "7"}),
        ({"KMP_BLOCKTIME": "0"}, WAITING | {"KMP_BLOCKTIME": "0"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
        ({"OMP_NUM_THREADS": "1"}, WAITING | {"OMP_NUM_THREADS": "1"}),
    ],
)
def test_what_the_user_has_set_stays(given: dict[str, str], expected: dict[str, str]) -> None:
    environment = dict(given)
    settle_threads(environment)
    assert environment == expected


@pytest.mark.parametrize(("launchers", "kept"), [({}, False), ({"OMP_NUM_THREADS": "1"}, True)])
def test_one_thread_is_kept_only_if_the_user_chose_it(
    launchers: dict[str, str], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    monkeypatch.setattr(psutil.Process, "environ", lambda self: launchers)
    environment = dict(LAUNCHED)
    settle_threads(environment)
    assert ("OMP_NUM_THREADS" in environment) is kept


def test_other_numbers_are_never_a_launchers_own() -> None:
    environment = LAUNCHED | {"OMP_NUM_THREADS": "3"}
    settle_threads(environment)
    assert environment["OMP_NUM_THREADS"] == "3"


def test_a_launcher_that_cannot_be_asked_counts_as_the_one_who_chose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import psutil

    def refuse(self: psutil.Process) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "environ", refuse)
    environment = dict(LAUNCHED)
    settle_threads(environment)
    assert "OMP_NUM_THREADS" not in environment


@pytest.mark.parametrize("script", ["train.py", "tagger"])
def test_every_program_settles_its_threads_before_torch_is_loaded(
    script: str, tmp_path: Path
) -> None:
    code = (
        "import runpy, sys, tagger.threads as threads\n"
        "def settle(*args):\n"
        "    assert not {'torch', 'sklearn', 'onnxruntime'} & sys.modules.keys()\n"
        "    print('settled'); sys.exit(0)\n"
        "threads.settle_threads = settle\n"
        f"sys.argv = [{script!r}, *{['leaderboard'] if script == 'tagger' else []!r}]\n"
        + (
            "from tagger.cli import main; main()\n"
            if script == "tagger"
            else f"runpy.run_path({str(REPO_ROOT / script)!r}, run_name='__main__')\n"
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
    )  # fmt: skip
    assert done.stdout == "settled\n", done.stderr


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 4)


@pytest.mark.parametrize(
    ("variable", "sharers", "expected"),
    [
        (None, 1, 4), (None, 2, 2), (None, 3, 1), (None, 9, 1), ("3", 1, 3), ("1", 1, 1),
        ("8", 1, 4), ("3", 2, 2), ("2,1", 1, 2), ("0", 1, 1), ("many", 1, 4),
    ],
)  # fmt: skip
def test_threads_are_a_share_of_the_cores_and_at_most_what_the_user_allows(
    variable: str | None,
    sharers: int,
    expected: int,
    four_cores: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert usable_threads(sharers) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can't be taken away here")
def test_only_cores_that_may_be_used_are_counted() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 16),
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 16),
        ({"cpu.max": "what?"}, 16),
        ({}, 16),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
    ],
)
def test_limits_of_containers_are_kept_to(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_visible_cores", lambda: 16)
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert available_cores() == expected
    environment: dict[str, str] = {}
    settle_threads(environment)
    assert environment.get("OMP_NUM_THREADS") == (None if expected == 16 else str(expected))


@pytest.mark.parametrize(
    ("running", "threads_wanted", "taken"),
    [("1", 2, False), ("2", 2, True), ("3", 2, True), ("2", 1, False), ("3", 1, True)],
)
def test_cores_are_taken_when_others_compute_on_them(
    running: str,
    threads_wanted: int,
    taken: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = tmp_path / "loadavg"
    load.write_text(f"9.00 9.00 9.00 {running}/345 6789\n", encoding="utf-8")
    monkeypatch.setattr(threads, "LOAD", load)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert cores_are_taken(threads_wanted) is taken


def test_elsewhere_than_on_linux_cores_count_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LOAD", Path("/no/such/file"))
    assert cores_are_taken(2) is False
