"""Guards the operation of a new run: failures, slow answers, review rate, published rate.

The old run answers each item that the new one is asked about, on the same machine at the same time.
So what fails or asks a person with the new run alone is its own doing, and the tests are paired.
They hold at every look, and count from the beginning of the rollout on.
"""

from dataclasses import dataclass

import numpy as np

from tagger.documents import Record
from tagger.rollout.paired import sign_log_evidence
from tagger.rollout.plan import GuardsConfig
from tagger.scores import FloatArray

ASSUMED = np.array([1e-4, 1e-3, 0.02, 0.1, 0.4])
"""Shares of failed or slow answers that bets assume, those above what is allowed."""

GUARDS = 4
"""Alpha is divided among so many."""

DOUBT = np.log(5.0)
"""Log evidence from which on a guard that has not decided yet keeps a rollout where it is."""


class Operations(Record):
    """What became of the items that the new run was asked about.

    Attributes:
        asked: How many.
        failed: It raised an error, and the old one did not.
        slow: It did not answer by its deadline.
        more_review: It asks a person where the old run publishes.
        more_published: It publishes where the old run asks a person.
        old_review: Items of which the old run asks a person.
    """

    asked: int = 0
    failed: int = 0
    slow: int = 0
    more_review: int = 0
    more_published: int = 0
    old_review: int = 0


@dataclass(frozen=True)
class Guard:
    """How one guard stands.

    Attributes:
        name: What it watches.
        log_evidence: Against the new run keeping the limit.
        limit: Log evidence from which on it is rolled back.
        told: The figures, in words.
        large: Whether the excess is large enough to matter, as estimated.
    """

    name: str
    log_evidence: float
    limit: float
    told: str
    large: bool = True

    @property
    def broken(self) -> bool:
        """Whether the new run is to be rolled back."""
        return self.large and self.log_evidence >= self.limit

    @property
    def doubtful(self) -> bool:
        """Whether it is too early to give the new run more items."""
        return self.large and self.log_evidence >= DOUBT


def rate_log_evidence(times: FloatArray, of: FloatArray, allowed: float) -> FloatArray:
    """Return the log e-value of "the share is no more than allowed", of any shape.

    It is a mixture of likelihood ratios (Wald 1945) over those of `ASSUMED` that are above.

    Args:
        times: How often something happened.
        of: Out of how many.
        allowed: Share, above 0 and below the largest of `ASSUMED`.
    """
    above = ASSUMED[allowed < ASSUMED]
    happened, not_happened = np.log(above / allowed), np.log1p(-above) - np.log1p(-allowed)
    logs = np.multiply.outer(times, happened) + np.multiply.outer(of - times, not_happened)
    evidence: FloatArray = np.logaddexp.reduce(logs, axis=-1) - np.log(len(above))
    return evidence


def check_guards(seen: Operations, config: GuardsConfig) -> list[Guard]:
    """Say how all guards stand.

    While the new run keeps every limit, the chance that any of them is ever broken is at most
    `config.alpha`. The rates of review and of publishing are the two sides of one test, on the
    items of which just one run asks a person; a change is acted on when it is real, by the test,
    and larger than the limit, by the estimate.
    """
    limit = float(-np.log(config.alpha / GUARDS))
    changed = np.array([seen.more_review, seen.more_published], np.float64)
    more_review, more_published = map(float, sign_log_evidence(changed, changed[::-1]))
    rise = (seen.more_review - seen.more_published) / max(1, seen.asked)
    rates = (
        ("failures", seen.failed, config.failures),
        ("slow answers", seen.slow, config.slow),
    )
    return [
        *(
            Guard(
                name,
                float(rate_log_evidence(np.array(times), np.array(seen.asked), allowed)),
                limit,
                f"{times:,} of {seen.asked:,} items; {100 * allowed:.6g} % may be",
            )
            for name, times, allowed in rates
        ),
        Guard(
            "review rate",
            more_review,
            limit,
            f"{rise:+.1%} of the items go to people; {config.review_rise:+.1%} may",
            rise > config.review_rise,
        ),
        Guard(
            "published rate",
            more_published,
            limit,
            f"{0 - rise:+.1%} of the items are published; {config.published_rise:+.1%} may be",
            -rise > config.published_rise,
        ),
    ]
