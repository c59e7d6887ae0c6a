"""Predictions over many rows."""

from collections.abc import Iterator, Sequence

import numpy as np

from tagger.data.items import Item
from tagger.decision.decider import Decider, Decisions
from tagger.models.base import Classifier
from tagger.progress import progress_bar
from tagger.scores import FloatArray

CHUNK = 64  # rows between two steps of the progress bar


def predict(classifier: Classifier, items: Sequence[Item]) -> FloatArray:
    """Return probabilities (n_items, n_tags), with a progress bar."""
    parts = [np.empty((0, len(classifier.tags)))]
    parts += [classifier.predict_proba(chunk) for chunk in _chunks(items, "predict")]
    return np.concatenate(parts)


def decide(decider: Decider, items: Sequence[Item]) -> Decisions:
    """Predict and decide, with a progress bar."""
    parts = [decider.decide(chunk) for chunk in _chunks(items, "decide")]
    return Decisions(
        np.concatenate([part.raw for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.tags for part in parts]),
    )


def _chunks(items: Sequence[Item], description: str) -> Iterator[Sequence[Item]]:
    """Yield items a chunk at a time; the bar moves on when the next one is asked for."""
    with progress_bar(len(items), description, "item") as bar:
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            yield chunk
            bar.update(len(chunk))
