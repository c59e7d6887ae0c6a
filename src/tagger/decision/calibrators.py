"""Calibrates probabilities: afterwards one of 0.8 is right 8 times in 10.

Every calibrator works on probabilities, so that it fits any approach; logarithms of probabilities
stand for logits.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from tagger.scores import FloatArray, IntArray, softmax

TINY = 1e-12
STRETCH = (0.05, 20.0)
"""Temperatures that are looked at."""

STORED = ConfigDict(extra="forbid", defer_build=True)
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""What `decision.json` is made of: no text, and nothing that is not finite, is taken for one."""


@dataclass(frozen=True, config=STORED)
class Unchanged:
    """Leaves probabilities as they are."""

    kind: Literal["none"] = "none"

    def apply(self, probabilities: FloatArray) -> FloatArray:
        """Return them as they are."""
        return probabilities


@dataclass(frozen=True, config=STORED)
class Temperature:
    """Divides all logits by one number: the order of tags stays (Guo et al., ICML 2017)."""

    temperature: Annotated[Number, Field(gt=0)]
    kind: Literal["temperature"] = "temperature"

    def apply(self, probabilities: FloatArray) -> FloatArray:
        """Sharpen (below 1) or soften (above 1)."""
        return softmax(_logs(probabilities) / self.temperature)


@dataclass(frozen=True, config=STORED)
class Vector:
    """Scales and shifts each tag's logit by itself (Guo et al., ICML 2017)."""

    scale: list[Number]
    shift: list[Number]
    kind: Literal["vector"] = "vector"

    def apply(self, probabilities: FloatArray) -> FloatArray:
        """Correct each tag by its own two numbers."""
        return softmax(_logs(probabilities) * self.scale + self.shift)


@dataclass(frozen=True, config=STORED)
class Isotonic:
    """A rising step function for each tag, then normalised (Zadrozny & Elkan, KDD 2002).

    Attributes:
        inputs: For each tag, probabilities in rising order.
        outputs: For each tag, what these are corrected to; between them, linearly.
    """

    inputs: list[list[Number]]
    outputs: list[list[Number]]
    kind: Literal["isotonic"] = "isotonic"

    def apply(self, probabilities: FloatArray) -> FloatArray:
        """Correct each tag by its own curve."""
        columns = [
            np.interp(column, x, y)
            for column, x, y in zip(probabilities.T, self.inputs, self.outputs, strict=True)
        ]
        # A trace of the old ones decides where all curves say 0, and breaks ties.
        corrected = np.stack(columns, axis=1) + 1e-6 * probabilities
        normalised: FloatArray = corrected / corrected.sum(axis=1, keepdims=True)
        return normalised


Calibrator = Annotated[Unchanged | Temperature | Vector | Isotonic, Field(discriminator="kind")]
"""Its `apply` maps probabilities (n, n_tags) to calibrated ones, whose rows sum to 1."""


def fit_temperature(probabilities: FloatArray, true: IntArray) -> Temperature:
    """Find the temperature under which the true tags are the most probable."""
    from scipy.optimize import minimize_scalar  # half a second that whoever only decides can spare

    logs = _logs(probabilities)

    def loss(log_temperature: float) -> float:
        return _cross_entropy(logs / np.exp(log_temperature), true)

    found = minimize_scalar(loss, bounds=np.log(STRETCH), method="bounded")
    return Temperature(float(np.exp(found.x)))


def fit_vector(probabilities: FloatArray, true: IntArray) -> Vector:
    """Find two numbers a tag under which the true tags are the most probable.

    A little weight on staying near no correction keeps rare tags from running away.
    """
    from scipy.optimize import minimize

    logs, n_tags = _logs(probabilities), probabilities.shape[1]

    def loss(values: FloatArray) -> float:
        scale, shift = values[:n_tags], values[n_tags:]
        penalty = 1e-3 * (np.square(scale - 1).sum() + np.square(shift).sum())
        return _cross_entropy(logs * scale + shift, true) + float(penalty)

    start = np.concatenate([np.ones(n_tags), np.zeros(n_tags)])
    found = minimize(loss, start, method="L-BFGS-B")
    return Vector(found.x[:n_tags].tolist(), found.x[n_tags:].tolist())


def fit_isotonic(probabilities: FloatArray, true: IntArray) -> Isotonic:
    """Fit each tag's curve against the share of rows that have it."""
    from sklearn.isotonic import IsotonicRegression

    inputs, outputs = [], []
    for tag, column in enumerate(probabilities.T):
        curve = IsotonicRegression().fit(column, true == tag)
        inputs.append(curve.X_thresholds_.tolist())
        outputs.append(curve.y_thresholds_.tolist())
    return Isotonic(inputs, outputs)


FITS: dict[str, Callable[[FloatArray, IntArray], Calibrator]] = {
    "none": lambda probabilities, true: Unchanged(),
    "temperature": fit_temperature,
    "vector": fit_vector,
    "isotonic": fit_isotonic,
}


def fit_calibrator(kind: str, probabilities: FloatArray, true: Sequence[int]) -> Calibrator:
    """Fit a correction to predictions of rows that the model did not see.

    Args:
        kind: One of `FITS`.
        probabilities: (n, n_tags), n >= 1.
        true: Position of each row's tag, (n,).
    """
    return FITS[kind](probabilities, np.asarray(true, dtype=np.int64))


def _logs(probabilities: FloatArray) -> FloatArray:
    logs: FloatArray = np.log(np.maximum(probabilities, TINY))
    return logs


def _cross_entropy(logits: FloatArray, true: IntArray) -> float:
    top = logits.max(axis=1)
    totals = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float((totals - logits[np.arange(len(true)), true]).mean())
