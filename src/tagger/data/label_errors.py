"""Finds items whose tag is probably wrong, by confident learning.

Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR
2021), as cleanlab implements it: an item counts as another tag's when its out-of-fold probability
of that tag exceeds what is usual among items of that tag. The counts estimate how much of each tag
is mislabelled; the least credible items, by the margin between their own tag and the best other
one, are the suspects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelErrors:
    """What confident learning says of every item.

    Attributes:
        credibility: (n,), from 0 to 1: how well the tag agrees with the models. Sorting by it
            ranks all items, the most doubtful first.
        suspected: (n,), whether the item is among those estimated to be mislabelled.
        suggested: (n,), position of the tag that the models prefer to any other.
    """

    credibility: FloatArray
    suspected: BoolArray
    suggested: IntArray

    def ranking(self) -> IntArray:
        """Indices of all items, the most doubtful first; ties in the order of the file."""
        return np.argsort(self.credibility, kind="stable")


def find_label_errors(probabilities: FloatArray, labels: Sequence[int]) -> LabelErrors:
    """Rank items by how doubtful their tag is.

    Args:
        probabilities: (n, n_tags), out of fold: an item's row comes from models that did not see
            its tag.
        labels: The n tags as given, as positions. Tags that no item has are left out of account.

    Raises:
        ValueError: when fewer than two tags occur.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_normalized_margin_for_each_label

    given = np.asarray(labels, dtype=np.int64)
    present = np.unique(given)
    if len(present) < 2:
        raise ValueError(f"{len(present)} tag occurs, at least 2 are needed to compare")
    # cleanlab counts tags from 0 without gaps.
    position = np.searchsorted(present, given)
    # A trace for each: a model that gives all of an item to a tag that no item has divides by zero.
    rows = probabilities[:, present] + 1e-12
    rows = rows / rows.sum(axis=1, keepdims=True)
    return LabelErrors(
        credibility=get_normalized_margin_for_each_label(position, rows),
        suspected=find_label_issues(position, rows, filter_by="prune_by_noise_rate", n_jobs=1),
        suggested=present[rows.argmax(axis=1)],
    )
