import numpy as np
import pytest

from tagger.evaluation.calibration import N_BINS, calibration


def two_tags(confidence: list[float]) -> np.ndarray:
    return np.array([[one, 1 - one] for one in confidence])


def test_error_by_hand() -> None:
    # Four rows at 0.95, three right; one at 0.65, right.
    result = calibration(two_tags([0.95] * 4 + [0.65]), np.array([0, 0, 0, 1, 0]))
    assert result["ece"] == pytest.approx(4 / 5 * abs(0.95 - 0.75) + 1 / 5 * abs(0.65 - 1))
    last = result["bins"][-1]
    assert last["num_samples"] == 4
    assert (last["confidence"], last["accuracy"]) == (pytest.approx(0.95), 0.75)
    assert result["bins"][0] == {
        "low": 0, "high": 0.1, "num_samples": 0, "confidence": None, "accuracy": None,
    }  # fmt: skip


def test_every_row_is_in_one_bin_edges_included() -> None:
    result = calibration(two_tags([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), np.zeros(6, dtype=int))
    assert len(result["bins"]) == N_BINS
    assert sum(one["num_samples"] for one in result["bins"]) == 6
    assert result["bins"][-1]["num_samples"] == 1


def test_certain_and_right_is_perfect() -> None:
    assert calibration(two_tags([1.0, 1.0]), np.array([0, 0]))["ece"] == 0
