"""Measures the precision of what is published: an estimate without labels, a test with them.

The labels are those of published items that were drawn at random, whatever the run said of them,
and labelled blind. Each counts by the probability with which it was drawn.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tagger.evaluation.report import Score
from tagger.monitoring.betting import Bets, Kept
from tagger.scores import FloatArray

WORSE = (2.0, 4.0, 8.0)
"""How many times the promised share of errors the bets assume."""

AT_START = 0.8
"""Share of the capital that bets from the first label on that the promise is broken."""

PRIOR = np.sin(np.pi / 2 * (np.arange(100) + 0.5) / 100) ** 2
"""Shares of errors that the bets of an interval assume: quantiles of Beta(1/2, 1/2)."""

STEP = 0.001
"""Accuracy of an interval's ends."""

Z = 1.959963984540054  # the normal quantile at 0.975


LEAST_LABELS, LEAST_PUBLISHED = 20, 50
"""Labels, and published items, under which there is no verdict."""

By = Literal["promise", "reports"]
BY: tuple[By, By] = ("promise", "reports")
"""What tests the promise: labels, and users' reports."""

APART = 250
"""Published items after which another test by reports begins."""

MOST_TESTS = 40
"""When they would be more, every second one of the older half is given up."""


class Since(Kept):
    """A test by users' reports of what was published since a time.

    Attributes:
        published: Items before it.
        event: The last event before it.
        upheld: Items since on which a person said that a report is right.
    """

    published: int = 0
    event: int = 0
    upheld: int = 0


class Group(Kept):
    """What is known of the published items of one tag or slice, or of all.

    Attributes:
        promise: Promised precision; None where nothing is promised.
        published: How many items.
        expected: Sum of their calibrated probabilities of being right.
        variance: Sum of p (1 - p) of these.
        labels: Of labelled ones, the numbers of right and wrong ones by the probability with which
            they were drawn.
        test: Bets that the promise is broken.
        reported: How many of them users reported.
        tests: By reports, of what was published since different times, the longest one first.
    """

    promise: float | None
    published: int = 0
    expected: float = 0.0
    variance: float = 0.0
    labels: dict[float, list[int]] = Field(default_factory=dict)
    test: Bets = Field(default_factory=lambda: Bets.begin(1, len(WORSE), AT_START))
    reported: int = 0
    tests: list[Since] = Field(default_factory=lambda: [Since()])

    def publish(self, probability: float, event: int) -> None:
        """Count a published item that is right with this calibrated probability.

        Args:
            probability: That its tag is right.
            event: The last event before it.
        """
        if self.published - self.tests[-1].published >= APART:
            self.tests.append(Since(published=self.published, event=event))
            if len(self.tests) > MOST_TESTS:
                del self.tests[1 : -MOST_TESTS // 2 : 2]  # what they won is given up
        self.published += 1
        self.expected += probability
        self.variance += probability * (1 - probability)

    def label(self, right: bool, drawn: float, least: float) -> None:
        """Count a label, and bet on it.

        Args:
            right: Whether the published tag is the label.
            drawn: Probability with which the item was drawn.
            least: The smallest of such probabilities.
        """
        counts = self.labels.setdefault(drawn, [0, 0])
        counts[not right] += 1
        if self.promise is not None:
            self.test.observe(promise_factors(right, drawn, self.promise, least)[None, :])

    @property
    def labelled(self) -> int:
        """The number of labels."""
        return sum(map(sum, self.labels.values()))

    def is_enough(self, by: By) -> bool:
        """Whether there are enough labels, or published items, for a verdict."""
        if by == "promise":
            return self.labelled >= LEAST_LABELS
        return self.published - self.tests[0].published >= LEAST_PUBLISHED

    def evidence(self, by: By) -> float:
        """How strongly the labels, or the reports, speak against the promise; 1 without one."""
        return float(self.test.values[0]) if by == "promise" else self._reports_evidence()

    def uphold(self, item: int) -> None:
        """Count that a person found a reported item, by its number, to be wrong."""
        for test in self.tests:
            test.upheld += item > test.event

    def _reports_evidence(self) -> float:
        """How strongly the reports that people upheld speak against the promise.

        Of n items published since a time u are wrong for certain, and all others count as right:

            mean over q of (q / m)^u ((1 - q) / (1 - m))^(n - u),

        with m and q as in `promise_factors`. With all errors in the place of u this is a likelihood
        ratio, whose mean is at most 1 while the promise is kept, and it rises with each error. So
        with those left out that nobody reported, or looked at yet, it is never above that ratio:
        Ville's bound holds whoever reports what, since a report that is wrong is not upheld. The
        k-th of the times, each `APART` items after the one before, has the weight 1 / (k (k + 1)),
        and those that are to come have the rest: with one test alone, years of a kept promise would
        have to be outweighed.
        """
        if self.promise is None:
            return 1.0
        wrong, right = (
            np.log(promise_factors(one, 1.0, self.promise, 1.0)) for one in (False, True)
        )
        evidence, k = 0.0, 0
        for test in self.tests:
            k = (test.published - self.tests[0].published) // APART + 1
            log_ratios = test.upheld * wrong
            log_ratios += (self.published - test.published - test.upheld) * right
            evidence += np.exp(np.minimum(log_ratios, 700.0)).mean() / (k * (k + 1))
        return float(evidence + 1 / (k + 1))

    def expected_precision(self) -> Score | None:
        """Estimate the precision without labels, with a 95 % band; None where nothing is published.

        It is the mean calibrated probability of the published tags (average confidence: Guillory et
        al., ICCV 2021; CBPE), and of so many items the share that is right lies within

            mean(p) +- 1.96 sqrt(sum p (1 - p)) / n

        in 95 % of cases, if the probabilities are right. They were fitted to what the run knew: the
        estimate assumes that the content alone may change, not what tag a content has.
        """
        if not self.published:
            return None
        value = self.expected / self.published
        half = Z * math.sqrt(self.variance) / self.published
        return Score(value=value, low=max(0.0, value - half), high=min(1.0, value + half))

    def measured_precision(self, least: float, alpha: float) -> Score | None:
        """Estimate the precision by the labels, with `precision_interval`; None without labels.

        The value is sum right / drawn over sum 1 / drawn (Hájek 1971).
        """
        if not self.labels:
            return None
        right = sum(right / drawn for drawn, (right, _) in self.labels.items())
        value = right / sum(sum(both) / drawn for drawn, both in self.labels.items())
        low, high = precision_interval(self.labels, least, alpha)
        return Score(value=value, low=min(low, value), high=max(high, value))


def promise_factors(right: bool, drawn: float, promise: float, least: float) -> FloatArray:
    """Return the factors of the bets that more than 1 - promise of the published items are wrong.

    With m = 1 - promise, e = 1 for an error, v = least / drawn and q = m times each of `WORSE`,

        1 + v (e - m) (q - m) / (m (1 - m)).

    Where all items are drawn with the same probability this is the likelihood ratio of q against m
    (Wald 1945), and else the bet on a bounded mean of Waudby-Smith & Ramdas (JRSS B 86, 2024) on
    (e - m) / drawn, whose mean over the draws is that of e - m over all published items. So under a
    kept promise the mean is at most 1. v is at most 1: what is drawn less often than `least` weighs
    as if it were drawn so often.
    """
    allowed = max(1 - promise, 1e-6)
    assumed = np.minimum(allowed * np.array(WORSE), (1 + allowed) / 2)
    slopes = (assumed - allowed) / (allowed * (1 - allowed))
    factors: FloatArray = 1 + min(1.0, least / drawn) * slopes * (float(not right) - allowed)
    return factors


def precision_interval(
    counts: Mapping[float, Sequence[int]], least: float, alpha: float = 0.05
) -> tuple[float, float]:
    """Return an interval of the precision that holds at all times at once with 1 - alpha.

    All m are in it against which bets have not reached 1 / alpha (a confidence sequence by betting,
    Waudby-Smith & Ramdas 2024): the mean over assumed shares of errors q, drawn from
    Beta(1/2, 1/2), of

        prod_i 1 + v_i (e_i - m) (q - m) / (m (1 - m)).

    With equal inclusion probabilities this is Robbins' mixture (Annals of Mathematical Statistics
    41, 1970), B(1/2 + errors, 1/2 + right) / B(1/2, 1/2) / (m^errors (1 - m)^right). An interval
    of a fixed number of labels, such as Wilson's, is narrower and fails him who looks again.

    Args:
        counts: Right and wrong labels by inclusion probability.
        least: The smallest of these, see `promise_factors`.
        alpha: Chance that the precision is ever outside.

    Returns:
        Its ends, outwards to `STEP`; (0, 1) without labels.
    """
    if not any(map(sum, counts.values())):
        return 0.0, 1.0
    error = np.arange(STEP, 1 - STEP / 2, STEP)[:, None]  # m, on a grid
    slopes = (PRIOR - error) / (error * (1 - error))
    log_capital = np.full(len(PRIOR), -math.log(len(PRIOR)))
    for drawn, (right, wrong) in counts.items():
        share = min(1.0, least / drawn)
        log_capital = (
            log_capital
            + wrong * np.log1p(share * slopes * (1 - error))
            + right * np.log1p(-share * slopes * error)
        )
    kept = error[np.logaddexp.reduce(log_capital, axis=1) < -math.log(alpha), 0]
    if not len(kept):  # between two grid points
        kept = error[[np.logaddexp.reduce(log_capital, axis=1).argmin()], 0]
    return max(0.0, 1 - float(kept[-1]) - STEP), min(1.0, 1 - float(kept[0]) + STEP)
