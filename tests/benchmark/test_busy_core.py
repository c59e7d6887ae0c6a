import os
import subprocess
import time
from pathlib import Path

import pytest

from tagger.benchmark.busy_core import busy_core


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_core_is_busy_for_as_long_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    core = max(os.sched_getaffinity(0))
    with pytest.raises(KeyboardInterrupt), busy_core(core):
        (process,) = started
        assert os.sched_getaffinity(process.pid) == {core}
        before = cpu_seconds(process.pid)
        deadline = time.monotonic() + 20
        while cpu_seconds(process.pid) < before + 0.1:
            assert time.monotonic() < deadline, "it does not work"
            time.sleep(0.05)
        raise KeyboardInterrupt
    assert process.poll() is not None, "it outlived the block"


def test_a_process_that_does_not_start_is_no_neighbour() -> None:
    with pytest.raises(RuntimeError, match="did not start"), busy_core(10_000):
        pass
