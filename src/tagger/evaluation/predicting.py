"""Predictions over many rows."""

from collections.abc import Sequence

import numpy as np

from tagger.data.items import Item
from tagger.decision.decider import Decider, Decisions
from tagger.models.base import Classifier
from tagger.progress import progress_bar
from tagger.scores import FloatArray, IntArray

CHUNK = 64  # rows between two steps of the progress bar


def predict(classifier: Classifier, items: Sequence[Item]) -> FloatArray:
    """Return probabilities (n_items, n_tags), with a progress bar."""
    parts = [np.empty((0, len(classifier.tags)))]
    with progress_bar(len(items), "predict", "item") as bar:
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            parts.append(classifier.predict_proba(chunk))
            bar.update(len(chunk))
    return np.concatenate(parts)


def decide(decider: Decider, items: Sequence[Item]) -> Decisions:
    """Predict and decide, with a progress bar."""
    parts = []
    with progress_bar(len(items), "decide", "item") as bar:
        for start in range(0, len(items), CHUNK):
            parts.append(decider.decide(items[start : start + CHUNK]))
            bar.update(min(CHUNK, len(items) - start))
    return Decisions(
        np.concatenate([part.raw for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.tags for part in parts]),
    )


def tag_positions(items: Sequence[Item], tags: Sequence[str]) -> IntArray:
    """Return the position of each item's tag in the approved list, shape (n_items,)."""
    position = {tag: index for index, tag in enumerate(tags)}
    return np.array([position[str(item.tag)] for item in items], dtype=np.int64)
