"""Detects drift by conformal test martingales, with a bound on false alarms over the whole stream.

Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World (2005), chapter 7; Vovk et al.,
"Retrain or not retrain: conformal test martingales for change-point detection" (COPA 2021). As long
as the order of the items says nothing (they are exchangeable), the conformal p-values of any score
are independent and uniform; a drift makes small or large ones frequent, on which bets win.
"""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np

from tagger.monitoring.betting import Array, Bets, Kept
from tagger.scores import BoolArray, FloatArray, IntArray

BINS = 256
"""Values that a score is rounded to: what was seen of it is then a table of counts, however long
the stream is. Ties are broken at random, so the p-values stay exactly uniform."""

SLOPES = np.array([-1.8, -1.0, -0.5, 0.5, 1.0, 1.8])
"""Of the bets: a positive one wins where a score rises, a negative one where it falls."""


def smoothed_p_values(counts: IntArray, bins: IntArray, uniforms: FloatArray) -> FloatArray:
    """Compute the conformal p-value of a new item for each score.

    With the n - 1 items before it and itself, it is

        p = (#{i <= n: s_i < s_n} + u #{i <= n: s_i = s_n}) / n

    (Vovk et al. 2005, eq. 2.20; here small where the score is lower than those before).

    Args:
        counts: How many items before have each value of each score, (n_scores, BINS).
        bins: The new item's values, (n_scores,), each from 0 to `BINS` - 1.
        uniforms: Independent draws from [0, 1), (n_scores,).

    Returns:
        Shape (n_scores,), each within [0, 1].
    """
    rows = np.arange(len(bins))
    below = np.cumsum(counts, axis=1)[rows, bins] - counts[rows, bins]
    p_values: FloatArray = (below + uniforms * (counts[rows, bins] + 1)) / (counts.sum(axis=1) + 1)
    return p_values


def bet_factors(p_values: FloatArray) -> FloatArray:
    """Return the factors of all bets, (n_scores, n_slopes): 1 + slope (p - 1/2).

    Their mean over a uniform p is 1 (Vovk et al. 2021, section 3, where slopes of -1, 0 and 1 are
    jumped between).
    """
    factors: FloatArray = 1 + SLOPES * (p_values[:, None] - 0.5)
    return factors


class Drift(Kept):
    """Conformal test martingales over several scores, and their weighted average.

    The reference of the p-values grows with the stream. With one that stays as it was, its own
    accidents count as evidence for ever, and the false-alarm rate is several times the stated one.

    Attributes:
        weights: Of each score in the average, adding up to 1.
        counts: The reference: how many items have each value of each score, (n_scores, BINS).
        bets: A martingale for each score.
        gain: Best sum of log factors that ends with the last item, (n_scores, n_slopes).
        since: Row where that sum begins, (n_scores, n_slopes): the likeliest begin of a change.
    """

    weights: list[float]
    counts: Array
    bets: Bets
    gain: Array
    since: Array

    @classmethod
    def begin(cls, weights: Sequence[float]) -> Self:
        """Begin without a reference."""
        shape = (len(weights), len(SLOPES))
        return cls(
            weights=list(weights),
            counts=np.zeros((len(weights), BINS), dtype=np.int64),
            bets=Bets.begin(*shape, at_start=0.0),
            gain=np.zeros(shape),
            since=np.zeros(shape, dtype=np.int64),
        )

    @property
    def evidence(self) -> float:
        """The average of the martingales: the chance that it ever reaches E is at most 1 / E."""
        return float(np.dot(self.weights, self.bets.values))

    def learn(self, bins: IntArray, used: BoolArray) -> None:
        """Add an item to the reference of some scores, (n_scores,) each."""
        self.counts[np.flatnonzero(used), bins[used]] += 1

    def observe(self, bins: IntArray, uniforms: FloatArray, row: int) -> FloatArray:
        """Bet on an item, then add it to the reference; return its p-values, (n_scores,).

        Args:
            bins: Its values, (n_scores,).
            uniforms: Independent draws from [0, 1), (n_scores,).
            row: Its number.
        """
        p_values = smoothed_p_values(self.counts, bins, uniforms)
        factors = bet_factors(p_values)
        self.bets.observe(factors)
        # Page (Biometrika 1954): the sum of what a bet won begins anew where it falls below 0.
        fresh = self.gain <= 0
        self.since = np.where(fresh, row, self.since)
        self.gain = np.where(fresh, 0.0, self.gain) + np.log(factors)
        self.learn(bins, np.ones(len(bins), dtype=np.bool_))
        return p_values

    def leading(self, score: int) -> tuple[Literal["rises", "falls"], int]:
        """Say whether a score "rises" or "falls" by its richest bet, and from which row on."""
        best = int(self.bets.staked[score].argmax())
        return "rises" if SLOPES[best] > 0 else "falls", int(self.since[score, best])
