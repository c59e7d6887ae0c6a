"""Runs timed side by side: A B, B A, A B, so that what the machine does meanwhile meets them all.

Two runs that are timed one after the other are also compared by what else the machine did in the
first minute and in the second. Here each run answers a short block of texts before the next run
answers the same block, and runs are compared within such a round.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tagger.data.items import Item
from tagger.decision.decider import Decider
from tagger.evaluation.latency import (
    Text,
    summarize_times,
    take_in_turn,
    time_decisions,
    without_collection,
)
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


@dataclass(frozen=True)
class Rounds:
    """How long something is measured.

    Attributes:
        most: Number of rounds.
        seconds: No round begins after so much time; the first always does. None: no limit.
        done: Called after each round, while no clock runs.
    """

    most: int
    seconds: float | None
    done: Callable[[], None]

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the rounds, from 0."""
        begun = time.monotonic()
        for number in range(self.most):
            late = self.seconds is not None and time.monotonic() - begun >= self.seconds
            if number and late:
                return
            yield number
            self.done()


def run_order(runs: int, number: int) -> list[int]:
    """Return in which order runs answer in a round: forwards in even ones, backwards in odd."""
    return list(range(runs))[:: -1 if number % 2 else 1]


class Answering(Protocol):
    """A loaded run whose answers are timed where it is."""

    def one_by_one(self, texts: Sequence[Text]) -> FloatArray:
        """Decide on texts one by one; return the milliseconds that each took, (n_texts,)."""
        ...

    def together(self, texts: Sequence[Text]) -> float:
        """Decide on all texts in one call; return items a second."""
        ...


class Here:
    """A run in this process."""

    def __init__(self, decider: Decider) -> None:
        self.decider = decider

    def one_by_one(self, texts: Sequence[Text]) -> FloatArray:
        """Decide on texts one by one; return the milliseconds that each took, (n_texts,)."""
        return time_decisions(self.decider, texts)

    def together(self, texts: Sequence[Text]) -> float:
        """Decide on all texts in one call; return items a second."""
        items = [Item("", title, description) for title, description in texts]
        with without_collection():
            start = time.perf_counter_ns()
            self.decider.decide(items)
            return len(items) / (time.perf_counter_ns() - start) * 1e9


def time_one_by_one(runs: Sequence[Answering], texts: Sequence[Text], rounds: Rounds) -> FloatArray:
    """Time single items, the runs interleaved.

    Args:
        runs: Loaded.
        texts: What they answer, at least one; used in turn.
        rounds: How many blocks each answers.

    Returns:
        Milliseconds, (n_rounds, n_runs, `BLOCK`).
    """
    for run in runs:
        run.one_by_one(take_in_turn(texts, WARMUP))
    measured = []
    for number in rounds:
        start = number * BLOCK
        block = take_in_turn(texts, BLOCK, start)
        milliseconds = np.empty((len(runs), BLOCK))
        for place in run_order(len(runs), number):
            time.sleep(SETTLE_SECONDS)
            runs[place].one_by_one(take_in_turn(texts, LEAD_IN, start - LEAD_IN))
            milliseconds[place] = runs[place].one_by_one(block)
        measured.append(milliseconds)
    return np.array(measured)


def time_together(runs: Sequence[Answering], texts: Sequence[Text], rounds: Rounds) -> FloatArray:
    """Let each run decide on all texts in one call, the runs interleaved.

    Returns:
        Items a second, (n_rounds, n_runs).
    """
    for run in runs:
        run.together(texts[:WARMUP])
    measured = []
    for number in rounds:
        rates = np.empty(len(runs))
        for place in run_order(len(runs), number):
            time.sleep(SETTLE_SECONDS)
            rates[place] = runs[place].together(texts)
        measured.append(rates)
    return np.array(measured)


def fit_length(texts: Sequence[Text], words: int) -> list[Text]:
    """Cut texts to so many words, or say them again until they have as many; title first."""
    fitted = []
    for title, description in texts:
        title_words, all_words = title.split(), [*title.split(), *description.split()]
        found = [all_words[place % len(all_words)] for place in range(words)]
        head = min(len(title_words), words)
        fitted.append((" ".join(found[:head]), " ".join(found[head:])))
    return fitted


def summarize_tail(milliseconds: FloatArray) -> dict[str, float | None]:
    """Return what `summarize_times` does, and `p999_ms`: None of fewer than 1,000 times."""
    enough = milliseconds.size >= FEWEST_FOR_P999
    p999 = float(np.percentile(milliseconds, 99.9)) if enough else None
    return {**dict(summarize_times(milliseconds)), "p999_ms": p999, "items": milliseconds.size}


def paired_ratio(first: FloatArray, other: FloatArray, seed: int = 0) -> dict[str, float]:
    """Say how many times as long one run takes as the first: below 1 it is faster.

    Args:
        first: Milliseconds of the first run, (n_rounds, items a round).
        other: Those of the other run in the same rounds.
        seed: Of the bootstrap.

    Returns:
        `value`, the median over rounds of the ratio of the medians within a round, and `low` and
        `high`, its 95 % percentile-bootstrap interval over rounds.
    """
    ratios = np.median(other, axis=1) / np.median(first, axis=1)
    drawn = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return {"value": float(np.median(ratios)), "low": float(low), "high": float(high)}
