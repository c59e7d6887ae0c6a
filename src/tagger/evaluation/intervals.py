"""Computes 95% confidence intervals of scores.

Three methods, chosen by simulating test sets of 40 and 115 rows with imbalanced tags and counting
how often an interval holds the true value (95% is the aim):

- Wilson, for what is a proportion: accuracy (so every micro average and the weighted recall, which
  equal it), precision and recall. Source: Wilson, JASA 22 (1927).
- Wilson through F*, for the F1 of a tag. F* = TP / (TP + FP + FN) is a proportion and
  F1 = 2 F* / (1 + F*) rises with it, so the ends of its interval carry over. It held 93 to 99%
  where a percentile bootstrap held 54 to 96%, and does not shrink to a point when no error was
  seen. Source of F*: Hand, Christen and Kirielle, Machine Learning 110 (2021).
- Percentile bootstrap over rows, for the other averages. Rows are drawn from all rows, not within
  each true tag: stratified intervals held up to 11 points less. A bootstrap cannot imagine what
  never happened: without an error, or without a hit, it would end in a point. The end that is
  missing is then the average of the tags' own: wider than needed, but no false certainty.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tagger.evaluation.report import OverallScores, Score, TagScores
from tagger.scores import OVERALL, FloatArray, IntArray, scores_from_confusion

LEVEL = 0.95
Z = 1.959963984540054  # the normal quantile at 0.975
PROPORTIONS = ("accuracy", "micro_precision", "micro_recall", "micro_f1", "weighted_recall")
BOOTSTRAPPED = tuple(name for name in OVERALL if name not in PROPORTIONS)

RESAMPLES_AT_ONCE = 500  # bounds memory: with 30 tags, 500 matrices are a few MB


def wilson_interval(
    successes: npt.ArrayLike, trials: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Compute Wilson's 95% score interval of proportions.

    Args:
        successes: Counts, any shape.
        trials: Counts, the same shape. Without a trial the interval is (0, 1).

    Returns:
        Lower and upper ends, each of that shape, within [0, 1].
    """
    hits, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    n_or_one = np.where(n > 0, n, 1.0)
    share = hits / n_or_one
    scale = 1 + Z**2 / n_or_one
    middle = (share + Z**2 / (2 * n_or_one)) / scale
    half = Z * np.sqrt(share * (1 - share) / n_or_one + Z**2 / (4 * n_or_one**2)) / scale
    # At 0 and at n the formula ends there exactly; rounding must not say 1e-17 or 0.9999.
    low = np.where((n > 0) & (hits > 0), np.maximum(middle - half, 0.0), 0.0)
    high = np.where((n > 0) & (hits < n), np.minimum(middle + half, 1.0), 1.0)
    return low, high


def measure_share(successes: int, trials: int) -> Score:
    """Return a proportion of at least one trial with its interval."""
    low, high = wilson_interval(successes, trials)
    return _scored(successes / trials, low, high)


def bootstrap_ends(
    counts: IntArray,
    score: Callable[[IntArray], Mapping[str, FloatArray]],
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Compute the ends of 95% percentile intervals, by a bootstrap over rows.

    The scores depend on rows only through the counts of cells, and the counts of n rows drawn with
    replacement follow a multinomial law: one draw of the cells replaces n draws of rows.

    Args:
        counts: Rows of each cell that occurs, (n_cells,).
        score: Returns the scores of drawn counts (many, n_cells) by name, each (many,).
        resamples: How often to draw.
        seed: Of the resampling; the same seed gives the same intervals.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        many = min(RESAMPLES_AT_ONCE, resamples - start)
        drawn.append(score(rng.multinomial(counts.sum(), counts / counts.sum(), size=many)))
    ends = {}
    for name in drawn[0]:
        values = np.concatenate([scores[name] for scores in drawn])
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        ends[name] = (low, high)
    return ends


def add_intervals(
    values: Mapping[str, Any], confusion: IntArray, resamples: int, seed: int
) -> tuple[OverallScores, dict[str, TagScores]]:
    """Put a 95% interval around every score of some decisions.

    Args:
        values: Their scores, as `tagger.evaluation.metrics.TaggingScores` computes them.
        confusion: Counts, shape (n_tags, n_tags), rows true, with at least one row counted.
        resamples: Bootstrap resamples behind each averaged score.
        seed: Of the resampling; the same seed gives the same intervals.

    Returns:
        The scores of all rows and of each tag. Where a tag does not occur its scores are 0 with the
        interval (0, 1).
    """
    total = int(confusion.sum())
    hits, support, chosen = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)

    jaccard = wilson_interval(hits, support + chosen - hits)
    class_ends = {
        "precision": wilson_interval(hits, chosen),
        "recall": wilson_interval(hits, support),
        "f1": (2 * jaccard[0] / (1 + jaccard[0]), 2 * jaccard[1] / (1 + jaccard[1])),
    }
    low, high = (float(end) for end in wilson_interval(hits.sum(), total))
    ends = dict.fromkeys(PROPORTIONS, (low, high))
    if 0 < hits.sum() < total:
        occupied = np.flatnonzero(confusion)  # an empty cell stays empty: no need to draw it

        def score(drawn: IntArray) -> Mapping[str, FloatArray]:
            cells = np.zeros((len(drawn), confusion.size), dtype=np.int64)
            cells[:, occupied] = drawn
            scores = scores_from_confusion(cells.reshape(-1, *confusion.shape))
            return {name: scores[name] for name in BOOTSTRAPPED}

        ends |= bootstrap_ends(confusion.ravel()[occupied], score, resamples, seed)
    else:
        for name in BOOTSTRAPPED:
            average, metric = name.split("_")
            weights = (
                support / total if average == "weighted" else np.full(len(hits), 1 / len(hits))
            )
            low, high = (ends_of_tags @ weights for ends_of_tags in class_ends[metric])
            ends[name] = (values[name], high) if not hits.any() else (low, values[name])
    overall = {name: _scored(values[name], *ends[name]) for name in OVERALL}
    per_class = {}
    for at, (tag, scores) in enumerate(values["per_class"].items()):
        scored = {
            name: _scored(scores[name], low[at], high[at])
            for name, (low, high) in class_ends.items()
        }
        per_class[tag] = TagScores(num_samples=int(support[at]), **scored)
    return OverallScores(num_samples=total, **overall), per_class


def _scored(value: float, low: float | FloatArray, high: float | FloatArray) -> Score:
    return Score(value=float(value), low=float(low), high=float(high))
