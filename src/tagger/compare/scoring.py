"""Scores out-of-fold predictions, and compares approaches by simultaneous intervals."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from tagger.compare.report import Difference, Scores
from tagger.config.schema import DecisionConfig
from tagger.decision.decider import CalibrationSet, fit_rule
from tagger.decision.policies import REVIEW
from tagger.evaluation.calibration import adaptive_error
from tagger.evaluation.selective import (
    COVERAGES,
    area_under_risk_coverage,
    precision_at_coverage,
)
from tagger.scores import OVERALL, FloatArray, IntArray, confusion_matrix, scores_from_confusion

SCORES = tuple(name for name in OVERALL if not name.startswith("micro"))
LEVEL = 0.95
RESAMPLES = 4000


def score_out_of_fold(
    probabilities: FloatArray, true: IntArray, fold: IntArray, config: DecisionConfig
) -> Scores:
    """Score an approach by its out-of-fold predictions.

    The rule of a fold is fitted to the other folds' predictions, so nothing is fitted to the rows
    that it is judged by.

    Args:
        probabilities: (n_seeds, n, n_tags).
        true: Position of each item's tag, (n,).
        fold: (n_seeds, n).
        config: How probabilities are corrected, and what is published.

    Returns:
        As `score_cross_domain`.
    """
    per_seed = [
        _score(rows, true, *_cross_fitted(rows, true, folds, config))
        for rows, folds in zip(probabilities, fold, strict=True)
    ]
    return _means(per_seed)


def score_cross_domain(
    probabilities: FloatArray,
    true: IntArray,
    own: FloatArray,
    own_true: IntArray,
    config: DecisionConfig,
) -> Scores:
    """Score an approach on another source, by the rule that is fitted to its own.

    Args:
        probabilities: Of the other source's items, (n_seeds, n, n_tags).
        true: Position of each item's tag, (n,).
        own: Out-of-fold predictions of the items trained on, (n_seeds, m, n_tags).
        own_true: Position of each of their tags, (m,).
        config: How probabilities are corrected, and what is published.

    Returns:
        Means over seeds of what pooled predictions are worth: those of `SCORES`, each also with
        `_sd` over seeds; `precision_at_80%` and so on, the precision of the surest; `aurc`;
        `ece_before` and `ece`, over bins of equally many rows, without and with correction; and
        `coverage` and `published_precision` of the policy, the latter None where it publishes
        nothing.
    """
    per_seed = []
    for rows, fitted_to in zip(probabilities, own, strict=True):
        rule = fit_rule(config, CalibrationSet(fitted_to, own_true, None, "the own source"))
        result = rule.apply(rows, None)
        per_seed.append(_score(rows, true, result.probabilities, result.tags))
    return _means(per_seed)


def _score(
    rows: FloatArray, true: IntArray, corrected: FloatArray, decided: IntArray
) -> dict[str, float]:
    predicted = rows.argmax(axis=1)
    scores = scores_from_confusion(confusion_matrix(true, predicted, rows.shape[1]))
    published = decided != REVIEW
    confidences, right = corrected.max(axis=1), corrected.argmax(axis=1) == true
    return {
        **{name: float(scores[name]) for name in SCORES},
        **{
            f"precision_at_{coverage:.0%}": precision_at_coverage(confidences, right, coverage)
            for coverage in COVERAGES
        },
        "aurc": area_under_risk_coverage(confidences, right),
        "ece_before": adaptive_error(rows.max(axis=1), predicted == true),
        "ece": adaptive_error(confidences, right),
        "coverage": float(published.mean()),
        "published_precision": float(right[published].mean()) if published.any() else np.nan,
    }


def _means(per_seed: list[dict[str, float]]) -> Scores:
    result: Scores = {}
    for name in per_seed[0]:
        known = [one[name] for one in per_seed if not np.isnan(one[name])]
        result[name] = float(np.mean(known)) if known else None
    for name in SCORES:
        values = [one[name] for one in per_seed]
        result[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return result


def compare_all(
    probabilities: Mapping[str, FloatArray],
    true: IntArray,
    score: str,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    seed: int = 0,
) -> list[Difference]:
    """Compare pairs by intervals that hold for all of them at once with `LEVEL`.

    Items are drawn with replacement, the same for all approaches and seeds. Intervals are as wide
    as the largest standardised deviation of any pair demands (max-T: Westfall & Young 1993), which
    takes their correlation into account, where Bonferroni's correction would not.

    Args:
        probabilities: (n_seeds, n, n_tags) by name.
        true: Position of each item's tag, (n,).
        score: A name of `SCORES`.
        pairs: Names of what is compared, the first minus the second; None for all pairs.
        seed: Of the resampling.

    Returns:
        Those pairs; or all in the order of the names, the earlier minus the later.
    """
    n_tags = next(iter(probabilities.values())).shape[2]
    random = np.random.default_rng(seed)
    n = len(true)
    weights = np.vstack([np.ones((1, n)), random.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)])
    means = {
        name: np.mean(
            [_resampled(rows.argmax(axis=1), true, n_tags, weights, score) for rows in seeds],
            axis=0,
        )
        for name, seeds in probabilities.items()
    }
    if pairs is None:
        pairs = list(combinations(means, 2))
    if not pairs:
        return []
    values = np.stack([means[one] - means[other] for one, other in pairs])  # (pairs, 1 + resamples)
    observed, drawn = values[:, 0], values[:, 1:]
    errors = np.maximum(drawn.std(axis=1, ddof=1), 1e-12)
    largest = (np.abs(drawn - drawn.mean(axis=1, keepdims=True)) / errors[:, None]).max(axis=0)
    width = float(np.quantile(largest, LEVEL)) * errors
    return [
        Difference(
            one=one,
            other=other,
            value=value,
            low=value - half,
            high=value + half,
            proven=bool(abs(value) > half),
        )
        for (one, other), value, half in zip(pairs, observed.tolist(), width.tolist(), strict=True)
    ]


def mean_score(probabilities: FloatArray, true: IntArray, score: str) -> float:
    """Return the mean over seeds of a score of `SCORES` of probabilities (n_seeds, n, n_tags)."""
    n_tags = probabilities.shape[2]
    counts = [confusion_matrix(true, rows.argmax(axis=1), n_tags) for rows in probabilities]
    return float(np.mean([scores_from_confusion(one)[score] for one in counts]))


def better_than(differences: list[Difference], name: str) -> list[str]:
    """Return the approaches that a given one is proven to be better than."""
    below = [one.other for one in differences if one.one == name and one.low > 0]
    return below + [one.one for one in differences if one.other == name and one.high < 0]


def _resampled(
    predicted: IntArray, true: IntArray, n_tags: int, weights: FloatArray, score: str
) -> FloatArray:
    """Score one set of decisions under each set of weights: (resamples,)."""
    cells = np.zeros((len(true), n_tags * n_tags))
    cells[np.arange(len(true)), true * n_tags + predicted] = 1
    counts = (weights @ cells).round().astype(np.int64).reshape(-1, n_tags, n_tags)
    values: FloatArray = scores_from_confusion(counts)[score]
    return values


def _cross_fitted(
    probabilities: FloatArray, true: IntArray, fold: IntArray, config: DecisionConfig
) -> tuple[FloatArray, IntArray]:
    """Apply to each fold the rule that is fitted to the others: probabilities and decisions."""
    corrected = np.zeros_like(probabilities)
    decided = np.zeros(len(true), dtype=np.int64)
    for one in np.unique(fold):
        inside = fold == one
        others = CalibrationSet(probabilities[~inside], true[~inside], None, "the other folds")
        result = fit_rule(config, others).apply(probabilities[inside], None)
        corrected[inside], decided[inside] = result.probabilities, result.tags
    return corrected, decided
