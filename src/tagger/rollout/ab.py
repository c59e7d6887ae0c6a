"""Tests between the items of two arms whether something is rarer with the new run: an A/B test.

An item's arm is a hash, so it is the new one with a known probability s whatever else is true of
the item. With shares p of the new arm and q of the old one, and m = s p + (1 - s) q, the ratio of
the outcome's probability in its arm to that under m has mean 1 where both arms have the same share,
whatever that is and however it changes with time: a mixture of such products over p and q is a
mixture SPRT for two proportions (Turner, Ly & Grunwald, Statistics and Probability Letters 2024)
that holds at every look, without an approximation. Where the share of the arm that is bet on is the
smaller one instead, the mean is below 1. It depends on four counts, so nothing else need be kept.
"""

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np

from tagger.documents import Record
from tagger.errors import UserError
from tagger.rollout.plan import AbConfig
from tagger.scores import FloatArray, IntArray

SHARES = np.array([0.003, 0.006, 0.0125, 0.025, 0.05, 0.1, 0.2, 0.35, 0.55, 0.8])
"""Of the old arm, that the mixture assumes: it matters little which is nearest."""

ODDS = np.log([1.15, 1.35, 1.8, 3.0])
"""Log odds ratios that it assumes between the arms."""

RATIO_PRIOR = 200.0
"""Items that the prior of the sample-ratio test is worth."""

RATIO_ALPHA = 0.001
"""Chance that the sample-ratio test ever errs."""

SIMULATED, LOOKS = 500, 60
"""Streams, and how often each is looked at, evenly on a logarithmic scale."""
MOST_ITEMS = 3_000_000

AbVerdict = Literal["better", "worse", "not enough"]


class Arms(Record):
    """Items of both arms, and how many of them have what is counted, such as a user's report."""

    new: int = 0
    new_hits: int = 0
    old: int = 0
    old_hits: int = 0


def log_evidence(
    share: float, new: FloatArray, new_hits: FloatArray, old: FloatArray, old_hits: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the log e-values for fewer hits in the new arm, and for more, of the counts' shape."""
    q = np.repeat(SHARES, len(ODDS))
    logits = np.log(q / (1 - q))
    found = []
    for odds in (-np.tile(ODDS, len(SHARES)), np.tile(ODDS, len(SHARES))):
        p = 1 / (1 + np.exp(-(logits + odds)))
        m = share * p + (1 - share) * q
        logs = sum(
            np.multiply.outer(hits, np.log(arm / m))
            + np.multiply.outer(items - hits, np.log((1 - arm) / (1 - m)))
            for items, hits, arm in ((new, new_hits, p), (old, old_hits, q))
        )
        found.append(np.logaddexp.reduce(logs, axis=-1) - math.log(len(q)))
    return found[0], found[1]


def evidence_of(arms: Arms, share: float) -> tuple[float, float]:
    """Return the log e-values for the new arm being better, with fewer hits, and worse."""
    counts = (arms.new, arms.new_hits, arms.old, arms.old_hits)
    better, worse = log_evidence(share, *np.array(counts, np.float64))
    return float(better), float(worse)


def compare_arms(arms: Arms, share: float, alpha: float) -> AbVerdict:
    """Say which arm has fewer hits; wrongly, were they equal, with a chance of alpha *ever*."""
    better, worse = evidence_of(arms, share)
    limit = -math.log(alpha / 2)
    if better >= limit:
        return "better"
    return "worse" if worse >= limit else "not enough"


def ratio_is_wrong(arms: Arms, share: float) -> bool:
    """Whether the arms have other sizes than they should: then no comparison of them is worth much.

    The evidence is that of a Beta mixture against the share (Lindon & Malek, "Anytime-valid
    inference for multinomial count data", NeurIPS 2022).
    """
    if not 0 < share < 1:
        return False
    a, b = RATIO_PRIOR * share, RATIO_PRIOR * (1 - share)
    log = _log_beta(a + arms.new, b + arms.old) - _log_beta(a, b)
    log -= arms.new * math.log(share) + arms.old * math.log1p(-share)
    return log >= -math.log(RATIO_ALPHA)


def needed_items(config: AbConfig, share: float, alpha: float) -> int:
    """Return by how many items of both arms the smallest effect is found with the planned power.

    It is found in simulated streams.

    Raises:
        UserError: when more items than anybody has would be needed.
    """
    looks = np.unique(np.geomspace(50, MOST_ITEMS, LOOKS).astype(np.int64))
    limit = -math.log(alpha / 2)
    for at, decided in _decided(config, share, looks, limit):
        if decided >= config.power:
            return int(at)
    raise UserError(
        f"a change of {config.effect:g} from {config.baseline:g} is not found in "
        f"{MOST_ITEMS:,} items with a power of {config.power:g}",
        hint="Plan for a larger effect: ab.effect",
    )


def _decided(
    config: AbConfig, share: float, looks: IntArray, limit: float
) -> Iterator[tuple[int, float]]:
    """Yield at each look how many of the simulated streams have found the effect by then."""
    rng = np.random.default_rng(0)
    new, new_hits, old, old_hits = np.zeros((4, SIMULATED))
    done = np.zeros(SIMULATED, np.bool_)
    for items, further in zip(looks, np.diff(looks, prepend=0), strict=True):
        more = rng.binomial(further, share, SIMULATED)
        new, old = new + more, old + (further - more)
        new_hits = new_hits + rng.binomial(more, config.baseline - config.effect)
        old_hits = old_hits + rng.binomial(further - more, config.baseline)
        done |= log_evidence(share, new, new_hits, old, old_hits)[0] >= limit
        yield int(items), float(done.mean())


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
