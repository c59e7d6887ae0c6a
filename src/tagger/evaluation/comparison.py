"""Two runs on the same rows: is the difference more than luck, and which items changed?

Intervals of two separate scores say little about their difference, because both runs find the
same rows hard. Here every row is a pair.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tagger.data.items import Item
from tagger.evaluation.intervals import LEVEL
from tagger.scores import (
    FloatArray,
    IntArray,
    confusion_matrix,
    scores_from_confusion,
)

COMPARED = ("accuracy", "macro_f1", "weighted_f1")

_RESAMPLES_AT_ONCE = 500


def compare_decisions(
    items: Sequence[Item],
    true: IntArray,
    ours: IntArray,
    theirs: IntArray,
    tags: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Compare two runs' decisions, row by row.

    Args:
        items: The rows, n >= 1.
        true: Position of the true tag, shape (n,).
        ours: Position of the tag that the evaluated run chose, shape (n,).
        theirs: The same of the run it is compared with, shape (n,).
        tags: Names, in the order of the approved list.
        resamples: Of the paired bootstrap.
        seed: Of the resampling.

    Returns:
        Ready for JSON: `num_samples`; `differences`, ours minus theirs, for each of `COMPARED`;
        `mcnemar`; and the items that `fixed`, `broken` and `still_wrong` (wrong before and after,
        in another way) list.
    """
    values = [
        scores_from_confusion(confusion_matrix(true, predicted, len(tags)))
        for predicted in (ours, theirs)
    ]
    ends = paired_bootstrap(true, ours, theirs, len(tags), resamples=resamples, seed=seed)
    differences = {
        name: {
            "ours": float(values[0][name]),
            "theirs": float(values[1][name]),
            "value": float(values[0][name] - values[1][name]),
            "low": ends[name][0],
            "high": ends[name][1],
        }
        for name in COMPARED
    }
    right, was_right = ours == true, theirs == true

    def describe(rows: npt.NDArray[np.bool_]) -> list[dict[str, str]]:
        return [
            {
                "id": items[row].id,
                "title": items[row].title,
                "true": tags[true[row]],
                "ours": tags[ours[row]],
                "theirs": tags[theirs[row]],
            }
            for row in np.flatnonzero(rows).tolist()
        ]

    fixed, broken = right & ~was_right, ~right & was_right
    return {
        "num_samples": len(items),
        "differences": differences,
        "mcnemar": {
            "fixed": int(fixed.sum()),
            "broken": int(broken.sum()),
            "p_value": mcnemar_p_value(int(fixed.sum()), int(broken.sum())),
        },
        "fixed": describe(fixed),
        "broken": describe(broken),
        "still_wrong": describe(~right & ~was_right & (ours != theirs)),
    }


def mcnemar_p_value(fixed: int, broken: int) -> float:
    """Compute the exact, two-sided p-value of McNemar's test.

    Were both runs equally good, each row that only one of them gets right would be a fair coin's
    toss. Source: McNemar, Psychometrika 12 (1947), with the binomial law instead of its limit.

    Args:
        fixed: Rows that only the first run gets right.
        broken: Rows that only the second one gets right.

    Returns:
        The probability of a split at least this uneven; 1 when no row tells the runs apart.
    """
    from scipy.stats import binomtest

    if fixed + broken == 0:
        return 1.0
    return float(binomtest(fixed, fixed + broken, 0.5).pvalue)


def paired_bootstrap(
    true: IntArray, ours: IntArray, theirs: IntArray, n_tags: int, *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Put a 95% percentile interval around the differences, ours minus theirs.

    Rows are drawn in pairs. As in `tagger.evaluation.intervals`, counts are drawn in place of
    rows: here those of each (true, ours, theirs) that occurs.

    Args:
        true: Shape (n,), n >= 1.
        ours: Shape (n,).
        theirs: Shape (n,).
        n_tags: Length of the approved list.
        resamples: Number of resamples.
        seed: Of the resampling.

    Returns:
        Lower and upper end for each of `COMPARED`.
    """
    cells = (true * n_tags + ours) * n_tags + theirs
    occurring, counts = np.unique(cells, return_counts=True)
    row, column_ours, column_theirs = np.unravel_index(occurring, (n_tags, n_tags, n_tags))
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[FloatArray]] = {name: [] for name in COMPARED}
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        many = min(_RESAMPLES_AT_ONCE, resamples - start)
        sample = rng.multinomial(counts.sum(), counts / counts.sum(), size=many)
        pair = []
        for column in (column_ours, column_theirs):
            flat = np.zeros((n_tags * n_tags, many), dtype=np.int64)
            np.add.at(flat, row * n_tags + column, sample.T)
            pair.append(scores_from_confusion(flat.T.reshape(many, n_tags, n_tags)))
        for name in COMPARED:
            drawn[name].append(pair[0][name] - pair[1][name])
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    ends = {}
    for name, parts in drawn.items():
        low, high = np.quantile(np.concatenate(parts), tails)
        ends[name] = (float(low), float(high))
    return ends
