"""What is published and what is sent to a person, and how good the published part is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tagger.decision.policies import REVIEW, most_probable
from tagger.evaluation.intervals import measure_share
from tagger.scores import FloatArray, IntArray

COVERAGES = (0.80, 0.90, 0.95)
CURVE_POINTS = 200


def risk_coverage(
    confidence: FloatArray, right: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Return coverages (n,) and the share of wrong decisions among the surest rows of each (n,).

    El-Yaniv and Wiener (JMLR 2010). Rows of equal confidence are published together, so their risk
    is shared out: the order in which they stand says nothing.
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, wrong = confidence[order], (~right[order]).astype(np.float64)
    _, group, counts = np.unique(-sorted_confidence, return_inverse=True, return_counts=True)
    shared = (np.bincount(group, weights=wrong) / counts)[group]
    places = np.arange(1, len(order) + 1)
    return places / len(order), np.cumsum(shared) / places


def area_under_risk_coverage(confidence: FloatArray, right: npt.NDArray[np.bool_]) -> float:
    """Average the risk over all coverages: 0 is perfect, and order matters as well as accuracy."""
    return float(risk_coverage(confidence, right)[1].mean())


def precision_at_coverage(
    confidence: FloatArray, right: npt.NDArray[np.bool_], coverage: float
) -> float:
    """Return the share of right decisions among the surest `coverage` of the rows."""
    kept = max(1, round(coverage * len(confidence)))
    return float(1 - risk_coverage(confidence, right)[1][kept - 1])


def describe_decisions(
    probabilities: FloatArray, decided: IntArray, true: IntArray, tags: Sequence[str]
) -> dict[str, Any]:
    """Say what decisions are worth: what is published, what is not, and what else could be.

    Args:
        probabilities: Corrected, (n, n_tags), n >= 1.
        decided: Positions of tags, or `REVIEW`, (n,).
        true: Position of each row's tag, (n,).
        tags: Names, in that order.

    Returns:
        Ready for JSON: `num_samples`, `published`, `coverage`; `precision` of what is published
        (value and 95 % interval, None where nothing is); `review_per_1000`; `per_class`, by tag the
        rows `published` under it, their `precision`, and the `recall`: the share of the tag's rows
        that are published under it; `at_coverage`, the precision of the surest 80, 90 and 95 %;
        `aurc`; and the `curve` of coverage and risk.
    """
    published = decided != REVIEW
    right = decided == true
    confidence, best = probabilities.max(axis=1), most_probable(probabilities)
    coverages, risks = risk_coverage(confidence, best == true)
    shown = np.unique(np.linspace(0, len(true) - 1, CURVE_POINTS).round().astype(int))
    return {
        "num_samples": len(true),
        "published": int(published.sum()),
        "coverage": float(published.mean()),
        "precision": _proportion(int(right.sum()), int(published.sum())),
        "review_per_1000": 1000 * float(1 - published.mean()),
        "per_class": {
            tag: {
                "published": int((decided == at).sum()),
                "precision": _proportion(
                    int((right & (decided == at)).sum()), int((decided == at).sum())
                ),
                "recall": _proportion(int((right & (true == at)).sum()), int((true == at).sum())),
            }
            for at, tag in enumerate(tags)
        },
        "at_coverage": {
            f"{coverage:.0%}": precision_at_coverage(confidence, best == true, coverage)
            for coverage in COVERAGES
        },
        "aurc": area_under_risk_coverage(confidence, best == true),
        "curve": [[float(coverages[at]), float(risks[at])] for at in shown],
    }


def _proportion(successes: int, trials: int) -> dict[str, float] | None:
    if not trials:
        return None
    return measure_share(successes, trials)
