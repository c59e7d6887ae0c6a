"""Time several runs, each in a process of its own, which have so many cores and no more.

How many threads a model computes with is settled when it is loaded, in a way of its own for each
engine. All of them look at the cores that the process may use: so these are limited before anything
is imported, and a job measures one number of threads. Each run has a process to itself, because the
threads of two engines in one process get in each other's way, even while one of them rests: with
two threads that made p99 five times as high.

Run as `python -m tagger.compression.measuring JOB RESULT`, by `tagger.compression.benchmark`.
"""

import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypedDict

from tagger.compression.fresh import KILLED_HINT
from tagger.errors import UserError, exit_on_user_error

THROUGHPUT_ROUNDS = 5
MOST_TOGETHER = 512
"""Items of one call, where throughput is measured."""


class Job(TypedDict):
    """What such a process is asked for.

    Attributes:
        runs: Folders by what reports call the runs, the first being the one to compare with.
        cores: Those that the process may use: a thread on each.
        texts: Titles and descriptions.
        rounds: Blocks of single items that each run answers.
        seconds: No round of a measure begins later; None: no limit.
        lengths: Numbers of words to cut and extend texts to.
        throughput: Whether many items a call are measured too.
    """

    runs: Mapping[str, str]
    cores: Sequence[int]
    texts: Sequence[Sequence[str]]
    rounds: int
    seconds: float | None
    lengths: Sequence[int]
    throughput: bool


@exit_on_user_error
def main() -> None:
    """Read the job, measure, write the result; print a line after each round."""
    job_file, result_file = map(Path, sys.argv[1:])
    job: Job = json.loads(job_file.read_text(encoding="utf-8"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cores"])
    result_file.write_text(json.dumps(measure(job)), encoding="utf-8")


def measure(job: Job) -> dict[str, Any]:
    """Load the runs and time them.

    Returns:
        By run: `batch_1` (p50 to p99.9, and the paired `ratio` to the first run), `throughput`
        (items a second: median, lowest and highest round) and `lengths` (p50 and p99 by words).

    Raises:
        UserError: when a run cannot be loaded.
    """
    # Imported here: libraries count the cores of the process when they are imported.
    from tagger.compression.interleaving import (
        Rounds,
        fit_length,
        paired_ratio,
        summarize_tail,
        time_one_by_one,
        time_together,
    )

    texts = [(title, description) for title, description in job["texts"]]
    result: dict[str, Any] = {name: {} for name in job["runs"]}

    def rounds(most: int) -> Rounds:
        return Rounds(most, job["seconds"], done=lambda: print("round", flush=True))

    with ExitStack() as stack:
        threads = len(job["cores"])
        runs = [stack.enter_context(_elsewhere(path, threads)) for path in job["runs"].values()]
        times = time_one_by_one(runs, texts, rounds(job["rounds"]))
        for place, name in enumerate(result):
            ratio = paired_ratio(times[:, 0], times[:, place])
            result[name]["batch_1"] = summarize_tail(times[:, place]) | {"ratio": ratio}
        for words in job["lengths"]:
            fitted = fit_length(texts, words)
            times = time_one_by_one(runs, fitted, rounds(rounds_of_length(job["rounds"])))
            for place, name in enumerate(result):
                found = summarize_tail(times[:, place])
                kept = {key: found[key] for key in ("p50_ms", "p99_ms", "items")}
                result[name].setdefault("lengths", {})[str(words)] = kept
        if job["throughput"]:
            many = texts[:MOST_TOGETHER]
            rates = time_together(runs, many, rounds(THROUGHPUT_ROUNDS))
            for place, name in enumerate(result):
                result[name]["throughput"] = {
                    "items_per_second": statistics.median(rates[:, place].tolist()),
                    "lowest": float(rates[:, place].min()),
                    "highest": float(rates[:, place].max()),
                    "items": len(many),
                    "rounds": len(rates),
                }
    return result


class _Elsewhere:
    """A run in another process, which times its own answers."""

    def __init__(self, path: str, connection: Connection) -> None:
        self.path = path
        self.connection = connection

    def one_by_one(self, texts: Sequence[tuple[str, str]]) -> Any:
        return self._ask("one_by_one", texts)

    def together(self, texts: Sequence[tuple[str, str]]) -> Any:
        return self._ask("together", texts)

    def _ask(self, what: str, texts: Sequence[tuple[str, str]]) -> Any:
        with suppress(BrokenPipeError):  # it has ended, which `receive` says
            self.connection.send((what, texts))
        return self.receive()

    def receive(self) -> Any:
        """Return what comes from the other process.

        Raises:
            UserError: when it has ended.
        """
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise UserError(
                f"the process that held {self.path} ended",
                hint=KILLED_HINT,
            ) from None


@contextmanager
def _elsewhere(path: str, threads: int) -> Iterator[_Elsewhere]:
    """Load a run in a process of its own, which ends with the context.

    Raises:
        UserError: when the run cannot be loaded.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(path, threads, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        run = _Elsewhere(path, ours)
        if mistake := run.receive():
            raise UserError(*mistake)
        yield run
    finally:
        ours.close()
        process.join()


def _serve(path: str, threads: int, connection: Connection) -> None:
    """Load a run, say whether that went well, and answer until nobody asks any more."""
    from tagger.compression.interleaving import Here
    from tagger.decision.decider import load_decider
    from tagger.evaluation.latency import torch_threads
    from tagger.runs import RunFolder

    folder = RunFolder(Path(path))
    try:
        run = Here(load_decider(folder.path, folder.load_classifier()))
    except UserError as error:
        connection.send((error.summary, error.problems, error.hint))
        return
    connection.send(None)
    with torch_threads(threads):
        while True:
            try:
                what, texts = connection.recv()
            except EOFError:
                return
            connection.send(getattr(run, what)(texts))


def rounds_of_length(rounds: int) -> int:
    """Return how many rounds each length is given: a quarter of those of the texts as they are."""
    return max(rounds // 4, 1)


def count_rounds(job: Job) -> int:
    """Return how many rounds a job has at most, hence how many lines its process prints."""
    lengths = len(job["lengths"]) * rounds_of_length(job["rounds"])
    return job["rounds"] + lengths + (THROUGHPUT_ROUNDS if job["throughput"] else 0)


if __name__ == "__main__":
    main()
