import builtins
import io
import json
import sys
import time
from pathlib import Path

import pytest

from tagger.benchmark.first_decision import ImportClock, main
from tagger.runs import RunFolder


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`outer_slow` takes 20 ms and imports `inner_slow`, which takes 30 ms."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outer_slow.py").write_text("import time, inner_slow\ntime.sleep(0.02)\n")
    (tmp_path / "inner_slow.py").write_text("import time\ntime.sleep(0.03)\n")
    (tmp_path / "broken.py").write_text("raise ImportError('broken')\n")
    for name in ("outer_slow", "inner_slow"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("modules")
def test_imports_are_summed_those_within_others_once() -> None:
    before = builtins.__import__
    start = time.monotonic_ns()
    with ImportClock() as clock:
        import outer_slow  # noqa: F401

        took = time.monotonic_ns() - start
        once = clock.nanoseconds
        time.sleep(0.05)
        import inner_slow  # noqa: F401
    assert builtins.__import__ is before
    assert 50e6 <= once <= took
    assert clock.nanoseconds - once < 10e6, "what is imported already, and sleep, are no import"


@pytest.mark.usefixtures("modules")
def test_a_failed_import_counts_and_does_not_stop_the_clock() -> None:
    with ImportClock() as clock:
        with pytest.raises(ImportError, match="broken"):
            import broken  # noqa: F401
        failed = clock.nanoseconds
        import outer_slow  # noqa: F401
    assert failed > 0
    assert clock.nanoseconds - failed >= 50e6


def test_a_decision_is_parted_into_imports_loading_and_itself(
    linear_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"run": str(linear_run.path), "texts": [["apple pear", "iron"], ["rain", ""]]}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(job)))
    monkeypatch.setattr("sys.argv", ["first_decision", str(tmp_path / "result.json")])
    began = time.monotonic_ns()
    main()
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert began < result["began_ns"] < result["decided_ns"] < time.monotonic_ns()
    parts = [result[f"{part}_ms"] for part in ("import", "load", "decide")]
    assert min(parts) > 0
    assert sum(parts) <= (result["decided_ns"] - result["began_ns"]) / 1e6
    assert result["peak_memory_mib"] > 20
