"""Detects drift by conformal test martingales, with a bound on false alarms over the whole stream.

Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World (2005), chapter 7; Vovk et al.,
"Retrain or not retrain: conformal test martingales for change-point detection" (COPA 2021). As long
as the order of the items says nothing (they are exchangeable), the conformal p-values of any score
are independent and uniform; a drift makes small or large ones frequent, on which bets win.
"""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from scipy.special import ndtri

from tagger.monitoring.betting import Array, Bets, Kept
from tagger.scores import BoolArray, FloatArray, IntArray

BINS = 256
"""Values that a score is rounded to: what was seen of it is then a table of counts, however long
the stream is. Ties are broken at random, so the p-values stay exactly uniform."""

SHIFTS = np.array([-0.8, -0.4, -0.2, 0.2, 0.4, 0.8])
"""Of the bets, in standard deviations: a positive one wins where a score rises. Small, medium and
large ones; between two of them, a factor of 2 apart, the nearer one wins 8 of 9 parts of what a bet
on the very shift would."""


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
    scores = np.arange(len(bins))
    up_to, equal = counts.cumsum(axis=1), counts[scores, bins]
    below = up_to[scores, bins] - equal
    p_values: FloatArray = (below + uniforms * (equal + 1)) / (up_to[:, -1] + 1)
    return p_values


def log_bets(p_values: FloatArray) -> FloatArray:
    """Return the logarithms of the factors of all bets, (n_scores, n_shifts).

    With z the normal quantile of p, the factor is

        exp(shift z - shift^2 / 2),

    whose mean over a uniform p is 1: the likelihood ratio of a normal score that moved by so many
    standard deviations, by ranks (van der Waerden 1952). A bet that is linear in p (Vovk et al.
    2021, section 3) wins less than twice its stake on an item however unheard of it is: it is
    nearly as good for small shifts and slower for large ones and rare tags.
    """
    z = ndtri(np.clip(p_values, 1e-12, 1 - 1e-12))[:, None]
    logs: FloatArray = SHIFTS * z - SHIFTS**2 / 2
    return logs


class Drift(Kept):
    """Conformal test martingales over several scores, and their weighted average.

    The reference of the p-values grows with the stream. With one that stays as it was, its own
    accidents count as evidence for ever, and the false-alarm rate is several times the stated one.

    Attributes:
        weights: Of each score in the average, adding up to 1.
        counts: The reference: how many items have each value of each score, (n_scores, BINS).
        bets: A martingale for each score.
        gain: Best sum of log factors that ends with the last item, (n_scores, n_shifts).
        since: Row where that sum begins, (n_scores, n_shifts): the likeliest begin of a change.
    """

    weights: list[float]
    counts: Array
    bets: Bets
    gain: Array
    since: Array

    @classmethod
    def begin(cls, weights: Sequence[float]) -> Self:
        """Begin without a reference."""
        shape = (len(weights), len(SHIFTS))
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
        self.counts[np.arange(len(bins)), bins] += used

    def observe(self, bins: IntArray, uniforms: FloatArray, row: int) -> None:
        """Bet on an item, then add it to the reference.

        Args:
            bins: Its values, (n_scores,).
            uniforms: Independent draws from [0, 1), (n_scores,).
            row: Its number.
        """
        logs = log_bets(smoothed_p_values(self.counts, bins, uniforms))
        self.bets.observe(np.exp(logs))
        # Page (Biometrika 1954): the sum of what a bet won begins anew where it falls below 0.
        fresh = self.gain <= 0
        self.since = np.where(fresh, row, self.since)
        self.gain = np.where(fresh, 0.0, self.gain) + logs
        self.learn(bins, np.ones(len(bins), dtype=np.bool_))

    def leading(self, score: int) -> tuple[Literal["rises", "falls"], int]:
        """Say whether a score "rises" or "falls" by its richest bet, and from which row on."""
        best = int(self.bets.staked[score].argmax())
        return "rises" if SHIFTS[best] > 0 else "falls", int(self.since[score, best])
