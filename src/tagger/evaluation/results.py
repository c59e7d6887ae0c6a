"""Rows, and what a run made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tagger.data.items import Item
from tagger.decision.policies import most_probable
from tagger.scores import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Results:
    """Labelled rows with a run's probabilities.

    Attributes:
        items: The rows, n.
        true: Position of the true tag, (n,).
        probabilities: (n, n_tags), corrected.
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
        """Its probability, (n,)."""
        highest: FloatArray = self.probabilities.max(axis=1)
        return highest

    @cached_property
    def wrong(self) -> BoolArray:
        """Whether it is another than the true tag, (n,)."""
        differs: BoolArray = self.predicted != self.true
        return differs
