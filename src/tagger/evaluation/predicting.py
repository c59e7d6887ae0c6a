"""Predictions over many rows."""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from tagger.data.items import Item
from tagger.evaluation.scores import FloatArray, IntArray
from tagger.models.base import Classifier

CHUNK = 64  # rows between two steps of the progress bar


def predict(classifier: Classifier, items: Sequence[Item]) -> FloatArray:
    """Return probabilities (n_items, n_tags), with a progress bar where a person watches."""
    parts = [np.empty((0, len(classifier.tags)))]
    with tqdm(total=len(items), desc="predict", unit="item", disable=None, leave=False) as bar:
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            parts.append(classifier.predict_proba(chunk))
            bar.update(len(chunk))
    return np.concatenate(parts)


def tag_positions(items: Sequence[Item], tags: Sequence[str]) -> IntArray:
    """Return the position of each item's tag in the approved list, shape (n_items,)."""
    position = {tag: index for index, tag in enumerate(tags)}
    return np.array([position[str(item.tag)] for item in items], dtype=np.int64)
