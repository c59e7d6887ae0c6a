"""Measures cold starts: a fresh interpreter from its start to its first decision."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tagger.benchmark.report import ColdStart
from tagger.errors import BAD_INPUT, UserError
from tagger.evaluation.latency import Text

PROGRAM = "tagger.benchmark.first_decision"
KILLED_HINT = "Was there too little memory? Benchmark fewer runs at a time."
PARTS = ("start_ms", "import_ms", "load_ms", "decide_ms", "total_ms")


def start_cold(run: Path, texts: Sequence[Text], program: str = PROGRAM) -> dict[str, float]:
    """Start a run in a fresh interpreter.

    Args:
        run: A run folder.
        texts: What is decided on, at least one text; the first is the first decision.
        program: The module that is run, `python -m PROGRAM RESULT`: it reads the run and the texts
            as JSON from its standard input and writes what it measured.

    Returns:
        What `tagger.benchmark.first_decision` measures, `start_ms` and `total_ms`.

    Raises:
        UserError: that it ended in, or when it was killed.
        RuntimeError: when it ended in anything else, which is a defect.
    """
    with TemporaryDirectory() as folder:
        result_file = Path(folder, "result.json")
        begun = time.monotonic_ns()
        # -P: what lies in the folder that we were started in must not hide a library.
        done = subprocess.run(
            [sys.executable, "-P", "-m", program, str(result_file)],
            input=json.dumps({"run": str(run), "texts": texts}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        said = done.stderr.strip()
        if done.returncode == BAD_INPUT:
            raise UserError(said.removeprefix("error: "))
        if done.returncode < 0:
            raise UserError(
                f"the process that measured was killed ({signal.Signals(-done.returncode).name})",
                hint=KILLED_HINT,
            )
        if done.returncode:
            raise RuntimeError(f"the process that measured failed:\n{said}")
        if said:
            print(said, file=sys.stderr)
        result: dict[str, float] = json.loads(result_file.read_text(encoding="utf-8"))
    result["start_ms"] = (result["began_ns"] - begun) / 1e6
    result["total_ms"] = (result["decided_ns"] - begun) / 1e6
    return result


def summarize_starts(results: Sequence[dict[str, float]]) -> ColdStart:
    """Return the medians of several starts of one run."""
    medians = {part: statistics.median(one[part] for one in results) for part in PARTS}
    return ColdStart(**medians, torch_imported=bool(results[0]["torch_imported"]))
