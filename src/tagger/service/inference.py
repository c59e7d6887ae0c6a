"""Classifies by one thread, which computes what came in during its last call together."""

import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread

from tagger.data.items import Item
from tagger.decision.decider import Decider
from tagger.decision.policies import REVIEW
from tagger.scores import FloatArray
from tagger.service.writer import QueueFullError

MOST_TOGETHER = 64
TOGETHER_SECONDS = 0.005
"""Most items of one call, and what it may take, unless one request has more, so that the first of
them do not wait long."""
STANDING_SECONDS = 0.1
"""How long the thread must have been busy for its queue to be one that stands, and no burst: a
burst that takes no longer is answered (Maurer, "Fail at Scale", ACM Queue 2015)."""
LATEST = 0.1
"""Weight of the last call in the mean time of an item."""


@dataclass(frozen=True)
class Prediction:
    """What a run says of an item.

    Attributes:
        published: The tag that is certain enough to be published; None: a person is asked.
        tag: The most probable one.
        probabilities: Calibrated, of each tag, with six digits.
        reason: Why a person is asked; "" where none is.
        vector: Of the run's encoder, (width,); None where it has none.
    """

    published: str | None
    tag: str
    probabilities: dict[str, float]
    reason: str
    vector: FloatArray | None = field(default=None, compare=False)


Job = tuple[Sequence[Item], "Future[list[Prediction]]"]


class Inference(Thread):
    """Answers requests in the order in which they come; there is no window to wait for.

    Args:
        decider: The run's.
        most_waiting: Most items that may wait.
        most_seconds: Longest that a standing queue may take, by the time that items took lately,
            before `is_late` says so.
    """

    def __init__(self, decider: Decider, most_waiting: int, most_seconds: float = math.inf) -> None:
        super().__init__(name="inference", daemon=True)
        self.decider = decider
        self.most_waiting = most_waiting
        self.most_seconds = most_seconds
        self.waiting = 0
        self._item_seconds = 0.0
        self._busy_since = math.inf  # while it is not
        self._busy_until = 0.0
        self._jobs: deque[Job] = deque()
        self._changed = Condition()
        self._stopping = False

    def submit(self, items: Sequence[Item]) -> "Future[list[Prediction]]":
        """Let items be classified; those of a future that is cancelled before are not.

        Raises:
            QueueFullError: when too many wait.
        """
        future: Future[list[Prediction]] = Future()
        with self._changed:
            # However few may wait, a request is taken when none does.
            if self.waiting and self.waiting + len(items) > self.most_waiting:
                raise QueueFullError
            self.waiting += len(items)
            self._jobs.append((items, future))
            self._changed.notify()
        return future

    def is_late(self) -> bool:
        """Whether what comes now would wait too long: refused, it spares others to be late too."""
        now = time.monotonic()
        before = max(0.0, self._busy_until - now) + self.waiting * self._item_seconds
        standing = now - self._busy_since > STANDING_SECONDS
        most = self.most_seconds if standing else max(self.most_seconds, STANDING_SECONDS)
        return self.waiting > 0 and before > most

    def stop(self) -> None:
        """Answer what waits, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self.join()

    def run(self) -> None:
        """Work until told to stop."""
        while jobs := self._take():
            jobs = [job for job in jobs if job[1].set_running_or_notify_cancel()]
            began = time.monotonic()
            self._answer(jobs)
            if count := sum(len(items) for items, _ in jobs):
                taken = (time.monotonic() - began) / count
                self._item_seconds += LATEST * (taken - self._item_seconds)

    def _take(self) -> list[Job]:
        with self._changed:
            while not self._jobs and not self._stopping:
                self._busy_since = math.inf
                self._changed.wait()
            jobs: list[Job] = []
            count = 0
            most = min(MOST_TOGETHER, TOGETHER_SECONDS / max(self._item_seconds, 1e-9))
            while self._jobs and (not jobs or count + len(self._jobs[0][0]) <= most):
                jobs.append(self._jobs.popleft())
                count += len(jobs[-1][0])
            self.waiting -= count
            now = time.monotonic()
            self._busy_since = min(self._busy_since, now)
            self._busy_until = now + count * self._item_seconds
            return jobs

    def _answer(self, jobs: Sequence[Job]) -> None:
        """Answer requests together; where that fails one is to blame, and each is asked alone."""
        items = [item for ours, _ in jobs for item in ours]
        try:
            predictions = iter(predict(self.decider, items) if items else [])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0][1].set_exception(error)
            else:
                for job in jobs:
                    self._answer([job])
            return
        for ours, future in jobs:
            future.set_result([next(predictions) for _ in ours])


def as_read(title: str, description: str, characters: int, item_id: str = "") -> Item:
    """Return an item as the model reads it: no more than so many characters of each text."""
    return Item(item_id, title.strip()[:characters], description.strip()[:characters])


def predict(decider: Decider, items: Sequence[Item]) -> list[Prediction]:
    """Return what a run says of items, as `tagger predict` writes it."""
    decisions = decider.decide(items)
    tags = decider.tags
    return [
        Prediction(
            None if decided == REVIEW else tags[decided],
            tags[best],
            {tag: round(p, 6) for tag, p in zip(tags, row, strict=True)},
            reason,
            vector,
        )
        for decided, best, row, reason, vector in zip(
            decisions.tags.tolist(),
            decisions.predicted.tolist(),
            decisions.probabilities.tolist(),
            decisions.reasons,
            [None] * len(items) if decisions.vectors is None else decisions.vectors,
            strict=True,
        )
    ]
