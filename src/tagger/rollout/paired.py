"""Tests on judged disagreements whether the new run decides better: paired, at every look.

Both runs decide on the same item, and a person who sees neither decision says what its tag is.
Items on which they agree say nothing of the difference. A disagreement scores x within [-1, 1] for
the new run, and the bets 1 + b x have mean at most 1 under "the new run is not better", E[x] <= 0;
1 - b x likewise under "it is not worse". A mixture of such bets is an e-process: the chance that it
ever reaches 1 / alpha is at most alpha (Ville 1939; `tagger.monitoring.betting`). Where all scores
are 1 and -1 it is Robbins' mixture against p = 1/2, a sequential McNemar test.
"""

from typing import Literal

import numpy as np

from tagger.documents import Record
from tagger.scores import FloatArray

STAKES = np.array([0.18, 0.35, 0.9])
"""b of the bets: the new run is right in 59, 68 and 95 % of the disagreements."""

LOG_WEIGHTS = np.log([0.5, 0.4, 0.1])
"""Of the bets in the mixture. A small difference takes longest to be told, so it has most."""

BETTER_SHARE = 2 / 3
"""Part of alpha that is spent on "better", the rest on "worse": an undecided run is shown to
nobody, so that a refusal may take longer."""

Verdict = Literal["better", "worse", "not enough"]


class Judged(Record):
    """Disagreements that a person has judged, by what the new run's decision did to the old one's.

    Attributes:
        corrected: A wrong tag became the right one.
        spared: A wrong tag is not published: a person is asked.
        filled: A person was asked, the right tag is published.
        broken: The right tag became a wrong one.
        spoiled: A person was asked, a wrong tag is published.
        lost: The right tag is not published: a person is asked.
        tied: Two different tags are both wrong.
    """

    corrected: int = 0
    spared: int = 0
    filled: int = 0
    broken: int = 0
    spoiled: int = 0
    lost: int = 0
    tied: int = 0


Outcome = Literal["corrected", "spared", "filled", "broken", "spoiled", "lost", "tied"]


def judge(old: str | None, new: str | None, label: str) -> Outcome:
    """Say what a disagreement did, by a person's label.

    Args:
        old: The tag that the old run publishes; None where it asks a person.
        new: The tag that the new run publishes, another one, or None.
        label: The right tag; "" where none is.
    """
    if old is None:
        return "filled" if new == label else "spoiled"
    if new is None:
        return "lost" if old == label else "spared"
    if label in (old, new):
        return "corrected" if new == label else "broken"
    return "tied"


def scores(judged: Judged, wrong_costs: float) -> tuple[FloatArray, FloatArray]:
    """Return the scores of judged disagreements, and how often there was each, (6,) both.

    A right tag is worth 1, a question 0, a wrong tag -`wrong_costs`; the difference of the two
    decisions is divided by the largest there can be.
    """
    small = 1 / (1 + wrong_costs)
    values = np.array([1, 1 - small, small, -1, small - 1, -small])
    names = ("corrected", "spared", "filled", "broken", "spoiled", "lost")
    return values, np.array([getattr(judged, name) for name in names], np.float64)


def log_evidence(values: FloatArray, times: FloatArray) -> FloatArray:
    """Return the log e-value of E[x] <= 0 for scores x that occurred so often.

    Args:
        values: The scores, (n_scores,), each within [-1, 1].
        times: How often there was each, (..., n_scores).

    Returns:
        Shape (...).
    """
    logs = times @ np.log1p(np.multiply.outer(values, STAKES)) + LOG_WEIGHTS
    evidence: FloatArray = np.logaddexp.reduce(logs, axis=-1)
    return evidence


def sign_log_evidence(wins: FloatArray, losses: FloatArray) -> FloatArray:
    """Return the log e-value of "a win is no likelier than a loss", of any shape."""
    return log_evidence(np.array([1.0, -1.0]), np.stack([wins, losses], axis=-1))


def quality_evidence(judged: Judged, wrong_costs: float) -> tuple[float, float]:
    """Return the log e-values for the new run being better, and being worse."""
    values, times = scores(judged, wrong_costs)
    return float(log_evidence(values, times)), float(log_evidence(-values, times))


def compare_quality(judged: Judged, wrong_costs: float, alpha: float) -> Verdict:
    """Say which run decides better; wrongly, were they equal, with a chance of alpha *ever*."""
    better, worse = quality_evidence(judged, wrong_costs)
    if better >= -np.log(alpha * BETTER_SHARE):
        return "better"
    return "worse" if worse >= -np.log(alpha * (1 - BETTER_SHARE)) else "not enough"
