"""Holds what answers requests together: the run, the store, and the two threads that work."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import SystemRandom
from typing import TypeVar

from sqlalchemy import Connection

from tagger.data.items import Item
from tagger.rollout.arms import Answered
from tagger.service.bodies import ItemIn
from tagger.service.challenger import Challenger
from tagger.service.database import Store
from tagger.service.inference import Inference, Prediction, as_read
from tagger.service.keys import now_ms
from tagger.service.meaning import MeaningIndex
from tagger.service.refusals import Refusal
from tagger.service.settings import ServiceConfig
from tagger.service.writer import Writer

T = TypeVar("T")

READERS = 4
"""Threads that read the store beside each other."""


@dataclass
class Service:
    """What the addresses do their work with.

    Attributes:
        run: Name and version of the run.
        tags: The approved tags.
        config: All settings.
        store: Where everything is kept.
        inference: The thread that classifies.
        writer: The thread that writes; it alone adds to the index of meaning.
        meaning: The index of meaning; None where the run has no encoder.
        challenger: Lets the new run of a rollout answer too.
        differing: Stored samples that this machine answers otherwise; None until they were tried.
        now: Milliseconds, for tests.
        draw: A number from 0 to 1 that nobody foresees: the random sample is drawn by it.
        readers: The threads that read.
    """

    run: dict[str, str]
    tags: Sequence[str]
    config: ServiceConfig
    store: Store
    inference: Inference
    writer: Writer
    meaning: MeaningIndex | None = None
    challenger: Challenger | None = None
    differing: list[str] | None = None
    now: Callable[[], int] = now_ms
    draw: Callable[[], float] = SystemRandom().random
    readers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(READERS))

    @property
    def dead(self) -> list[str]:
        """The threads that do not run."""
        threads: list[threading.Thread] = [self.inference, self.writer]
        return [thread.name for thread in threads if not thread.is_alive()]

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read from the store, beside other requests."""

        def reading() -> T:
            with self.store.reading() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self.readers, reading)

    async def write(
        self, work: Callable[[Connection], T], then: Callable[[T], None] | None = None
    ) -> T:
        """Write to the store; what is returned is on disk, and was told to `then`."""
        self.check_alive()
        return await asyncio.wrap_future(self.writer.submit(work, then))

    async def classify(self, items: Sequence[ItemIn]) -> list[Prediction]:
        """Ask the run."""
        self.check_alive()
        if self.differing != []:
            raise Refusal(503, "the service is not ready: see /readyz", retry_after=1)
        if not items:
            return []
        return await asyncio.wrap_future(self.inference.submit(self._as_read(items)))

    @property
    def compares(self) -> bool:
        """Whether a second run answers."""
        status = None if self.challenger is None else self.challenger.status
        return status is not None and status.inference is not None

    async def answer(
        self, items: Sequence[ItemIn], groups: Sequence[int] | None
    ) -> list[tuple[Prediction, Answered | None]]:
        """Ask the run about items that are to be kept, and the new one of a rollout beside it.

        Args:
            items: To classify.
            groups: Of duplicates, see `group_of`; None: the new run is not asked.
        """
        asked = None
        if self.challenger is not None and groups is not None and self.differing == []:
            asked = self.challenger.ask(self._as_read(items), groups)
        predictions = await self.classify(items)
        if asked is None:
            return [(one, None) for one in predictions]
        return [*await asked.compare(predictions)]

    def _as_read(self, items: Sequence[ItemIn]) -> list[Item]:
        most = self.config.limits.text_characters
        return [as_read(one.title, one.description, most, one.id or "") for one in items]

    def truncated(self, item: ItemIn) -> bool:
        """Whether an item is cut before the model reads it."""
        return max(len(item.title), len(item.description)) > self.config.limits.text_characters

    def check_alive(self) -> None:
        """Refuse a request that nobody would answer."""
        if self.dead:
            raise Refusal(503, f"a part of the service has ended: {', '.join(self.dead)}")

    def check_count(self, items: Sequence[ItemIn]) -> None:
        """Refuse a request with more items than may be in one."""
        if len(items) > (most := self.config.limits.items):
            raise Refusal(422, f"{len(items)} items: at most {most} may be in one request")

    def check_tag(self, tag: str | None) -> None:
        """Refuse a tag that is not approved."""
        if tag is not None and tag not in self.tags:
            raise Refusal(422, f"{tag!r} is no tag here: {', '.join(self.tags)}")
