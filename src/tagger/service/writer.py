"""Writes to the store by one thread, which commits what came in meanwhile together."""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection

from tagger.service.database import LockLostError, Store, StoreUnavailableError

T = TypeVar("T")

MOST_TOGETHER = 256
"""Most works of one commit, so that the first of them does not wait long."""


class QueueFullError(Exception):
    """More waits already than may."""


class Writer(Thread):
    """Carries out works on the store one by one; each is whole or not at all.

    The future of a work has its result when what it wrote is on disk, never before.

    Args:
        store: Where to.
        most_waiting: Most works that may wait.
        check: Raises `LockLostError` where the store is no longer this process's, before anything
            is written: the thread ends then, and with it the service.
    """

    def __init__(
        self, store: Store, most_waiting: int, check: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(name="writer", daemon=True)
        self.store = store
        self.check = check
        self._waiting: queue.Queue[tuple[Callable[[Connection], Any], Future[Any]] | None] = (
            queue.Queue(most_waiting)
        )

    @property
    def waiting(self) -> int:
        """How many works wait."""
        return self._waiting.qsize()

    def submit(
        self, work: Callable[[Connection], T], then: Callable[[T], None] | None = None
    ) -> "Future[T]":
        """Let a work be done; one whose future is cancelled before is not.

        Args:
            work: Writes; it may be asked again where another one fails.
            then: Called by the writer's thread with a result that is on disk.

        Raises:
            QueueFullError: when too many wait.
        """
        future: Future[T] = Future()
        if then is not None:
            future.add_done_callback(lambda done: _succeeded(done) and then(done.result()))
        try:
            self._waiting.put_nowait((work, future))
        except queue.Full:
            raise QueueFullError from None
        return future

    def stop(self) -> None:
        """Finish what waits, and end."""
        self._waiting.put(None)
        self.join()

    def run(self) -> None:
        """Work until told to stop."""
        stopping = False
        while not stopping:
            batch = [self._waiting.get()]
            while len(batch) < MOST_TOGETHER and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            works = [(w, f) for w, f in filter(None, batch) if f.set_running_or_notify_cancel()]
            stopping = None in batch
            try:
                if works:
                    self._write(works)
            except LockLostError:
                stopping = True

    def _write(self, batch: list[tuple[Callable[[Connection], Any], "Future[Any]"]]) -> None:
        """Carry out works in a transaction.

        Where one fails nothing of the transaction is left, and each half is carried out anew: the
        work that is to blame fails alone, and savepoints, which take longer than some works, are
        not needed.

        Raises:
            LockLostError: when the store is lost to another process.
        """
        try:
            with self.store.writing() as connection:
                self.check()  # after the begin: a server that ends now undoes what follows
                results = [work(connection) for work, _ in batch]
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreUnavailableError):
                middle = len(batch) // 2
                try:
                    self._write(batch[:middle])
                finally:
                    self._write(batch[middle:])
                return
            for _, future in batch:
                future.set_exception(error)
            if isinstance(error, LockLostError):
                raise
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)


def _succeeded(future: "Future[Any]") -> bool:
    return not future.cancelled() and future.exception() is None
