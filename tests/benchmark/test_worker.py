import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tagger.benchmark.worker import inherited, serve_run
from tagger.errors import UserError
from tagger.runs import RunFolder

TEXTS = [(f"apple pear {number}", "iron and rain") for number in range(12)]


@pytest.mark.slow
def test_a_run_has_a_process_which_ends_with_the_context(linear_run: RunFolder) -> None:
    with (
        pytest.raises(UserError, match=r"the process that held .* ended"),
        serve_run(linear_run.path, 1) as one,
        serve_run(linear_run.path, 1) as two,
    ):
        assert len({process.pid for process in multiprocessing.active_children()}) == 2
        for run in (one, two):
            times = run.time_each(TEXTS)
            assert times.shape == (12,) and times.min() > 0
            assert run.time_batch(TEXTS) > 0
        for process in multiprocessing.active_children():
            process.kill()
            process.join(10)
        one.time_each(TEXTS)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_run_that_cannot_be_loaded_is_said_as_everywhere(
    linear_run: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(linear_run.path, tmp_path / "broken")
    next((tmp_path / "broken" / "model").glob("*.json")).write_text("{")
    with pytest.raises(UserError, match="broken"), serve_run(tmp_path / "broken", 1):
        pass
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be hidden here")
def test_processes_inherit_cores_and_threads_from_their_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    cores = os.sched_getaffinity(0)
    program = (
        "import json, os\n"
        "names = ('OMP_NUM_THREADS', 'RAYON_NUM_THREADS', 'TOKENIZERS_PARALLELISM')\n"
        "print(json.dumps([len(os.sched_getaffinity(0)), *map(os.environ.get, names)]))"
    )
    with inherited(1):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
    assert json.loads(done.stdout) == [1, "1", "1", "false"]
    assert os.sched_getaffinity(0) == cores
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "RAYON_NUM_THREADS" not in os.environ
