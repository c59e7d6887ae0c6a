"""Limits how many requests a second one key, or one address, may send."""

import math
import time
from collections.abc import Callable

MOST_KEPT = 10_000
"""Most that are kept count of; beyond it, those that have been quiet longest are forgotten."""


class RateLimit:
    """A token bucket for each name: it holds some seconds' requests, and fills steadily.

    Args:
        per_second: Most requests.
        seconds: How many seconds' requests may come at once.
        clock: Seconds, for tests.
    """

    def __init__(
        self,
        per_second: float,
        seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_second = per_second
        self.most = max(1.0, per_second * seconds)
        self.clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, name: str) -> int:
        """Count a request; return 0, or after how many whole seconds the next one may come."""
        now = self.clock()
        left, then = self._left.pop(name, (self.most, now))
        left = min(self.most, left + (now - then) * self.per_second)
        allowed = left >= 1
        self._left[name] = (left - allowed, now)  # last in the order of the dictionary
        if len(self._left) > MOST_KEPT:
            del self._left[next(iter(self._left))]
        return 0 if allowed else math.ceil((1 - left) / self.per_second)
