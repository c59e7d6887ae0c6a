"""Measures drift over time: shares of tags, separability of texts, and words that come and go."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tagger.audit.report import ChangedWord, Drift, Period
from tagger.data.items import Item, fold
from tagger.scores import FloatArray

PERIODS = 4
SHOWN_WORDS = 12
LEAST_ROWS = 40
"""Dated rows under which periods are too short to compare."""

PRIOR = 500.0
"""Weight, in words, of the whole file as the prior of each period's word rates."""


def describe_drift(items: Sequence[Item], groups: Sequence[int]) -> Drift | None:
    """Compare the periods of a file: equal numbers of rows, in the order of time.

    Args:
        items: The rows.
        groups: Near-duplicate group of each, kept together where a model is tested.

    Returns:
        None when fewer than `LEAST_ROWS` rows have a date or all have the same one.
    """
    from scipy.spatial.distance import jensenshannon

    dated = sorted(
        (row for row, item in enumerate(items) if item.created_on is not None),
        key=lambda row: (items[row].created_on, row),
    )
    if len(dated) < LEAST_ROWS or items[dated[0]].created_on == items[dated[-1]].created_on:
        return None
    parts = [[int(row) for row in part] for part in np.array_split(dated, PERIODS)]
    tags = sorted({items[row].tag or "" for row in dated} - {""})
    counts = np.array([[sum(items[r].tag == tag for r in part) for tag in tags] for part in parts])
    distances = [
        float(jensenshannon(counts[0], one, base=2)) if counts[0].sum() and one.sum() else None
        for one in counts
    ]
    first, last = parts[0], parts[-1]
    rise, fall = changed_words([items[row] for row in first], [items[row] for row in last])
    ends = [*first, *last]
    return Drift(
        periods=[
            Period(
                first_day=f"{items[part[0]].created_on:%Y-%m-%d}",
                last_day=f"{items[part[-1]].created_on:%Y-%m-%d}",
                rows=len(part),
                tags=dict(zip(tags, map(int, one), strict=True)),
                tag_distance=distance,
            )
            for part, one, distance in zip(parts, counts, distances, strict=True)
        ],
        p_value=_independence(counts),
        auc=_separability(
            [items[row].text for row in ends],
            [0] * len(first) + [1] * len(last),
            [groups[row] for row in ends],
        ),
        rise=rise,
        fall=fall,
    )


def _independence(counts: Any) -> float | None:
    from scipy.stats import chi2_contingency

    used = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    return float(chi2_contingency(used).pvalue) if min(used.shape) > 1 else None


def _separability(
    texts: Sequence[str], period: Sequence[int], groups: Sequence[int]
) -> float | None:
    """Area under the ROC curve of a linear model on words, over five grouped folds."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    folds = 5
    sides = Counter(side for side, _ in {*zip(period, groups, strict=True)})
    if min(sides.values()) < folds:
        return None
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]")
    scores = cross_val_predict(
        LogisticRegression(C=3, solver="newton-cg"),
        words.fit_transform(texts),
        period,
        groups=groups,
        cv=StratifiedGroupKFold(folds, shuffle=True, random_state=0),
        method="decision_function",
    )
    return float(roc_auc_score(period, scores))


def changed_words(
    first: Sequence[Item], last: Sequence[Item]
) -> tuple[list[ChangedWord], list[ChangedWord]]:
    """Rank words by the z-score of their log-odds between two sets, with the sum as the prior.

    Monroe, Colaresi & Quinn, "Fightin' Words" (Political Analysis 2008): rare words need no
    cut-off by hand, because their variance is large.
    """
    counts = [
        Counter(word for item in items for word in {*re.findall(r"[^\W\d_]{3,}", fold(item.text))})
        for items in (first, last)
    ]  # the rows that have a word
    words = sorted(counts[0] | counts[1])
    before, after = (np.array([one[word] for word in words], float) for one in counts)
    prior = PRIOR * (before + after) / (before + after).sum()

    def log_odds(found: FloatArray) -> FloatArray:
        others = found.sum() + PRIOR - found - prior
        odds: FloatArray = np.log((found + prior) / np.maximum(1e-12, others))
        return odds

    deviation = np.sqrt(1 / (after + prior) + 1 / (before + prior))
    z = (log_odds(after) - log_odds(before)) / deviation
    order = np.argsort(-z, kind="stable")
    rise, fall = (
        [
            ChangedWord(
                word=words[at], before=int(before[at]), after=int(after[at]), z=float(z[at])
            )
            for at in ends[:SHOWN_WORDS]
            if abs(z[at]) > 2
        ]
        for ends in (order, order[::-1])
    )
    return rise, fall
