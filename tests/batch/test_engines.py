import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.batch.conftest import Write, contents, predict, titles

from tagger.batch.engines import pack_run, unpacked_decider
from tagger.batch.run_batch import predict_batch
from tagger.data.columns import UNSAID
from tagger.data.items import Item
from tagger.decision.decider import load_decider
from tagger.errors import UserError
from tagger.runs import RunFolder


def test_a_packed_run_answers_as_the_run_does(tiny_run: RunFolder) -> None:
    items = [Item(str(n), title, "") for n, title in enumerate(titles(20))]
    expected = load_decider(tiny_run.path, tiny_run.load_classifier()).decide(items)

    found = unpacked_decider(pack_run(tiny_run)).decide(items)

    assert (found.probabilities == expected.probabilities).all()
    assert (found.tags == expected.tags).all()


def test_ray_that_is_absent_is_said(
    tiny_run: RunFolder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)

    with pytest.raises(UserError, match="needs the package ray"):
        predict_batch(tiny_run, str(folder), str(tmp_path / "out"), UNSAID, engine="ray")


@pytest.mark.slow
def test_a_killed_worker_of_ray_loses_and_doubles_nothing(
    tiny_run: RunFolder, tmp_path: Path, write: Write
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: requirements-ray.txt")
    write(tmp_path / "in" / "a.parquet", titles(3000), group=50)
    predict(tiny_run, tmp_path / "in", tmp_path / "local")
    killed = threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "ray", killed))
    killer.start()

    predict_batch(
        tiny_run, str(tmp_path / "in"), str(tmp_path / "ray"), UNSAID, engine="ray", workers=2
    )

    killer.join(260)
    assert killed.is_set()
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def kill_a_worker(output: Path, killed: threading.Event) -> None:
    """Kill a process that does units, once two of them are finished."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not killed.is_set():
        if len([*output.glob("a-*.parquet")]) >= 2:
            for process in Path("/proc").iterdir():
                try:
                    name = (process / "cmdline").read_bytes()
                    if name.startswith(b"ray::_work_in_worker"):
                        os.kill(int(process.name), signal.SIGKILL)
                        killed.set()
                        return
                except (OSError, ValueError):
                    continue
        time.sleep(0.01)
