"""Keeps one core busy in a process of its own, so that runs can be timed beside such a load.

Run as `python -m tagger.benchmark.busy_core CORE PARENT`, by `busy_core`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy_core(core: int) -> Iterator[None]:
    """Keep a core busy for the time of a `with` block, which begins once it is."""
    program = [sys.executable, "-P", "-m", "tagger.benchmark.busy_core"]
    command = [*program, str(core), str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"the process that should keep core {core} busy did not start")
            yield
        finally:
            process.kill()


def main() -> None:
    """Multiply matrices until the process that started this is gone: it may have been killed."""
    core, parent = map(int, sys.argv[1:])
    os.sched_setaffinity(0, [core])
    import numpy as np

    # 3 MiB: more than a core's own cache, as another model's weights would be.
    matrix = np.random.default_rng(0).random((512, 512), dtype=np.float32)
    print("busy", flush=True)
    while os.getppid() == parent:
        np.matmul(matrix, matrix)


if __name__ == "__main__":
    main()
