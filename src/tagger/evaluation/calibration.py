"""Whether a probability of 0.8 is right 8 times in 10."""

from typing import Any

import numpy as np
import numpy.typing as npt

N_BINS = 10


def calibration(
    probabilities: npt.NDArray[np.float64], true: npt.NDArray[np.integer]
) -> dict[str, Any]:
    """Compare the confidence of decisions with how often they are right.

    Rows are grouped into bins of equal width by the probability of the tag decided for. The
    expected calibration error is the mean distance between a bin's mean confidence and its
    accuracy, weighted by rows (Guo, Pleiss, Sun and Weinberger, ICML 2017).

    Args:
        probabilities: Shape (n, n_tags), n >= 1, rows sum to 1.
        true: Position of the true tag, shape (n,).

    Returns:
        Ready for JSON: `{"ece": .., "bins": [{"low", "high", "num_samples", "confidence",
        "accuracy"}, ...]}`; confidence and accuracy are None in a bin without rows.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == true
    # Probabilities on an edge go to the bin below it; exactly 0 cannot be a maximum.
    position = np.clip(np.ceil(confidence * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    bins: list[dict[str, Any]] = []
    error = 0.0
    for index in range(N_BINS):
        inside = position == index
        count = int(inside.sum())
        mean = float(confidence[inside].mean()) if count else None
        accuracy = float(right[inside].mean()) if count else None
        if mean is not None and accuracy is not None:
            error += count / len(confidence) * abs(mean - accuracy)
        bins.append(
            {
                "low": index / N_BINS,
                "high": (index + 1) / N_BINS,
                "num_samples": count,
                "confidence": mean,
                "accuracy": accuracy,
            }
        )
    return {"ece": error, "bins": bins}
