"""`evaluate.py` shares its name with a library that it must not hide."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tagger.files import REPO_ROOT

CHECK = "import evaluate; print(evaluate.__file__, hasattr(evaluate, 'Metric'))"


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder that holds a copy of the script, a stand-in for the library, and scripts."""
    root = tmp_path / "repo"
    root.mkdir()
    (root / "evaluate.py").write_text((REPO_ROOT / "evaluate.py").read_text())
    library = tmp_path / "site" / "evaluate"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("from evaluate.inner import Metric\nREAL = True\n")
    (library / "inner.py").write_text("class Metric: pass\n")
    return root


def run_with_stand_in(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root.parent / "site")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_import_from_its_folder_gives_the_library(beside: Path) -> None:
    """As from the repository's root; docs/tutorial.md finds the real one there."""
    done = run_with_stand_in(beside, "-c", CHECK)
    assert done.returncode == 0, done.stderr
    library = beside.parent / "site" / "evaluate" / "__init__.py"
    assert done.stdout.split() == [str(library), "True"]


WAYS = """
import evaluate; assert evaluate.REAL
from evaluate import Metric, REAL
import evaluate.inner; assert evaluate.REAL
from evaluate.inner import Metric; import evaluate; assert evaluate.Metric is Metric
import importlib; assert importlib.import_module('evaluate').REAL
import evaluate, sys; assert sys.modules['evaluate'].__spec__.name == 'evaluate'
import third; assert third.X.__module__.startswith('evaluate')
"""


def test_every_way_of_importing_gives_a_script_beside_it_the_library(beside: Path) -> None:
    (beside.parent / "site" / "third.py").write_text("import evaluate\nX = evaluate.Metric\n")
    afresh = "import sys; [sys.modules.pop(one) for one in [*sys.modules] if 'evaluate' in one]\n"
    (beside / "train.py").write_text(WAYS.replace("\n", f"\n{afresh}"))
    done = run_with_stand_in(beside, "train.py")
    assert done.returncode == 0, done.stderr


def test_a_missing_library_is_said_to_be_missing(beside: Path) -> None:
    # -S leaves out the real installation; the stand-in is not on this path either.
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import evaluate"],
        cwd=beside,
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.returncode != 0
    assert "ModuleNotFoundError" in done.stderr
    assert "not installed" in done.stderr


def test_a_spawned_process_of_the_script_starts_nothing(beside: Path) -> None:
    """`multiprocessing` imports the main file again, under the name `__mp_main__`."""
    done = run_with_stand_in(
        beside, "-c", "import runpy; runpy.run_path('evaluate.py', run_name='__mp_main__')"
    )
    assert done.returncode == 0, done.stderr
