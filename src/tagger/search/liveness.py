"""Tells whether a worker process of this machine still runs, by a lock that ends with it.

The number of a process says too little: it is given to another one later, and it means something
else in another container. A lock is released by the operating system, however the process ends.
"""

import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def named_worker() -> Iterator[str]:
    """Yield a name for this process that `lives` recognizes for as long as the process runs.

    An exception leaves the name behind as that of a dead worker, which may have had a trial.
    """
    worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
    with FileLock(_lock_file(worker), thread_local=False):
        yield worker
    forget(worker)


def lives(worker: str) -> bool | None:
    """Return whether a worker runs; None if it can't be known here, as of another machine."""
    path = _lock_file(worker)
    if worker.partition(":")[0] != socket.gethostname() or not path.exists():
        return None
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # of another user
        return None


def forget(worker: str) -> None:
    """Remove what a worker that has ended left on this machine."""
    with suppress(OSError):
        _lock_file(worker).unlink()


def _lock_file(worker: str) -> Path:
    # Not in the sweep's folder: machines may share that one, and not the locks of its files.
    return Path(tempfile.gettempdir()) / f"tagger-worker-{worker.rpartition(':')[2]}.lock"
