from pathlib import Path

import pytest
from tagger.compression.fresh import run_fresh

from tagger.errors import UserError

ECHO = """
import json, os, sys
job = json.load(open(sys.argv[1]))
print("round", flush=True)
print("a library's chatter", flush=True)
print("round", flush=True)
print("a warning", file=sys.stderr)
json.dump({"job": job, "set": os.environ["WHAT_IS_SET"]}, open(sys.argv[2], "w"))
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
    done: list[int] = []
    result = run_fresh("a_program", {"what": "é"}, {"WHAT_IS_SET": "2"}, lambda: done.append(1))
    assert result == {"job": {"what": "é"}, "set": "2"}
    assert len(done) == 2
    out, err = capfd.readouterr()
    assert (out, err) == ("", "a warning\n")


def test_what_the_user_can_mend_is_passed_on(program: Path) -> None:
    program.write_text(REFUSES)
    with pytest.raises(UserError) as error:
        run_fresh("a_program", {}, {})
    assert str(error.value) == "the model is damaged:\n  - a file is missing"


def test_a_killed_process_is_told_from_a_defect(program: Path) -> None:
    program.write_text(DIES)
    with pytest.raises(UserError, match="killed \\(SIGKILL\\)"):
        run_fresh("a_program", {}, {})
    program.write_text(FAILS)
    with pytest.raises(RuntimeError, match="ValueError: a defect"):
        run_fresh("a_program", {}, {})
