import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import EvaluateConfig
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.training.train_run import train

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_run.ipynb"


@pytest.mark.slow
def test_notebook_runs_on_a_finished_run(tiny_config, tmp_path, monkeypatch):
    # Hardly trained, so that there are errors to show.
    untaught = ["training.epochs=1", "training.head_init=random", "training.head_lr=1e-6"]
    path = train(tiny_config("name=explored", f"runs_dir={tmp_path / 'runs'}", *untaught))
    quick = ["latency.items=10", "resamples=100", "explore=off", "behaviour=off"]
    config = load_config(EvaluateConfig, compose_config("evaluate", [f"run={path}", *quick]))
    report = evaluate_run(config).report
    report.write(path / "report.json")
    wrong = [error for group in report.errors.groups for error in group.errors]
    assert wrong
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(NOTEBOOK, folder)
    source = str(Path(__file__).parents[2] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]))

    notebook = nbformat.read(folder / NOTEBOOK.name, as_version=4)
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    tables = [
        output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})
    ]
    assert len(tables) == 6
    assert "explored" in tables[0] and "train" in tables[1] and "fruit" in tables[2]
    assert all(error.title in tables[5] for error in wrong)


def test_notebook_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)
