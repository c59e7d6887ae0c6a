import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tagger.compression.fresh import run_fresh
from tagger.compression.interleaving import BLOCK, time_one_by_one
from tagger.compression.measuring import Job, count_rounds, measure

from tagger.compression import interleaving, measuring
from tagger.errors import UserError
from tagger.runs import RunFolder

TEXTS = [[f"apple pear {number}", "iron and rain"] for number in range(12)]


@pytest.fixture
def job(linear_run: RunFolder) -> Job:
    return {
        "runs": {"A": str(linear_run.path), "B": str(linear_run.path)},
        "cores": [min(os.sched_getaffinity(0))],
        "texts": TEXTS,
        "rounds": 4,
        "seconds": None,
        "lengths": [8, 64],
        "throughput": True,
    }


def test_runs_are_measured_and_each_round_is_told(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    result = measure(job)
    assert list(result) == ["A", "B"]
    for one in result.values():
        assert 0 < one["batch_1"]["p50_ms"] <= one["batch_1"]["p99_ms"]
        assert (one["batch_1"]["items"], one["batch_1"]["p999_ms"]) == (4 * BLOCK, None)
        assert {words: length["items"] for words, length in one["lengths"].items()} == {
            "8": BLOCK, "64": BLOCK,
        }  # fmt: skip
        many = one["throughput"]
        assert 0 < many["lowest"] <= many["items_per_second"] <= many["highest"]
        assert (many["items"], many["rounds"]) == (12, 5)
    assert result["A"]["batch_1"]["ratio"] == {"value": 1, "low": 1, "high": 1}
    ratio = result["B"]["batch_1"]["ratio"]
    assert 0.3 < ratio["low"] <= ratio["value"] <= ratio["high"] < 3
    assert capsys.readouterr().out == "round\n" * count_rounds(job) == "round\n" * (4 + 2 + 5)


def test_what_is_not_asked_for_is_not_measured(job: Job) -> None:
    result = measure({**job, "lengths": [], "throughput": False})
    assert {tuple(one) for one in result.values()} == {("batch_1",)}


def test_time_ends_a_measure(job: Job) -> None:
    result = measure({**job, "rounds": 1000, "seconds": 1e-9, "lengths": [8]})
    assert result["A"]["batch_1"]["items"] == BLOCK
    assert result["A"]["lengths"]["8"]["items"] == BLOCK
    assert result["A"]["throughput"]["rounds"] == 1


def test_each_run_has_a_process_which_ends_with_the_measure(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = []

    def one_by_one(runs, texts, rounds):  # type: ignore[no-untyped-def]
        processes.extend(multiprocessing.active_children())
        return time_one_by_one(runs, texts, rounds)

    monkeypatch.setattr(interleaving, "time_one_by_one", one_by_one)
    measure({**job, "rounds": 1, "lengths": [], "throughput": False})
    assert len({process.pid for process in processes}) == 2
    assert [process.exitcode for process in processes] == [0, 0]
    assert not multiprocessing.active_children()


def test_a_run_whose_process_is_killed_is_one_clear_message(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_by_one(runs, texts, rounds):  # type: ignore[no-untyped-def]
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        return time_one_by_one(runs, texts, rounds)

    monkeypatch.setattr(interleaving, "time_one_by_one", one_by_one)
    with pytest.raises(UserError, match=r"the process that held .* ended"):
        measure(job)
    assert not multiprocessing.active_children()


def test_a_run_that_cannot_be_loaded_is_said_as_everywhere(job: Job, tmp_path: Path) -> None:
    shutil.copytree(job["runs"]["A"], tmp_path / "broken")
    next((tmp_path / "broken" / "model").glob("*.json")).write_text("{")
    with pytest.raises(UserError, match="broken"):
        measure({**job, "runs": {**job["runs"], "C": str(tmp_path / "broken")}})
    assert not multiprocessing.active_children()


def test_the_process_has_its_cores_before_anything_is_imported(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    (tmp_path / "job.json").write_text(json.dumps({"cores": [core]}))
    program = (
        "import json, os, sys\n"
        "from tagger.compression import measuring\n"
        "before = [name for name in ('numpy', 'torch', 'tokenizers') if name in sys.modules]\n"
        "measuring.measure = lambda job: [before, sorted(os.sched_getaffinity(0))]\n"
        f"sys.argv = ['measuring', {str(tmp_path / 'job.json')!r}, {str(tmp_path / 'out')!r}]\n"
        "measuring.main()\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
    assert json.loads((tmp_path / "out").read_text()) == [[], [core]]


def test_the_module_runs_as_a_program(job: Job) -> None:
    done: list[int] = []
    quick: Job = {**job, "rounds": 1, "lengths": [], "throughput": False}
    result = run_fresh(measuring.__name__, quick, {}, lambda: done.append(1))
    assert result["B"]["batch_1"]["items"] == BLOCK
    assert len(done) == 1
