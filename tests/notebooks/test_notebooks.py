"""Runs every notebook on small run folders that are made here."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tagger.cli import main

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIGURES = {"1_data": 1, "2_read_a_run": 4, "3_compare_runs": 2, "4_errors": 1, "5_decisions": 1}


@pytest.fixture(scope="module")
def audited(toy_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    given = ["--data", str(toy_folder / "items.csv"), "--tags", str(toy_folder / "tags.yaml")]
    main(["audit", *given, "--no-embeddings", "--out", str(folder)])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, evaluated_runs, audited, tmp_path, monkeypatch):
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    # As below the repository's root, where notebooks find runs by their names.
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "first-run").symlink_to(evaluated_runs.folder / "untaught")
    (tmp_path / "runs" / "words").symlink_to(evaluated_runs.folder / "words")
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "gold").symlink_to(audited)
    notebook = nbformat.read(path, as_version=4)

    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in one.get("data", {}) for one in outputs) == FIGURES[path.stem]
    assert sum("text/html" in one.get("data", {}) for one in outputs) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_reads_through_the_results_alone(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert all(not cell.outputs for cell in code)
    imports = {
        line for cell in code for line in cell.source.splitlines() if line.startswith("from tagger")
    }
    assert imports == {"from tagger import results"}
    assert notebook.cells[-1].source.startswith("## Things to try")
