"""Profiles steps of a training with torch's profiler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TRACE_FILE = "trace.json.gz"


@contextmanager
def profile_steps(steps: int, folder: Path) -> Iterator[Callable[[], None]]:
    """Profile some steps, from the third on, and write their trace for a trace viewer.

    Args:
        steps: How many; 0: none.
        folder: Where `trace.json.gz` goes.

    Yields:
        What is called after each step.
    """
    if not steps:
        yield lambda: None
        return
    from torch import profiler

    with profiler.profile(
        schedule=profiler.schedule(wait=1, warmup=1, active=steps, repeat=1),
        on_trace_ready=lambda done: done.export_chrome_trace(str(folder / TRACE_FILE)),
    ) as running:
        yield running.step
