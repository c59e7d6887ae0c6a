"""Whole programs on a machine that lacks what Windows lacks; see like_windows/sitecustomize.py."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.files import REPO_ROOT

HERE = Path(__file__).parent / "like_windows"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="what is taken away is Linux's"),
]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs a program, and returns all that it said."""

    def start(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=REPO_ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(HERE), str(REPO_ROOT / "src")]),
                "PYTHONIOENCODING": "cp1252",
                "PYTHONWARNDEFAULTENCODING": "1",
                "HOME": str(tmp_path),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="cp1252",
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    return start


def test_a_run_is_trained_evaluated_and_used(
    run: Callable[..., str], toy_folder: Path, tmp_path: Path
) -> None:
    data = ["data=file", f"data.path={toy_folder / 'items.csv'}"]
    data += [f"data.tags={toy_folder / 'tags.yaml'}", "training.threads=1"]
    folder = tmp_path / "my runs" / "first"
    folder.mkdir(parents=True)  # there and empty: it may be used, and not renamed over
    train = [*data, "model=tiny", "training.epochs=1", "training.checkpoint_seconds=0"]
    train += [f"name={folder.name}", f"runs_dir='{folder.parent}'"]
    quick = ["explore=off", "behaviour=off", "resamples=100", "latency.items=10"]
    answers = tmp_path / "answers.csv"
    files = ["--input", str(toy_folder / "items.csv"), "--output", str(answers)]
    predict = ["predict", "--run", str(folder), *files]
    commands = [["train", *train], ["evaluate", f"run='{folder}'", *quick]]
    commands += [predict, predict]  # the second replaces the first's file
    said = run("-c", f"from tagger.cli import main\nfor one in {commands}: main(one)")
    assert f"\"run='{folder}'\"" in said
    with answers.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 60
    left = {path.name for path in (*tmp_path.iterdir(), *folder.parent.iterdir())}
    assert not [name for name in left if name.endswith((".lock", ".partial", ".tmp"))]


def test_a_search_has_its_workers(
    run: Callable[..., str], toy_folder: Path, tmp_path: Path
) -> None:
    given = ["data=file", f"data.path={toy_folder / 'items.csv'}"]
    given += [f"data.tags={toy_folder / 'tags.yaml'}", "model=linear", "search=quick"]
    given += ["search.trials=1", "search.confirm=0", "name=sweep"]
    run("optimize.py", *given, f"sweeps_dir={tmp_path}")
    assert (tmp_path / "sweep" / "report.html").is_file()
