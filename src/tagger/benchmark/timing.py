"""Times runs in interleaved blocks (A B, B A), and compares them within a block.

Two runs that are timed one after the other are also compared by what else the machine did in the
first minute and in the second. Here each run answers a short block of texts before the next run
answers the same block.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tagger.benchmark.report import Ratio, SingleItems, Throughput
from tagger.benchmark.worker import LocalRun, ServedRun
from tagger.evaluation.latency import Text, summarize_times, take_in_turn
from tagger.scores import FloatArray

BLOCK = 50
"""Items that a run answers one by one before the next run does."""

WARMUP = 50
"""Items that each run answers before any clock starts."""

LEAD_IN = 10
"""Items at the head of a block that are not timed: they find the caches full of another run."""

SETTLE_SECONDS = 0.05
"""Pause before a block: the threads of the run before it spin for a while before they sleep."""

FEWEST_FOR_P999 = 1000
RESAMPLES = 2000

Runs = Sequence[LocalRun | ServedRun]


def time_single_items(
    runs: Runs, texts: Sequence[Text], rounds: int, done: Callable[[], object]
) -> FloatArray:
    """Time single items, the runs interleaved.

    Args:
        runs: Loaded.
        texts: What they answer, at least one; used in turn.
        rounds: How many blocks each answers.
        done: Called after each round, while no clock runs.

    Returns:
        Milliseconds, (n_runs, n_rounds, `BLOCK`).
    """
    for run in runs:
        run.time_each(take_in_turn(texts, WARMUP))
    milliseconds = np.empty((len(runs), rounds, BLOCK))
    for number, place in _turns(len(runs), rounds, done):
        start = number * BLOCK
        runs[place].time_each(take_in_turn(texts, LEAD_IN, start - LEAD_IN))
        milliseconds[place, number] = runs[place].time_each(take_in_turn(texts, BLOCK, start))
    return milliseconds


def time_batches(
    runs: Runs, texts: Sequence[Text], rounds: int, done: Callable[[], object]
) -> list[Throughput]:
    """Let each run decide on all texts in one call, interleaved as `time_single_items` does it."""
    for run in runs:
        run.time_batch(texts[:WARMUP])
    rates = np.empty((len(runs), rounds))
    for number, place in _turns(len(runs), rounds, done):
        rates[place, number] = runs[place].time_batch(texts)
    return [
        Throughput(
            items_per_second=float(np.median(own)),
            lowest=float(own.min()),
            highest=float(own.max()),
            items=len(texts),
            rounds=rounds,
        )
        for own in rates
    ]


def _turns(runs: int, rounds: int, done: Callable[[], object]) -> Iterator[tuple[int, int]]:
    """Yield each round and run, the runs forwards in even rounds and backwards in odd ones."""
    for number in range(rounds):
        for place in range(runs)[:: -1 if number % 2 else 1]:
            time.sleep(SETTLE_SECONDS)
            yield number, place
        done()


def fit_length(texts: Sequence[Text], words: int) -> list[Text]:
    """Cut texts to so many words, or repeat them until they have as many; title first."""
    fitted = []
    for title, description in texts:
        title_words, all_words = title.split(), [*title.split(), *description.split()]
        found = [all_words[place % len(all_words)] for place in range(words)]
        head = min(len(title_words), words)
        fitted.append((" ".join(found[:head]), " ".join(found[head:])))
    return fitted


def summarize_single_items(first: FloatArray, own: FloatArray) -> SingleItems:
    """Summarize the times of a run, and compare them with those of the first run.

    Args:
        first: Milliseconds of the first run, (n_rounds, items a round).
        own: Those of the run in the same rounds.
    """
    enough = own.size >= FEWEST_FOR_P999
    return SingleItems(
        **dict(summarize_times(own)),
        p999_ms=float(np.percentile(own, 99.9)) if enough else None,
        items=own.size,
        ratio=paired_ratio(first, own),
    )


def paired_ratio(first: FloatArray, own: FloatArray, seed: int = 0) -> Ratio:
    """Estimate how many times as long a run takes as the first: below 1 it is faster.

    Args:
        first: Milliseconds of the first run, (n_rounds, items a round).
        own: Those of the run in the same rounds.
        seed: Of the bootstrap.

    Returns:
        The median over rounds of the ratio of the medians within a round, with its 95 %
        percentile-bootstrap interval over rounds.
    """
    ratios = np.median(own, axis=1) / np.median(first, axis=1)
    drawn = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return Ratio(value=float(np.median(ratios)), low=float(low), high=float(high))
