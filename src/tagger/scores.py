"""Computes accuracy, precision, recall and F1 from confusion matrices.

Plain numpy over confusion matrices: the training loop needs no import of scikit-learn, which takes
most of a second, and a bootstrap scores thousands of resamples at once. Tests hold the numbers
against scikit-learn's with `labels=` all tags and `zero_division=0`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

AVERAGES = ("micro", "macro", "weighted")
PER_CLASS = ("precision", "recall", "f1")
OVERALL = ("accuracy", *(f"{average}_{metric}" for average in AVERAGES for metric in PER_CLASS))


def confusion_matrix(
    true: Sequence[int] | npt.NDArray[np.integer],
    predicted: Sequence[int] | npt.NDArray[np.integer],
    n_tags: int,
) -> IntArray:
    """Count the pairs of true and predicted tag.

    Args:
        true: Positions in the list of approved tags, shape (n,).
        predicted: The same, shape (n,).
        n_tags: Length of that list. Tags that do not occur keep their row and column of zeros.

    Returns:
        Counts, shape (n_tags, n_tags); rows are true tags, columns predicted ones.

    Raises:
        ValueError: If the lengths differ or a position is outside the list.
    """
    rows, columns = np.asarray(true, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"true {rows.shape} and predicted {columns.shape} must be equal, (n,)")
    both = np.concatenate([rows, columns])
    if both.size and not 0 <= both.min() <= both.max() < n_tags:
        raise ValueError(f"tags count from 0 to {n_tags - 1}, found {both.min()} to {both.max()}")
    counts = np.bincount(rows * n_tags + columns, minlength=n_tags * n_tags)
    return counts.reshape(n_tags, n_tags).astype(np.int64)


def scores_from_confusion(confusion: npt.NDArray[np.integer]) -> dict[str, FloatArray]:
    """Compute every score of one confusion matrix, or of many at once.

    What would be 0/0 is 0, for tags that never occur too: a macro average is over all approved
    tags, whatever the rows at hand, so that it means the same in every report.

    Args:
        confusion: Counts, shape (..., n_tags, n_tags), rows true.

    Returns:
        The names of `OVERALL` with shape (...), those of `PER_CLASS` and `support` with shape
        (..., n_tags).
    """
    counts = confusion.astype(np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    total = support.sum(axis=-1)
    classes = {
        "precision": _divide(hits, predicted),
        "recall": _divide(hits, support),
        "f1": _divide(2 * hits, support + predicted),
    }
    accuracy = _divide(hits.sum(axis=-1), total)
    scores = {"accuracy": accuracy, "support": support, **classes}
    weights = _divide(support, total[..., None])
    for name, values in classes.items():
        # One tag an item: each false positive is another tag's false negative, so all three
        # micro averages are the accuracy.
        scores[f"micro_{name}"] = accuracy
        scores[f"macro_{name}"] = values.mean(axis=-1)
        scores[f"weighted_{name}"] = (values * weights).sum(axis=-1)
    return scores


def softmax(logits: FloatArray) -> FloatArray:
    """Turn logits (n, n_tags) into probabilities, whose rows sum to 1."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: FloatArray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
