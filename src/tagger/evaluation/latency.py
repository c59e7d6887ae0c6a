"""How long one item takes, from its strings to the decision."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tagger.config import LatencyConfig
from tagger.data.items import Item
from tagger.decision.decider import Decider
from tagger.environment import available_cores


def measure_latency(
    decider: Decider, items: Sequence[Item], config: LatencyConfig
) -> dict[str, Any]:
    """Time items one by one: strings, tokens, model, probabilities, decision.

    Args:
        decider: A classifier and its rule, loaded and ready.
        items: Texts to use, at least one; they are used in turn, again and again.
        config: How many items, how many before the clock starts, how many threads.

    Returns:
        Ready for JSON: `p50_ms`, `p95_ms`, `p99_ms`, `mean_ms`, and what they were measured with:
        `items`, `warmup`, `batch_size`, `threads`.
    """
    texts = [(item.title, item.description) for item in items]

    def decide(number: int) -> int:
        title, description = texts[number % len(texts)]
        return int(decider.decide([Item("", title, description)]).tags[0])

    threads = config.threads or available_cores()
    milliseconds = np.empty(config.items)
    with _torch_threads(threads):
        for number in range(config.warmup):
            decide(number)
        for number in range(config.items):
            start = time.perf_counter_ns()
            decide(number)
            milliseconds[number] = (time.perf_counter_ns() - start) / 1e6
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "mean_ms": float(milliseconds.mean()),
        "items": config.items,
        "warmup": config.warmup,
        "batch_size": 1,
        "threads": threads,
    }


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
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
