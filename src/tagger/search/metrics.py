"""Computes the metrics that trials are scored by, and says which way each is to go."""

import numpy as np
from optuna.study import StudyDirection

from tagger.compare.scoring import SCORES
from tagger.config.schema import COST_METRICS
from tagger.evaluation.selective import area_under_risk_coverage, precision_at_coverage
from tagger.scores import BoolArray, FloatArray, IntArray, confusion_matrix, scores_from_confusion

SMALLER_IS_BETTER = ("aurc", "log_loss", *COST_METRICS)
COVERAGE = {"precision_at_80": 0.80, "precision_at_90": 0.90, "precision_at_95": 0.95}
LEAST_PROBABILITY = 1e-12


def score_rows(metric: str, probabilities: FloatArray, true: IntArray) -> float:
    """Score the predictions of some rows.

    Args:
        metric: One of `ROW_METRICS`. Precision at a coverage is that of the surest rows;
             `aurc` and `log_loss` are better the smaller they are.
        probabilities: (n, n_tags).
        true: Position of each row's tag, (n,).
    """
    best = probabilities.argmax(axis=1)
    if metric in SCORES:
        counts = confusion_matrix(true, best, probabilities.shape[1])
        return float(scores_from_confusion(counts)[metric])
    of_true = probabilities[np.arange(len(true)), true]
    return score_confidence(metric, probabilities.max(axis=1), best == true, of_true)


def score_confidence(
    metric: str, confidence: FloatArray, right: BoolArray, of_true: FloatArray
) -> float:
    """Score how well probabilities tell right answers from wrong ones.

    Args:
        metric: `aurc`, `log_loss`, or precision at a coverage.
        confidence: The largest probability of each row, (n,).
        right: Whether that was of the row's own tag, (n,).
        of_true: The probability of the row's own tag, (n,).
    """
    if metric == "log_loss":
        return float(-np.log(np.maximum(of_true, LEAST_PROBABILITY)).mean())
    if metric == "aurc":
        return area_under_risk_coverage(confidence, right)
    return precision_at_coverage(confidence, right, COVERAGE[metric])


def as_loss(metric: str, value: float) -> float:
    """Turn a value of a metric, or a difference of two, so that less is better."""
    return value if metric in SMALLER_IS_BETTER else -value


def direction_of(metric: str) -> StudyDirection:
    """Return which way a metric is to go."""
    smaller = metric in SMALLER_IS_BETTER
    return StudyDirection.MINIMIZE if smaller else StudyDirection.MAXIMIZE


def is_better(metric: str, one: float, other: float) -> bool:
    """Whether the first value of a metric is better than the second."""
    return one < other if metric in SMALLER_IS_BETTER else one > other
