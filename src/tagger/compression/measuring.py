"""Time several runs in a process of their own, which has so many cores and no more.

How many threads a model computes with is settled when it is loaded, in a way of its own for each
engine. All of them look at the cores that the process may use: so these are limited before anything
is imported, and a process measures one number of threads.

Run as `python -m tagger.compression.measuring JOB RESULT`, by `tagger.compression.benchmark`.
"""

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from tagger.errors import exit_on_user_error

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
    from tagger.decision.decider import load_decider
    from tagger.evaluation.latency import torch_threads
    from tagger.runs import RunFolder

    folders = [RunFolder(Path(path)) for path in job["runs"].values()]
    deciders = [load_decider(folder.path, folder.load_classifier()) for folder in folders]
    texts = [(title, description) for title, description in job["texts"]]
    result: dict[str, Any] = {name: {} for name in job["runs"]}

    def rounds(most: int) -> Rounds:
        return Rounds(most, job["seconds"], done=lambda: print("round", flush=True))

    with torch_threads(len(job["cores"])):
        times = time_one_by_one(deciders, texts, rounds(job["rounds"]))
        for place, name in enumerate(result):
            ratio = paired_ratio(times[:, 0], times[:, place])
            result[name]["batch_1"] = summarize_tail(times[:, place]) | {"ratio": ratio}
        for words in job["lengths"]:
            fitted = fit_length(texts, words)
            times = time_one_by_one(deciders, fitted, rounds(rounds_of_length(job["rounds"])))
            for place, name in enumerate(result):
                found = summarize_tail(times[:, place])
                kept = {key: found[key] for key in ("p50_ms", "p99_ms", "items")}
                result[name].setdefault("lengths", {})[str(words)] = kept
        if job["throughput"]:
            many = texts[:MOST_TOGETHER]
            rates = time_together(deciders, many, rounds(THROUGHPUT_ROUNDS))
            for place, name in enumerate(result):
                result[name]["throughput"] = {
                    "items_per_second": statistics.median(rates[:, place].tolist()),
                    "lowest": float(rates[:, place].min()),
                    "highest": float(rates[:, place].max()),
                    "items": len(many),
                    "rounds": len(rates),
                }
    return result


def rounds_of_length(rounds: int) -> int:
    """Return how many rounds each length is given: a quarter of those of the texts as they are."""
    return max(rounds // 4, 1)


def count_rounds(job: Job) -> int:
    """Return how many rounds a job has at most, hence how many lines its process prints."""
    lengths = len(job["lengths"]) * rounds_of_length(job["rounds"])
    return job["rounds"] + lengths + (THROUGHPUT_ROUNDS if job["throughput"] else 0)


if __name__ == "__main__":
    main()
