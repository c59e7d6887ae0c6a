"""Makes progress bars that look alike."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(
    total: int, description: str, unit: str, initial: int = 0, shown: bool = True
) -> "tqdm[Any]":
    """Make a bar on standard error: lively in a terminal, a line every ten seconds in a log."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    hidden = {} if shown else {"disable": True}  # else TQDM_DISABLE decides
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        mininterval=interval,
        miniters=0,  # by time alone: what stands behind the bar changes while the count does not
        **hidden,
    )
