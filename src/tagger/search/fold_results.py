"""Stores the results of folds in the user attributes of a trial, and averages its scores."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from tagger.documents import Record
from tagger.search.summary import Score

FOLD = "fold_{}"
"""The user attribute that holds the result of a step."""


class FoldResult(Record):
    """Predictions and scores of one training on the fold that it did not see.

    Attributes:
        scores: By metric, those that the sweep is about.
        predicted: Position of the tag that each row was given, (n,).
        wrong: Places of the rows that were given another tag than theirs.
        confidence: The largest probability of each row, (n,).
        of_true: The probability of each row's own tag, (n,).
        seconds: Spent in training.
        predicting: Seconds spent in prediction, and in measuring costs.
        done: When it was finished.
    """

    scores: dict[str, float]
    predicted: list[int]
    wrong: list[int]
    confidence: list[float]
    of_true: list[float]
    seconds: float
    predicting: float
    done: datetime


def stored_folds(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the results of folds out of a trial's user attributes, in the order of the steps."""
    prefix = FOLD.format("")
    names = [key for key in attributes if key.startswith(prefix)]
    names.sort(key=lambda name: int(name.removeprefix(prefix)))
    return {name: attributes[name] for name in names}


def folds_of(attributes: Mapping[str, Any]) -> list[FoldResult]:
    """Read the fold results that a trial keeps, in the order of the steps."""
    return [FoldResult.model_validate(fold) for fold in stored_folds(attributes).values()]


def mean_score(attributes: Mapping[str, Any], metric: str) -> Score | None:
    """Average a trial's score over its folds; None before the first of them.

    Folds share training rows, so the error is smaller than that of independent repetitions (Bengio
    and Grandvalet 2004): it tells a shaky mean from a firm one, and is no interval.
    """
    scores = [fold["scores"] for fold in stored_folds(attributes).values()]
    values = [by_metric[metric] for by_metric in scores if metric in by_metric]
    if not values:
        return None
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Score(mean=float(np.mean(values)), error=error)
