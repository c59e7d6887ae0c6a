"""The start of the experiment scripts, tried as users do: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tagger.files import REPO_ROOT

SCRIPT = """
from tagger.errors import UserError
from tagger.scripts import run_hydra_script

def act(config):
    if config.seed == 13:
        raise UserError("13 brings bad luck", ["seed: found 13"], "Take another.")
    if config.seed == 14:
        raise KeyError("a defect")
    print("ran", type(config).__name__, config.run, config.seed)

if __name__ == "__main__":
    run_hydra_script("evaluate", act)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def run_script(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script.name, *arguments],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": str(REPO_ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_function_gets_the_typed_config(script: Path) -> None:
    done = run_script(script, "run=x", "seed=3")
    assert done.stdout == "ran EvaluateConfig x 3\n"
    assert done.returncode == 0
    assert [path.name for path in script.parent.iterdir()] == [script.name]  # no output folder


def test_all_mistakes_come_in_one_message(script: Path) -> None:
    done = run_script(script, "run=x", "resampels=5", "seed=-1", "data=nonsense")
    assert done.returncode == 2
    assert "resampels: no such key (did you mean resamples?)" in done.stderr
    assert "seed: found -1" in done.stderr
    assert "data=nonsense: no such choice" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_says_how_to_call_it(script: Path) -> None:
    done = run_script(script, "--help")
    assert done.returncode == 0
    assert "python evaluate.py run=" in done.stdout
    assert "resamples" in done.stdout


def test_hydra_shows_the_config_instead_of_running(script: Path) -> None:
    done = run_script(script, "--cfg", "job", "run=x")
    assert done.returncode == 0
    assert "resamples: 2000" in done.stdout
    assert "ran" not in done.stdout.split()


def test_a_sweep_runs_one_job_a_value(script: Path) -> None:
    done = run_script(script, "-m", "run=x,y", "seed=1,2")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "ran EvaluateConfig x 1",
        "ran EvaluateConfig x 2",
        "ran EvaluateConfig y 1",
        "ran EvaluateConfig y 2",
    ]


def test_a_sweep_refuses_bad_values_too(script: Path) -> None:
    done = run_script(script, "-m", "run=x", "seed=-1,-2")
    assert done.returncode == 2
    assert "seed: found -1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_user_error_ends_in_its_message_alone(script: Path) -> None:
    done = run_script(script, "run=x", "seed=13")
    assert done.returncode == 2
    assert done.stderr == "error: 13 brings bad luck\n  - seed: found 13\nTake another.\n"


def test_a_defect_keeps_its_traceback(script: Path) -> None:
    done = run_script(script, "run=x", "seed=14")
    assert done.returncode not in (0, 2)
    assert "a defect" in done.stderr
