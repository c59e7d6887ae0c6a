"""Measures the latency of one item, from its strings to the decision."""

import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from tagger.config.schema import LatencyConfig
from tagger.data.items import Item
from tagger.decision.decider import Decider
from tagger.evaluation.report import EvaluationReport, Latency, LatencyTimes
from tagger.scores import FloatArray
from tagger.threads import usable_threads

Text = tuple[str, str]
"""A title and a description."""

CONFIRMATIONS = 5
"""Measurements that must agree with a first one by which a model is too slow."""


def measure_latency(decider: Decider, items: Sequence[Item], config: LatencyConfig) -> Latency:
    """Time items one by one: strings, tokens, model, probabilities, decision.

    Args:
        decider: A classifier and its rule, loaded and ready; where its engine settles its threads
            when it loads, under `cores_limited`.
        items: Texts to use, at least one; they are used in turn, again and again.
        config: How many items, how many before the clock starts, how many threads.
    """
    texts = [(item.title, item.description) for item in items]
    threads = config.threads or usable_threads()
    with torch_threads(threads):
        time_decisions(decider, take_in_turn(texts, config.warmup))
        milliseconds = time_decisions(decider, take_in_turn(texts, config.items))
    return Latency(
        **dict(summarize_times(milliseconds)),
        items=config.items,
        warmup=config.warmup,
        batch_size=1,
        threads=threads,
    )


def measure_within_budget(
    decider: Decider, items: Sequence[Item], config: LatencyConfig, budget_ms: float | None
) -> Latency:
    """Measure the latency and hold it to a budget; what is over it is measured again.

    Other processes can stop a program for longer than an item takes, and p99 of few items is a
    matter of two or three of them. So a model is too slow only if it was in all of a series of
    measurements, `CONFIRMATIONS` times as long as the first alone.
    """
    measurements = 1
    latency = measure_latency(decider, items, config)
    while budget_ms is not None and latency.p99_ms > budget_ms and measurements <= CONFIRMATIONS:
        measurements += 1
        latency = measure_latency(decider, items, config)
    within = None if budget_ms is None else latency.p99_ms <= budget_ms
    budget = {"budget_ms": budget_ms, "within_budget": within}
    return latency.model_copy(update={"measurements": measurements, **budget})


def time_decisions(decider: Decider, texts: Sequence[Text]) -> FloatArray:
    """Decide on texts one by one, and return the milliseconds that each took, (n_texts,).

    Python's garbage collector waits meanwhile: when it runs depends on all that the process did
    before.
    """
    nanoseconds = np.empty(len(texts), np.int64)
    with without_collection():
        for number, (title, description) in enumerate(texts):
            start = time.perf_counter_ns()
            int(decider.decide([Item("", title, description)]).tags[0])
            nanoseconds[number] = time.perf_counter_ns() - start
    milliseconds: FloatArray = nanoseconds / 1e6
    return milliseconds


def take_in_turn(texts: Sequence[Text], count: int, start: int = 0) -> list[Text]:
    """Return so many of some texts, from a place on, beginning again after the last."""
    return [texts[number % len(texts)] for number in range(start, start + count)]


def summarize_times(milliseconds: FloatArray) -> LatencyTimes:
    """Return quantiles and the mean of times (n,), n at least 1."""
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99]).tolist()
    return LatencyTimes(p50_ms=p50, p95_ms=p95, p99_ms=p99, mean_ms=float(milliseconds.mean()))


def over_budget(report: EvaluationReport) -> list[str]:
    """Say in a line that the run of a report is too slow, if it is."""
    latency = report.latency
    if latency.within_budget is not False:
        return []
    return [
        f"too slow: 1 of 100 items takes {latency.p99_ms:.1f} ms or more, measured "
        f"{latency.measurements} times, and "
        f"latency_budget_ms={latency.budget_ms:g}"
    ]


@contextmanager
def cores_limited(count: int | None) -> Iterator[None]:
    """Hide all but so many cores from what is done meanwhile; None hides none.

    Systems that cannot limit a process to some cores ignore it.
    """
    if count is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads, if it is in use at all."""
    # A classifier that uses torch has imported it by now; for one that does not, its threads are
    # none of our business, and the import would cost seconds.
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep Python's garbage collector from running."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
