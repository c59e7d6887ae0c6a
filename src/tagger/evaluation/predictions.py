"""Labelled items with a run's predicted probabilities, and how they are computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tagger.data.items import Item
from tagger.decision.decider import Decider, Decisions
from tagger.decision.policies import most_probable
from tagger.models.base import Classifier
from tagger.progress import progress_bar
from tagger.scores import BoolArray, FloatArray, IntArray

CHUNK = 64  # items between two steps of the progress bar


@dataclass(frozen=True)
class LabelledPredictions:
    """Labelled items with a run's predicted probabilities.

    Attributes:
        items: The items, n.
        true: Position of the true tag, (n,).
        probabilities: Corrected, (n, n_tags).
        tags: Names, in the order of the columns.
    """

    items: Sequence[Item]
    true: IntArray
    probabilities: FloatArray
    tags: Sequence[str]

    @cached_property
    def predicted(self) -> IntArray:
        """Position of the predicted tag, (n,)."""
        return most_probable(self.probabilities)

    @cached_property
    def confidence(self) -> FloatArray:
        """Probability of the predicted tag, (n,)."""
        highest: FloatArray = self.probabilities.max(axis=1)
        return highest

    @cached_property
    def wrong(self) -> BoolArray:
        """Whether the predicted tag is another than the true one, (n,)."""
        differs: BoolArray = self.predicted != self.true
        return differs

    def shown(self, row: int) -> dict[str, str]:
        """Return the true and the predicted tag of a row by name."""
        return {"true": self.tags[self.true[row]], "predicted": self.tags[self.predicted[row]]}


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
