import numpy as np
import pytest

from tagger.evaluation.calibration import ADAPTIVE_BINS, N_BINS, describe_calibration
from tagger.evaluation.report import ReliabilityBin


def two_tags(confidence: list[float]) -> np.ndarray:
    return np.array([[one, 1 - one] for one in confidence])


# Four rows at 0.95, three right; one at 0.65, right.
BY_HAND = two_tags([0.95] * 4 + [0.65]), np.array([0, 0, 0, 1, 0])


def test_error_by_hand() -> None:
    result = describe_calibration(*BY_HAND, "ab")
    assert result.ece == pytest.approx(4 / 5 * abs(0.95 - 0.75) + 1 / 5 * abs(0.65 - 1))
    last = result.bins[-1]
    assert last.num_samples == 4
    assert (last.confidence, last.accuracy) == (pytest.approx(0.95), 0.75)
    assert result.bins[0] == ReliabilityBin(
        low=0, high=0.1, num_samples=0, confidence=None, accuracy=None
    )


def test_scores_of_probabilities_by_hand() -> None:
    result = describe_calibration(*BY_HAND, "ab")
    off = np.array([0.05, 0.05, 0.05, 0.95, 0.35])  # from the row's true tag, whose 1 it lacks
    assert result.brier == pytest.approx(2 * np.square(off).mean())
    assert result.likelihood == pytest.approx(-np.log(1 - off).mean())
    assert result.ece_adaptive == pytest.approx(off.mean()), "five rows make five bins"
    for tag in "ab":
        block = result.per_class[tag]
        assert block.ece_adaptive == pytest.approx(off.mean())
        assert block.brier == pytest.approx(np.square(off).mean())


def test_each_tag_is_judged_by_its_own_probability() -> None:
    # Nothing is known of `a` and `b`; `c` is always recognised as absent.
    probabilities = np.array([[0.5, 0.5, 0.0]] * 30)
    result = describe_calibration(probabilities, np.array([0] * 30), "abc")
    assert [block.ece_adaptive for block in result.per_class.values()] == [0.5, 0.5, 0]
    assert [block.brier for block in result.per_class.values()] == [0.25, 0.25, 0]
    filled = [[b for b in one.bins if b.num_samples] for one in result.per_class.values()]
    assert [len(bins) for bins in filled] == [1, 1, 1]
    assert [bins[0].confidence for bins in filled] == [0.5, 0.5, 0]
    assert [bins[0].accuracy for bins in filled] == [1, 0, 0]


def test_what_cancels_within_a_bin_of_equal_width_shows_in_bins_of_equally_many_rows() -> None:
    rows = 10 * ADAPTIVE_BINS
    confidence = [0.91] * rows + [0.99] * rows
    # The surer half is right in 9 of 10, the other always: together 95 %, as they say.
    true = np.array([0] * rows + [int(n % 10 == 0) for n in range(rows)])
    result = describe_calibration(two_tags(confidence), true, "ab")
    assert result.ece == pytest.approx(0, abs=1e-9)
    # Seven bins of either half are off by 0.09; the one in the middle holds rows of both.
    assert result.ece_adaptive == pytest.approx(14 / 15 * 0.09)


def test_every_row_is_in_one_bin_edges_included() -> None:
    probabilities = two_tags([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    result = describe_calibration(probabilities, np.zeros(6, dtype=int), "ab")
    assert len(result.bins) == N_BINS
    assert sum(one.num_samples for one in result.bins) == 6
    assert result.bins[-1].num_samples == 1


def test_certain_and_right_is_perfect() -> None:
    result = describe_calibration(two_tags([1.0, 1.0]), np.array([0, 0]), "ab")
    assert result.ece == result.ece_adaptive == result.brier == result.likelihood == 0


def test_certain_and_wrong_is_finite() -> None:
    result = describe_calibration(two_tags([1.0, 1.0]), np.array([1, 1]), "ab")
    assert result.ece == result.ece_adaptive == 1
    assert result.brier == 2
    assert 20 < result.likelihood < 100


def test_bins_divide_the_range_evenly_and_nothing_falls_out() -> None:
    result = describe_calibration(np.array([[0.0, 1.0], [0.05, 0.95]]), np.array([1, 1]), "ab")
    bins = result.per_class["a"].bins
    assert [one.low for one in bins] == pytest.approx([n / N_BINS for n in range(N_BINS)])
    assert [one.high for one in bins] == pytest.approx([(n + 1) / N_BINS for n in range(N_BINS)])
    assert bins[0].num_samples == 2
    assert result.bins[-1].num_samples == 2
