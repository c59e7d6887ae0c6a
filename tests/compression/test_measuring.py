import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tagger.compression import measuring
from tagger.compression.fresh import run_fresh
from tagger.compression.measuring import Job, count_rounds, measure
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
        assert (one["batch_1"]["items"], one["batch_1"]["p999_ms"]) == (80, None)
        assert {words: length["items"] for words, length in one["lengths"].items()} == {
            "8": 20, "64": 20,
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
    assert result["A"]["batch_1"]["items"] == 20
    assert result["A"]["lengths"]["8"]["items"] == 20
    assert result["A"]["throughput"]["rounds"] == 1


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
    assert result["B"]["batch_1"]["items"] == 20
    assert len(done) == 1
