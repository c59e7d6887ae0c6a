"""Runs all notebooks on small runs that are made here, and looks at what is stored of them."""

import importlib.util
import json
import os
import re

import nbformat
import pandas as pd
import pytest

from tagger.build.report import BuildReport
from tagger.cli import main
from tagger.environment import describe_environment
from tagger.files import REPO_ROOT

FOLDER = REPO_ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
FIGURES = {
    "1_data": 1, "2_read_a_run": 4, "3_compare_runs": 2, "4_errors": 1, "5_decisions": 2,
    "6_sweep": 4, "7_to_a_millisecond": 3, "8_your_own_data": 3,
}  # fmt: skip
PATHS = re.compile(r"/(home|root|tmp|work|var|usr|opt|private|Users|mnt|srv)/|[A-Z]:\\\\")


@pytest.fixture(scope="module")
def execute():
    """The script that executes notebooks and stores them."""
    found = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def make_audit(toy_folder, folder):
    given = ["--data", str(toy_folder / "items.csv"), "--tags", str(toy_folder / "tags.yaml")]
    main(["audit", *given, "--no-embeddings", "--out", str(folder / "audits/gold")])


def write_sweep(folder):
    scores = {"winner": 0.74, "default": 0.73}
    confirmation = {
        "metric": "weighted_f1", "seeds": 1, "searched": scores, "confirmed": scores, "gain": 0.01,
        "low": -0.01, "high": 0.03, "luck": 0.0, "proven": False,
    }  # fmt: skip
    summary = {
        "schema_version": 2, "sweep": "words", "space": "linear", "objectives": ["weighted_f1"],
        "best": 2, "default": 0, "front": [], "states": {}, "hours": 0.1, "overhead": None,
        "importances": {"model.C": 0.8, "model.balanced": 0.2}, "confirmation": confirmation,
        "chosen": {}, "environment": describe_environment().model_dump(), "paragraph": "",
    }  # fmt: skip
    trials = pd.DataFrame({"number": range(4), "weighted_f1": [0.73, 0.5, 0.74, 0.72]})
    trials["state"] = ["complete", "stopped early", "complete", "complete"]
    trials["origin"] = ["default", *["sampler"] * 3]
    trials = trials.assign(weighted_f1_error=0.01, folds=3, model_seconds=1.5)
    trials["model.C"] = [4.0, 0.1, 8.0, 99.0]
    trials["model.balanced"] = ["true", "false", "true", "true"]
    (folder / "sweeps/words").mkdir(parents=True)
    trials.to_parquet(folder / "sweeps/words/trials.parquet")
    (folder / "sweeps/words/summary.json").write_text(json.dumps(summary))


def write_build(folder):
    step = {
        "seconds": 5.0, "aurc": 0.03, "published": None, "precision": None, "p50_ms": 1.0,
        "mib": 4.4, "quick": False,
    }  # fmt: skip
    steps = [
        step | {"name": name, "weighted_f1": f1, "macro_f1": f1, "p99_ms": p99}
        for name, f1, p99 in (("words", 0.84, 1.7), ("teacher", 0.87, 60.0), ("slow", 0.8, 90.0))
    ]
    steps[0] |= {"quick": True, "published": 0.5, "precision": 0.98}
    plan = {
        "asked": {}, "rows": 60, "tags": {}, "folds": None, "models": [], "student": False,
        "texts": 0, "pass_ms": 1.0, "expected_seconds": {}, "notes": [],
    }  # fmt: skip
    (folder / "runs/product.build").mkdir()
    BuildReport.model_validate(
        {
            "name": "product",
            "plan": plan,
            "promise": 0.95,
            "confidence": 0.95,
            "judged_on": "60 rows",
            "candidates": steps,
            "chosen": "words",
            "reasons": [],
            "published": None,
            "seconds": 9.0,
            "notes": [],
            "environment": describe_environment(),
        }
    ).write(folder / "runs/product.build/build.json")


def write_timings(folder):
    times = {"p50_ms": 1.0, "p99_ms": 2.0, "items": 50}
    single = times | {"p95_ms": 1.5, "mean_ms": 1.1, "p999_ms": None}
    single |= {"ratio": {"value": 1, "low": 1, "high": 1}}
    many = {"items_per_second": 900, "lowest": 800, "highest": 990, "items": 10, "rounds": 5}
    timing = {"batch_1": single, "lengths": {"8": times, "64": times}, "throughput": many}
    cold = dict.fromkeys(("start_ms", "import_ms", "load_ms", "decide_ms", "total_ms"), 9.0)
    costs = {
        "path": "runs/one", "approach": "linear", "mib": 0.5, "peak_memory_mib": 100,
        "cold_start": cold | {"torch_imported": False}, "threads": {"1": timing, "2": timing},
    }  # fmt: skip
    settings = {
        "texts": 10, "words": 8, "block": 50, "rounds": 1, "threads": [1, 2], "starts": 5,
        "load_before": 0.1,
    }  # fmt: skip
    report = {
        "schema_version": 2, "runs": {"first-run": costs, "words": costs}, "settings": settings,
        "instructions": [], "environment": describe_environment().model_dump(),
    }  # fmt: skip
    (folder / "timings.json").write_text(json.dumps(report))


@pytest.mark.slow
def test_all_notebooks_run(execute, toy_folder, evaluated_runs, tmp_path, monkeypatch):
    paths = [str(REPO_ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    # As below the repository's root, where notebooks find runs by their names.
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/first-run").symlink_to(evaluated_runs.folder / "untaught")
    (tmp_path / "runs/words").symlink_to(evaluated_runs.folder / "words")
    make_audit(toy_folder, tmp_path)
    write_sweep(tmp_path)
    write_build(tmp_path)
    write_timings(tmp_path)
    notebooks = [nbformat.read(path, as_version=4) for path in NOTEBOOKS]

    execute.execute(notebooks, tmp_path, timeout=120)

    for path, notebook in zip(NOTEBOOKS, notebooks, strict=True):
        check_outputs(path, notebook)


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def check_outputs(path, notebook):
    outputs = outputs_of(notebook)
    shown = [one.get("data", {}) for one in outputs]
    assert sum("image/png" in one for one in shown) == FIGURES[path.stem], path
    assert sum("text/html" in one for one in shown) >= 3, path
    noise = [one for one in outputs if one.get("name") == "stderr" or one.output_type == "error"]
    assert not noise, path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_can_be_read_on_a_forge(execute, path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    check_outputs(path, notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    for one in outputs_of(notebook):
        text = json.dumps({k: v for k, v in one.get("data", {}).items() if k != "image/png"})
        assert not PATHS.search(text + one.get("text", "")), path
        assert len(json.dumps(one)) <= execute.MOST_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_reads_through_the_results_alone(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    lines = [line.strip() for source in code for line in source.splitlines()]
    imports = {line for line in lines if re.match(r"(from|import) tagger\b", line)}
    public = {"import tagger"} if path.stem == "8_your_own_data" else set()
    assert imports == {"from tagger import results", *public}
    assert notebook.cells[-1].source.startswith("## Things to try")


def test_large_outputs_and_widgets_are_left_out(execute):
    outputs = [
        nbformat.v4.new_output("display_data", {"text/plain": "x" * execute.MOST_BYTES}),
        nbformat.v4.new_output("display_data", {execute.WIDGET: {}, "text/plain": "a slider"}),
        nbformat.v4.new_output("stream", text="kept"),
    ]
    cell = nbformat.v4.new_code_cell("show()", outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One"), cell])

    execute.strip(notebook)

    nbformat.validate(notebook)
    assert [one.text for one in cell.outputs] == ["(100 kB, left out)\n", "kept"]


def test_every_step_makes_what_a_notebook_reads(execute):
    made = " ".join(execute.STEPS)
    read = " ".join(path.read_text(encoding="utf-8") for path in NOTEBOOKS)
    for name in ("audits/gold", "first-run", "words", "product", "timings.json"):
        assert name in made and name in read
