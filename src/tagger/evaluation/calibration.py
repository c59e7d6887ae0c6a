"""Measures how well predicted probabilities are calibrated."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tagger.decision.policies import most_probable
from tagger.evaluation.report import Calibration, ReliabilityBin, TagCalibration
from tagger.scores import FloatArray, IntArray

N_BINS = 10
ADAPTIVE_BINS = 15


def describe_calibration(
    probabilities: FloatArray, true: IntArray, tags: Sequence[str]
) -> Calibration:
    """Compare probabilities with how often they come true.

    Args:
        probabilities: Shape (n, n_tags), n >= 1, rows sum to 1.
        true: Position of the true tag, shape (n,).
        tags: Names, in that order.
    """
    confidence = probabilities.max(axis=1)
    right = most_probable(probabilities) == true
    one_hot = np.eye(probabilities.shape[1])[true]
    bins = reliability_bins(confidence, right)
    of_true = probabilities[np.arange(len(true)), true]
    return Calibration(
        ece=sum(
            one.num_samples / len(true) * abs(one.confidence - one.accuracy)
            for one in bins
            if one.confidence is not None and one.accuracy is not None
        ),
        ece_adaptive=adaptive_error(confidence, right),
        brier=float(np.square(probabilities - one_hot).sum(axis=1).mean()),
        likelihood=float(-np.log(np.maximum(of_true, 1e-12)).mean()),
        per_class={
            tag: TagCalibration(
                ece_adaptive=adaptive_error(probabilities[:, at], one_hot[:, at] > 0),
                brier=float(np.square(probabilities[:, at] - one_hot[:, at]).mean()),
                bins=reliability_bins(probabilities[:, at], one_hot[:, at] > 0),
            )
            for at, tag in enumerate(tags)
        },
        bins=bins,
    )


def reliability_bins(confidence: FloatArray, right: npt.NDArray[np.bool_]) -> list[ReliabilityBin]:
    """Group rows into bins of equal width by their confidence.

    The mean distance between a bin's mean confidence and its accuracy, weighted by rows, is the
    expected calibration error (Guo, Pleiss, Sun and Weinberger, ICML 2017).
    """
    # Probabilities on an edge go to the bin below it; exactly 0 cannot be a maximum.
    position = np.clip(np.ceil(confidence * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    bins = []
    for index in range(N_BINS):
        inside = position == index
        filled = bool(inside.any())
        bins.append(
            ReliabilityBin(
                low=index / N_BINS,
                high=(index + 1) / N_BINS,
                num_samples=int(inside.sum()),
                confidence=float(confidence[inside].mean()) if filled else None,
                accuracy=float(right[inside].mean()) if filled else None,
            )
        )
    return bins


def adaptive_error(confidence: FloatArray, right: npt.NDArray[np.bool_]) -> float:
    """Compute the expected calibration error over bins of equally many rows.

    Where nearly all confidences are high, bins of equal width put nearly all rows into one, and
    what happens within it cancels (Nixon et al., CVPR workshops 2019).
    """
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(ADAPTIVE_BINS, len(order)))
    gaps = [abs(confidence[part].mean() - right[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(order))
