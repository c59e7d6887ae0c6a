"""What runs cost to use, side by side: time of an item, throughput, cold start, memory, size."""

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tagger.compression import cold_start, measuring
from tagger.compression.fresh import run_fresh
from tagger.compression.interleaving import BLOCK
from tagger.compression.neighbour import busy_core
from tagger.data.columns import TableFormat
from tagger.data.items import Item
from tagger.data.sources import iter_unlabelled, load_labelled
from tagger.environment import describe_environment, instruction_sets
from tagger.errors import UserError
from tagger.evaluation.latency import Text
from tagger.models.base import read_settings
from tagger.progress import progress_bar
from tagger.runs import RunFolder
from tagger.threads import available_cores

LENGTHS = (8, 16, 32, 64, 128)
STARTS = 5
FEWEST_TEXTS, MOST_TEXTS = 10, 2000
TEXTS_OF_A_START = 32


def benchmark(
    runs: Sequence[RunFolder],
    texts: Sequence[Text],
    *,
    threads: Sequence[int],
    rounds: int,
    seconds: float | None,
    load: bool,
) -> dict[str, Any]:
    """Measure runs side by side, in processes of their own.

    Args:
        runs: Finished ones; the others are compared with the first.
        texts: What they answer, at least `FEWEST_TEXTS`.
        threads: Numbers of cores to give them, each a measurement of its own.
        rounds: Blocks of `tagger.compression.interleaving.BLOCK` items that each run answers.
        seconds: No round of a measure begins after so much time; None: no limit.
        load: Whether to measure also while another process keeps another core busy.

    Returns:
        Ready for JSON: `runs`, by name the `path`, `approach`, `mib` of the model,
        `peak_memory_mib`, `cold_start`, `threads` (by number of them what
        `tagger.compression.measuring.measure` returns) and `under_load` (the same of one item at a
        time, on one thread; None when not asked for); `settings`; `instructions` of the CPU;
        `environment`.

    Raises:
        UserError: when a run is given twice or cannot be loaded, or there are too few texts or
            cores.
    """
    names = name_runs(runs)
    _check(texts, threads, rounds, seconds, load)
    cores = _usable_cores()
    # Asked before we make work ourselves.
    busy = os.getloadavg()[0]

    job: measuring.Job = {
        "runs": {name: str(run.path) for name, run in zip(names, runs, strict=True)},
        "cores": [],
        "texts": texts,
        "rounds": rounds,
        "seconds": seconds,
        "lengths": LENGTHS,
        "throughput": True,
    }
    jobs: list[measuring.Job] = [{**job, "cores": cores[:count]} for count in threads]
    if load:
        jobs.append({**job, "cores": cores[:1], "lengths": [], "throughput": False})
    steps = STARTS * len(runs) + sum(map(measuring.count_rounds, jobs))
    with progress_bar(steps, "benchmark", "round") as bar:
        starts = _start_cold(runs, texts, bar.update)
        measured = [_measure(one, bar.update) for one in jobs[: len(threads)]]
        loaded: dict[str, Any] = {}
        if load:
            with busy_core(cores[1]):
                loaded = _measure(jobs[-1], bar.update)
    return {
        "runs": {
            name: {
                "path": str(run.path),
                "approach": read_settings(run.path / "model")["approach"],
                "mib": model_mib(run),
                **start,
                "threads": {
                    str(count): one[name] for count, one in zip(threads, measured, strict=True)
                },
                "under_load": loaded.get(name),
            }
            for name, run, start in zip(names, runs, starts, strict=True)
        },
        "settings": {
            "texts": len(texts),
            "words": statistics.median(len(" ".join(text).split()) for text in texts),
            "block": BLOCK,
            "rounds": rounds,
            "seconds": seconds,
            "threads": list(threads),
            "starts": STARTS,
            "load_before": busy,
        },
        "instructions": instruction_sets(),
        "environment": describe_environment().model_dump(),
    }


def name_runs(runs: Sequence[RunFolder]) -> list[str]:
    """Return what to call runs: the folder's name, or its path where a name is not theirs alone.

    Raises:
        UserError: when a run is given twice.
    """
    places = Counter(run.path.resolve() for run in runs)
    if twice := [str(path) for path, count in places.items() if count > 1]:
        raise UserError("a run is given twice:", twice, "Give each --run once.")
    known = Counter(run.name for run in runs)
    return [run.name if known[run.name] == 1 else str(run.path) for run in runs]


def choose_texts(run: RunFolder, data: Path | None) -> list[Text]:
    """Return the texts to measure with: of a file, or of the source that a run was made from.

    Args:
        run: Whose source is read, where no file is given.
        data: A file of items, labelled or not.

    Returns:
        The first `MOST_TEXTS`, title and description of each.

    Raises:
        UserError: when they cannot be read.
    """
    if data is None:
        run.check_source()
        items: Iterable[Item] = load_labelled(run.data_config, run.tags).items
    else:
        items = iter_unlabelled(data, TableFormat(known=run.columns))
    return [(item.title, item.description) for item in islice(items, MOST_TEXTS)]


def model_mib(run: RunFolder) -> float:
    """Return what the files of a run's model weigh, in MiB."""
    files = (run.path / "model" / name for name in run.meta["model_files"])
    return float(sum(file.stat().st_size for file in files) / 2**20)


def _check(
    texts: Sequence[Text],
    threads: Sequence[int],
    rounds: int,
    seconds: float | None,
    load: bool,
) -> None:
    cores = available_cores()
    problems = []
    if len(texts) < FEWEST_TEXTS:
        problems.append(f"{len(texts)} texts: at least {FEWEST_TEXTS} are needed, see --data")
    if not threads or min(threads) < 1 or len(set(threads)) < len(threads):
        problems.append(f"--threads {','.join(map(str, threads))}: expected numbers like 1,2")
    if too_many := [count for count in threads if count > cores]:
        problems.append(f"--threads {max(too_many)}: this process may use {cores} cores")
    if rounds < 1:
        problems.append(f"--rounds {rounds}: at least 1")
    if seconds is not None and not seconds > 0:
        problems.append(f"--seconds {seconds:g}: more than 0")
    if load and cores < 2:
        problems.append("--load: needs a second core, and this process may use 1")
    if load and not hasattr(os, "sched_setaffinity"):
        problems.append("--load: this system has no way to say which core a process runs on")
    if problems:
        raise UserError("the benchmark cannot be made:", problems)


def _usable_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(available_cores()))


def _start_cold(
    runs: Sequence[RunFolder], texts: Sequence[Text], done: Callable[[], object]
) -> list[dict[str, Any]]:
    """Start each run `STARTS` times, in turn: by run, medians of what `cold_start` measures."""
    found: list[list[dict[str, Any]]] = [[] for _ in runs]
    for _ in range(STARTS):
        for place, run in enumerate(runs):
            job: cold_start.Job = {"run": str(run.path), "texts": texts[:TEXTS_OF_A_START]}
            begun = time.monotonic_ns()
            result = run_fresh(cold_start.__name__, job, {})
            result["start_ms"] = (result["began_ns"] - begun) / 1e6
            result["total_ms"] = (result["decided_ns"] - begun) / 1e6
            found[place].append(result)
            done()
    return [_summarize_starts(results) for results in found]


def _summarize_starts(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    parts = ("start_ms", "import_ms", "load_ms", "decide_ms", "total_ms")
    medians = {part: statistics.median(result[part] for result in results) for part in parts}
    return {
        "peak_memory_mib": statistics.median(result["peak_memory_mib"] for result in results),
        "cold_start": medians | {"torch_imported": results[0]["torch_imported"]},
    }


def _measure(job: measuring.Job, done: Callable[[], object]) -> dict[str, Any]:
    threads = len(job["cores"])
    # For what does not count the cores itself: the tokenizers, and a shell that set OMP's number.
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
    }
    return run_fresh(measuring.__name__, job, environment, done)
