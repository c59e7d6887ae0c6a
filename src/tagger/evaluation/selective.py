"""Selective classification: coverage and risk of the decisions that are published."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from tagger.decision.decider import Rule
from tagger.decision.policies import REVIEW, most_probable
from tagger.evaluation.intervals import measure_share
from tagger.evaluation.report import DecisionReport, Fitted, Score, TagDecisions
from tagger.scores import BoolArray, FloatArray, IntArray

COVERAGES = (0.80, 0.90, 0.95)
CURVE_POINTS = 200


def risk_coverage(confidence: FloatArray, right: BoolArray) -> tuple[FloatArray, FloatArray]:
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


def area_under_risk_coverage(confidence: FloatArray, right: BoolArray) -> float:
    """Average the risk over all coverages: 0 is perfect, and order matters as well as accuracy."""
    return float(risk_coverage(confidence, right)[1].mean())


def precision_at_coverage(confidence: FloatArray, right: BoolArray, coverage: float) -> float:
    """Return the share of right decisions among the surest `coverage` of the rows."""
    kept = max(1, round(coverage * len(confidence)))
    return float(1 - risk_coverage(confidence, right)[1][kept - 1])


def describe_decisions(
    probabilities: FloatArray, decided: IntArray, true: IntArray, tags: Sequence[str], rule: Rule
) -> DecisionReport:
    """Measure coverage and precision of decisions, and of other thresholds on confidence.

    Args:
        probabilities: Corrected, (n, n_tags), n >= 1.
        decided: Positions of tags, or `REVIEW`, (n,).
        true: Position of each row's tag, (n,).
        tags: Names, in that order.
        rule: The fitted rule that decided.

    Returns:
        The `recall` of a tag is the share of its rows that are published under it.
    """
    published = decided != REVIEW
    right = decided == true
    confidence, best = probabilities.max(axis=1), most_probable(probabilities)
    coverages, risks = risk_coverage(confidence, best == true)
    shown = np.unique(np.linspace(0, len(true) - 1, CURVE_POINTS).round().astype(int))
    return DecisionReport(
        num_samples=len(true),
        published=int(published.sum()),
        coverage=float(published.mean()),
        precision=_share(right, published),
        review_per_1000=1000 * float(1 - published.mean()),
        per_class={
            tag: TagDecisions(
                published=int((decided == at).sum()),
                precision=_share(right, decided == at),
                recall=_share(right, true == at),
            )
            for at, tag in enumerate(tags)
        },
        at_coverage={
            f"{coverage:.0%}": precision_at_coverage(confidence, best == true, coverage)
            for coverage in COVERAGES
        },
        aurc=area_under_risk_coverage(confidence, best == true),
        curve=[(float(coverages[at]), float(risks[at])) for at in shown],
        policy=Fitted.model_validate(asdict(rule.policy)),
        calibrator=Fitted.model_validate(asdict(rule.calibrator)),
        ood_threshold=rule.ood_threshold,
    )


def _share(right: BoolArray, rows: BoolArray) -> Score | None:
    """Measure the share of right decisions among some rows; None where there are none."""
    return measure_share(int((right & rows).sum()), int(rows.sum())) if rows.any() else None
