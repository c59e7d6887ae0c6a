"""Makes progress bars that look alike."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

_HIDDEN = ContextVar("hidden", default=False)


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide the progress bars of what is called within."""
    token = _HIDDEN.set(True)
    try:
        yield
    finally:
        _HIDDEN.reset(token)


def progress_bar(
    total: int, description: str, unit: str, initial: int = 0, shown: bool = True
) -> "tqdm[Any]":
    """Make a bar on standard error: lively in a terminal, a line every ten seconds in a log."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    hidden = {} if shown and not _HIDDEN.get() else {"disable": True}  # else TQDM_DISABLE decides
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        mininterval=interval,
        miniters=0,  # by time alone: what stands behind the bar changes while the count does not
        **hidden,
    )
