"""Serves each run from a process of its own, with so many cores and no more.

How many threads a model computes with is settled when it is loaded, in a way of its own for each
engine. All of them look at the cores that the process may use: so these are limited before anything
is imported. Each run has a process to itself, because the threads of two engines in one process get
in each other's way, even while one of them rests: with two threads that made p99 five times as
high.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tagger.benchmark.cold_start import KILLED_HINT
from tagger.data.items import Item
from tagger.decision.decider import Decider, load_decider
from tagger.errors import UserError
from tagger.evaluation.latency import (
    Text,
    cores_limited,
    time_decisions,
    torch_threads,
    without_collection,
)
from tagger.runs import RunFolder
from tagger.scores import FloatArray


class LocalRun:
    """A loaded run whose decisions are timed in this process."""

    def __init__(self, decider: Decider) -> None:
        self.decider = decider

    def time_each(self, texts: Sequence[Text]) -> FloatArray:
        """Decide on texts one by one; return the milliseconds that each took, (n_texts,)."""
        return time_decisions(self.decider, texts)

    def time_batch(self, texts: Sequence[Text]) -> float:
        """Decide on all texts in one call; return items a second."""
        items = [Item("", title, description) for title, description in texts]
        with without_collection():
            start = time.perf_counter_ns()
            self.decider.decide(items)
            return len(items) / (time.perf_counter_ns() - start) * 1e9


class ServedRun:
    """A run in another process, which times its own decisions."""

    def __init__(self, path: Path, connection: Connection) -> None:
        self.path = path
        self.connection = connection

    def time_each(self, texts: Sequence[Text]) -> FloatArray:
        """Decide on texts one by one; return the milliseconds that each took, (n_texts,)."""
        milliseconds: FloatArray = self._ask("time_each", texts)
        return milliseconds

    def time_batch(self, texts: Sequence[Text]) -> float:
        """Decide on all texts in one call; return items a second."""
        return float(self._ask("time_batch", texts))

    def receive(self) -> Any:
        """Return what comes from the other process.

        Raises:
            UserError: when it has ended.
        """
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise UserError(f"the process that held {self.path} ended", hint=KILLED_HINT) from None

    def _ask(self, method: str, texts: Sequence[Text]) -> Any:
        with suppress(BrokenPipeError):  # it has ended, which `receive` says
            self.connection.send((method, texts))
        return self.receive()


@contextmanager
def serve_run(path: Path, threads: int) -> Iterator[ServedRun]:
    """Load a run in a process of its own, which ends with the context.

    Args:
        path: The run folder.
        threads: How many cores the process may use, with a thread on each.

    Raises:
        UserError: when the run cannot be loaded.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(path, threads, theirs), daemon=True)
    with inherited(threads):
        process.start()
    theirs.close()
    try:
        run = ServedRun(path, ours)
        if mistake := run.receive():
            raise UserError(*mistake)
        yield run
    finally:
        ours.close()
        process.join()


@contextmanager
def inherited(threads: int) -> Iterator[None]:
    """Give so many cores and threads to the processes that are started meanwhile."""
    before = dict(os.environ)
    # For what does not count the cores itself: the tokenizers, and a shell that set OMP's number.
    os.environ |= {
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
    }
    try:
        with cores_limited(threads):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(path: Path, threads: int, connection: Connection) -> None:
    """Load a run, report whether that went well, and answer until nobody asks any more."""
    folder = RunFolder(path)
    try:
        run = LocalRun(load_decider(folder.path, folder.load_classifier()))
    except UserError as error:
        connection.send((error.summary, error.problems, error.hint))
        return
    connection.send(None)
    with torch_threads(threads), suppress(EOFError):
        while True:
            method, texts = connection.recv()
            connection.send(getattr(run, method)(texts))
