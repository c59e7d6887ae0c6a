"""Executes the notebooks on real runs, which it makes, and stores them with what they show.

    python notebooks/execute.py          make notebooks

Runs, a sweep, an audit and timings go below `benchmarks/out/notebooks`, and are made once: what is
there already is kept. An output over 100 KB is left out, so that a forge shows the notebooks.
"""

import json
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.output_widget import OutputWidget
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tagger.reporting.figures import shrink_png

HERE = Path(__file__).parent
FOLDER = HERE.parent / "benchmarks/out/notebooks"
COMMAND = [sys.executable, "-c", "from tagger.cli import main; main()"]
MOST_BYTES = 100_000
WIDGET = "application/vnd.jupyter.widget-view+json"

STEPS = {
    "audits/gold/audit.json": "audit --data data/gold.csv --tags data/tags.yaml --out audits/gold",
    "runs/words/meta.json": "train name=words model=linear decision=threshold",
    "runs/words/report.json": "evaluate run=words",
    "runs/first-run/meta.json": (
        "train name=first-run model=two-layer training.lr=3e-4 training.head_lr=1e-3 "
        "training.epochs=2 decision=threshold decision.folds=null"
    ),
    "runs/first-run/report.json": "evaluate run=first-run against=words",
    "sweeps/words/summary.json": (
        "optimize name=words search=linear model=linear "
        "search.trials=20 search.repeats=1 search.confirm=1 data.split.per_tag=150"
    ),
    "runs/product.build/build.json": (
        "build --data data/gold.csv --tags data/tags.yaml --name product --promise 0.98 "
        "--budget 60min data.extra=[data/contrasts.csv]"
    ),
    "timings.json": (
        "benchmark --run product --run product.build/linear --run product.build/two-layer "
        "--data data/gold.csv --threads 1 --rounds 8 --out timings.json"
    ),
}
"""What notebooks read, below the folder that they are executed in, and the command for it."""


def main() -> None:
    """Make what is not there yet, execute all notebooks, and store them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "data").exists():
        (FOLDER / "data").symlink_to(HERE.parent / "data")
    for made, command in STEPS.items():
        if not (FOLDER / made).exists():
            print(f"$ tagger {command}", flush=True)
            subprocess.run([*COMMAND, *command.split()], cwd=FOLDER, check=True)
    shutil.rmtree(FOLDER / "runs/own", ignore_errors=True)  # the third would see it
    paths = sorted(HERE.glob("*.ipynb"))
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    execute(notebooks, FOLDER)
    for path, notebook in zip(paths, notebooks, strict=True):
        strip(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def execute(notebooks: Sequence[NotebookNode], folder: Path, timeout: int = 600) -> None:
    """Execute notebooks in a folder, one after the other, and put in what they show.

    They share one process, which saves the imports; each finds it without the names of the others.

    Args:
        notebooks: To execute.
        folder: In which they find runs by their names.
        timeout: Seconds that a cell may take.

    Raises:
        nbclient.exceptions.CellExecutionError: for the first cell that fails.
    """
    cells = [cell for one in notebooks for cell in (new_code_cell("%reset -f"), *one.cells)]
    client = NotebookClient(
        new_notebook(cells=cells), timeout=timeout, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": folder}},
    )  # fmt: skip
    client.widget_registry = {"@jupyter-widgets/output": {"OutputModel": SilentWidget}}
    client.execute()
    for notebook in notebooks:
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number, cell in enumerate(code, start=1):
            cell.execution_count = number
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = number


class SilentWidget(OutputWidget):
    """Takes what a widget draws, and does not tell the kernel.

    What is told goes out by the socket on which the client waits for the kernel's answer. An answer
    that comes in just then would be missed until the time of the cell is over.
    """

    def send(self, *given: object, **named: object) -> None:
        """Send nothing."""


def strip(notebook: NotebookNode) -> None:
    """Shrink figures; leave out what is over `MOST_BYTES`, and widgets, which need a process."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            kept = [one for one in cell.outputs if WIDGET not in one.get("data", {})]
            cell.outputs = [_shrunk(one) for one in kept]


def _shrunk(output: NotebookNode) -> NotebookNode:
    if drawn := output.get("data", {}).get("image/png"):
        output.data["image/png"] = b64encode(shrink_png(b64decode(drawn))).decode()
    size = len(json.dumps(output))
    if size <= MOST_BYTES:
        return output
    return new_output("stream", text=f"({size // 1000} kB, left out)\n")


if __name__ == "__main__":
    main()
