"""Bets against a hypothesis: test martingales, which keep their error rate at every look.

Capital starts at 1, and each observation multiplies what is staked by a factor whose mean under the
hypothesis is at most 1. Ville's inequality (1939) then bounds the chance that the capital *ever*
reaches 1 / alpha by alpha, however often it is looked at. Several such capitals may be averaged.
"""

from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema

from tagger.scores import FloatArray

Array = Annotated[
    np.ndarray[Any, Any],
    PlainValidator(np.asarray),
    PlainSerializer(lambda array: array.tolist(), return_type=list),
    WithJsonSchema({"type": "array"}),
]
"""Numbers of any shape; in JSON nested lists, from which they are read back unchanged."""


class Kept(BaseModel):
    """A part of a watch's state, which changes with each item and is kept as JSON."""

    model_config = ConfigDict(extra="forbid")


SLOWNESS = 500
"""Observations after which 1 / (1 + ln 2) of the reserve is left: about when a change may come."""


class Bets(Kept):
    """Several test martingales, each a mixture over bets and over the times at which they begin.

    A bet that lost for long would need as long to recover when the change comes. So only a part of
    the capital is staked from the start, and the rest is a reserve that is put on all bets alike,
    little by little: after n observations there is left

        R(n) = (1 - s) / (1 + ln(1 + n / SLOWNESS)),

    with s what is staked from the start. What goes out of it at n stakes on a change at n, so this
    is the mixture over change points of Shiryaev (Theory of Probability and Its Applications 8,
    1963) with a prior whose tail is so heavy that a late change is found almost as soon as an early
    one. Since each part has mean 1 under the hypothesis, so has their sum.

    Attributes:
        staked: Capital on each bet of each martingale, (n_martingales, n_bets).
        at_start: s.
        count: n.
    """

    staked: Array
    at_start: float
    count: int = 0

    @classmethod
    def begin(cls, martingales: int, bets: int, at_start: float) -> Self:
        """Begin with capital 1 in each martingale."""
        staked = np.full((martingales, bets), at_start / bets, dtype=np.float64)
        return cls(staked=staked, at_start=at_start)

    @property
    def values(self) -> FloatArray:
        """The capital of each martingale, (n_martingales,)."""
        capital: FloatArray = self._reserve(self.count) + self.staked.sum(axis=1)
        return capital

    def observe(self, factors: FloatArray) -> None:
        """Bet on one observation.

        Args:
            factors: Of each bet, (n_martingales, n_bets), with mean at most 1 under the hypothesis.
        """
        moved = self._reserve(self.count) - self._reserve(self.count + 1)
        self.staked = (self.staked + moved / self.staked.shape[1]) * factors
        self.count += 1

    def _reserve(self, count: int) -> float:
        return (1 - self.at_start) / (1 + float(np.log1p(count / SLOWNESS)))
