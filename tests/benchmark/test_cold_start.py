from pathlib import Path

import pytest

from tagger.benchmark.cold_start import start_cold, summarize_starts
from tagger.errors import UserError

ECHO = """
import json, sys, time
job = json.load(sys.stdin)
print("a library's chatter")
print("a warning", file=sys.stderr)
now = time.monotonic_ns()
json.dump(job | {"began_ns": now, "decided_ns": now + 10**9}, open(sys.argv[1], "w"))
"""
REFUSES = """
import sys
print("error: the model is damaged:\\n  - a file is missing", file=sys.stderr)
sys.exit(2)
"""
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
FAILS = "raise ValueError('a defect')"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "a_program.py"


def test_the_job_goes_in_and_the_result_comes_out(
    program: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program.write_text(ECHO)
    result = start_cold(Path("é"), [("one", "two")], "a_program")
    assert (result["run"], result["texts"]) == ("é", [["one", "two"]])
    assert result["start_ms"] > 0
    assert result["total_ms"] == pytest.approx(result["start_ms"] + 1000)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "a warning\n")


def test_what_the_user_can_mend_is_passed_on(program: Path) -> None:
    program.write_text(REFUSES)
    with pytest.raises(UserError) as error:
        start_cold(Path("x"), [], "a_program")
    assert str(error.value) == "the model is damaged:\n  - a file is missing"


def test_a_killed_process_is_told_from_a_defect(program: Path) -> None:
    program.write_text(DIES)
    with pytest.raises(UserError, match="killed \\(SIGKILL\\)"):
        start_cold(Path("x"), [], "a_program")
    program.write_text(FAILS)
    with pytest.raises(RuntimeError, match="ValueError: a defect"):
        start_cold(Path("x"), [], "a_program")


def test_starts_are_summarized_by_medians() -> None:
    parts = ("start_ms", "import_ms", "load_ms", "decide_ms", "total_ms")
    starts = [dict.fromkeys(parts, value) | {"torch_imported": False} for value in (1.0, 9.0, 2.0)]
    summary = summarize_starts(starts)
    assert {getattr(summary, part) for part in parts} == {2.0}
    assert not summary.torch_imported
