"""Run one of our modules in an interpreter of its own, and take its result."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tagger.errors import BAD_INPUT, UserError

KILLED_HINT = "Was there too little memory? Benchmark fewer runs at a time."


def run_fresh(
    module: str,
    job: Mapping[str, object],
    environment: Mapping[str, str],
    done: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Run `python -m MODULE JOB RESULT`, which reads one file and writes the other, both JSON.

    Args:
        module: Its dotted name.
        job: What it is asked for.
        environment: Variables to set beside those that are set.
        done: Called for each line `round` that it prints.

    Returns:
        Its result. Its warnings go to our standard error.

    Raises:
        UserError: that it ended in, or when it was killed.
        RuntimeError: when it ended in anything else, which is a defect.
    """
    with TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("job.json", "result.json", "stderr")]
        job_file, result_file, error_file = files
        job_file.write_text(json.dumps(job), encoding="utf-8")
        # -P: what lies in the folder that we were started in must not hide a library.
        command = [sys.executable, "-P", "-m", module, str(job_file), str(result_file)]
        with (
            error_file.open("w", encoding="utf-8") as errors,
            subprocess.Popen(
                command,
                env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
            ) as process,
        ):
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if line == "round\n":
                        done()
                code = process.wait()
            except BaseException:
                process.kill()
                raise
        said = error_file.read_text(encoding="utf-8", errors="replace").strip()
        _check_end(code, said)
        if said:
            print(said, file=sys.stderr)
        result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        return result


def _check_end(code: int, said: str) -> None:
    if code == BAD_INPUT:
        raise UserError(said.removeprefix("error: "))
    if code < 0:
        raise UserError(
            f"the process that measured was killed ({signal.Signals(-code).name})",
            hint=KILLED_HINT,
        )
    if code:
        raise RuntimeError(f"the process that measured failed:\n{said}")
