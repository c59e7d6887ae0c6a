"""Benchmarks finished runs side by side: latency, throughput, cold start, memory, size."""

import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from tagger.benchmark.cold_start import start_cold, summarize_starts
from tagger.benchmark.report import (
    BenchmarkReport,
    LengthTimes,
    RunCosts,
    Settings,
    Timing,
)
from tagger.benchmark.timing import (
    BLOCK,
    fit_length,
    summarize_single_items,
    time_batches,
    time_single_items,
)
from tagger.benchmark.worker import serve_run
from tagger.data.columns import TableFormat
from tagger.data.items import Item
from tagger.data.sources import iter_unlabelled, load_labelled
from tagger.environment import describe_environment, instruction_sets
from tagger.errors import UserError
from tagger.evaluation.latency import Text, summarize_times
from tagger.files import folder_mib
from tagger.models.base import read_settings
from tagger.progress import progress_bar
from tagger.runs import RunFolder
from tagger.threads import available_cores

LENGTHS = (8, 16, 32, 64, 128)
STARTS = 5
THROUGHPUT_ROUNDS = 5
MOST_TOGETHER = 512
"""Items of one call, where throughput is measured."""

FEWEST_TEXTS, MOST_TEXTS = 10, 2000
TEXTS_OF_A_START = 32


def benchmark(
    runs: Sequence[RunFolder],
    texts: Sequence[Text],
    *,
    threads: Sequence[int],
    rounds: int,
) -> BenchmarkReport:
    """Measure runs side by side, in processes of their own.

    Args:
        runs: Finished ones; the others are compared with the first.
        texts: What they answer, at least `FEWEST_TEXTS`.
        threads: Numbers of cores to give them, each a measurement of its own.
        rounds: Blocks of `tagger.benchmark.timing.BLOCK` items that each run answers.

    Raises:
        UserError: when a run is given twice or cannot be loaded, or there are too few texts or
            cores.
    """
    names = name_runs(runs)
    _check(texts, threads, rounds)
    # Asked before we make work ourselves.
    busy = os.getloadavg()[0]
    of_lengths = max(rounds // 4, 1)
    steps = len(threads) * (rounds + len(LENGTHS) * of_lengths + THROUGHPUT_ROUNDS)
    steps += STARTS * len(runs)
    starts: list[list[dict[str, float]]] = [[] for _ in runs]
    with progress_bar(steps, "benchmark", "round") as bar:
        for _ in range(STARTS):
            for own, run in zip(starts, runs, strict=True):
                own.append(start_cold(run.path, texts[:TEXTS_OF_A_START]))
                bar.update()
        timings = [
            _time_runs(runs, texts, count, rounds, of_lengths, bar.update) for count in threads
        ]
    costs = {}
    for place, (name, run) in enumerate(zip(names, runs, strict=True)):
        costs[name] = RunCosts(
            path=str(run.path),
            approach=read_settings(run.path / "model")["approach"],
            mib=folder_mib(run.path / "model"),
            peak_memory_mib=statistics.median(one["peak_memory_mib"] for one in starts[place]),
            cold_start=summarize_starts(starts[place]),
            threads={
                str(count): timing[place] for count, timing in zip(threads, timings, strict=True)
            },
        )
    settings = Settings(
        texts=len(texts),
        words=statistics.median(len(" ".join(text).split()) for text in texts),
        block=BLOCK,
        rounds=rounds,
        threads=list(threads),
        starts=STARTS,
        load_before=busy,
    )
    return BenchmarkReport(
        runs=costs,
        settings=settings,
        instructions=instruction_sets(),
        environment=describe_environment(),
    )


def name_runs(runs: Sequence[RunFolder]) -> list[str]:
    """Return what to call runs: by the names of their folders, or by their paths if these repeat.

    Raises:
        UserError: when a run is given twice.
    """
    paths, names = [run.path.resolve() for run in runs], [run.name for run in runs]
    if twice := {str(path) for path in paths if paths.count(path) > 1}:
        raise UserError("a run is given twice:", sorted(twice), "Give each --run once.")
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


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


def _check(texts: Sequence[Text], threads: Sequence[int], rounds: int) -> None:
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
    if problems:
        raise UserError("the benchmark cannot be made:", problems)


def _time_runs(  # noqa: PLR0917
    runs: Sequence[RunFolder],
    texts: Sequence[Text],
    threads: int,
    rounds: int,
    of_lengths: int,
    done: Callable[[], object],
) -> list[Timing]:
    """Load the runs, and time them with one number of threads; a result a run."""
    with ExitStack() as stack:
        served = [stack.enter_context(serve_run(run.path, threads)) for run in runs]
        times = time_single_items(served, texts, rounds, done)
        lengths: list[dict[str, LengthTimes]] = [{} for _ in runs]
        for words in LENGTHS:
            fitted = fit_length(texts, words)
            for place, own in enumerate(time_single_items(served, fitted, of_lengths, done)):
                one = summarize_times(own)
                lengths[place][str(words)] = LengthTimes(
                    p50_ms=one.p50_ms, p99_ms=one.p99_ms, items=own.size
                )
        throughput = time_batches(served, texts[:MOST_TOGETHER], THROUGHPUT_ROUNDS, done)
    return [
        Timing(
            batch_1=summarize_single_items(times[0], times[place]),
            lengths=lengths[place],
            throughput=throughput[place],
        )
        for place in range(len(runs))
    ]
