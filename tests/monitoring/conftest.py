"""Streams of invented items, and a state to watch them in."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.monitoring.monitor import Incoming, Monitor
from tagger.monitoring.scores import score_names
from tagger.monitoring.state import MonitorState, begin_watch

Streams = Callable[..., Iterator[Incoming]]
TAGS = ["fruit", "metal"]
SYLLABLES = ["ka", "lo", "mi", "re", "su", "ta", "vo", "ne", "pi", "du", "ga", "zo"]


@pytest.fixture(scope="session")
def stream() -> Streams:
    """Makes rows of words of `words` kinds, with `errors` of the labels wrong."""

    def make(
        rows: int, seed: int, *, mean_length: float = 12.0, prefix: str = "", errors: float = 0.0
    ) -> Iterator[Incoming]:
        rng = np.random.default_rng(seed)
        for row in range(rows):
            length = 4 + rng.poisson(mean_length)
            words = [prefix + "".join(rng.choice(SYLLABLES, 4)) for _ in range(length)]
            sure = rng.uniform(0.7, 1.0)
            tag = int(rng.random() < 0.4)
            probabilities = np.array([sure, 1 - sure] if tag == 0 else [1 - sure, sure])
            label = TAGS[tag if rng.random() >= errors else 1 - tag]
            item = Item(f"{seed}-{row}", words[0], " ".join(words[1:]), tag=label)
            yield Incoming(item, f"2026-01-{1 + row % 28:02}", probabilities, tag)

    return make


@pytest.fixture
def state() -> MonitorState:
    """A state in which nothing was seen, with a promise of 0.9."""
    names = score_names(TAGS, pieces=False, ood=False)
    return MonitorState(
        run="a-run", files={}, tags=TAGS, names=names, alpha=0.05, promise=0.9,
        each_tag=False, home={}, watch=begin_watch(names),
    )  # fmt: skip


@pytest.fixture(scope="session")
def read() -> Callable[[MonitorState, Iterable[Incoming]], None]:
    """Reads rows into a state."""

    def read_rows(state: MonitorState, rows: Iterable[Incoming]) -> None:
        monitor = Monitor(state, None)
        for one in rows:
            monitor.read(one)

    return read_rows
