import time
from collections.abc import Sequence

import numpy as np
import pytest

from tagger.evaluation.intervals import (
    PROPORTIONS,
    add_intervals,
    bootstrap_ends,
    wilson_interval,
)
from tagger.evaluation.report import OverallScores, Score, TagScores
from tagger.scores import (
    OVERALL,
    FloatArray,
    IntArray,
    confusion_matrix,
    scores_from_confusion,
)


def measure(
    confusion: IntArray, tags: Sequence[str], resamples: int, seed: int
) -> tuple[OverallScores, dict[str, TagScores]]:
    """Score a confusion matrix as the metric of reports does, and add the intervals."""
    scores = scores_from_confusion(confusion)
    by_tag = {
        tag: {name: scores[name][at] for name in ("precision", "recall", "f1")}
        for at, tag in enumerate(tags)
    }
    values = {name: scores[name] for name in OVERALL} | {"per_class": by_tag}
    return add_intervals(values, confusion, resamples, seed)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_published_numbers(
    successes: int, trials: int, low: float, high: float
) -> None:
    found = wilson_interval(successes, trials)
    assert found[0] == pytest.approx(low, abs=5e-5)
    assert found[1] == pytest.approx(high, abs=5e-5)


def test_wilson_at_its_ends() -> None:
    low, high = wilson_interval([0, 7, 0], [7, 7, 0])
    assert low[0] == 0.0
    assert 0 < high[0] < 1
    assert (low[1], high[1]) == (pytest.approx(1 - high[0]), 1.0)
    assert (low[2], high[2]) == (0.0, 1.0)


def test_a_resample_keeps_the_number_of_rows_in_chunks_of_bounded_size() -> None:
    chunks = []

    def score(drawn: IntArray) -> dict[str, FloatArray]:
        chunks.append(drawn)
        return {"first": drawn[:, 0] / 11}

    low, high = bootstrap_ends(np.array([5, 1, 3, 2]), score, 1200, 0)["first"]
    assert [len(drawn) for drawn in chunks] == [500, 500, 200]
    assert all((drawn.sum(axis=1) == 11).all() for drawn in chunks)
    assert np.allclose(np.concatenate(chunks).mean(axis=0), [5, 1, 3, 2], atol=0.3)
    assert 0 < low < 5 / 11 < high < 1


def test_drawing_counts_is_drawing_rows() -> None:
    """Against the plain way: rows drawn one by one with replacement."""
    rng = np.random.default_rng(1)
    true = rng.integers(0, 3, 80)
    predicted = np.where(rng.random(80) < 0.8, true, rng.integers(0, 3, 80))
    confusion = confusion_matrix(true, predicted, 3)
    plain = []
    for _ in range(3000):
        rows = rng.integers(0, 80, 80)
        counts = confusion_matrix(true[rows], predicted[rows], 3)
        plain.append(scores_from_confusion(counts)["macro_f1"])
    overall, _ = measure(confusion, ["a", "b", "c"], 3000, 0)
    ends = np.quantile(plain, [0.025, 0.975])
    assert overall.macro_f1.low == pytest.approx(ends[0], abs=0.012)
    assert overall.macro_f1.high == pytest.approx(ends[1], abs=0.012)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "weighted_f1", "macro_precision"])
def test_averages_are_covered_about_as_often_as_promised(name: str) -> None:
    law = np.array([[0.40, 0.03, 0.02], [0.04, 0.30, 0.01], [0.03, 0.02, 0.15]])
    truth = scores_from_confusion((law * 1e6).round().astype(np.int64))[name]
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        confusion = rng.multinomial(120, law.ravel()).reshape(3, 3)
        score = getattr(measure(confusion, "abc", 200, 0)[0], name)
        held += score.low <= truth <= score.high
    assert 0.89 <= held / 200 <= 0.99


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_scores_of_a_rare_tag_are_covered(name: str) -> None:
    law = np.array([[0.80, 0.03], [0.02, 0.15]])
    truth = scores_from_confusion((law * 1e6).round().astype(np.int64))[name][1]
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(300):
        confusion = rng.multinomial(40, law.ravel()).reshape(2, 2)
        score = getattr(measure(confusion, "ab", 100, 0)[1]["b"], name)
        held += score.low <= truth <= score.high
    assert held / 300 >= 0.92


def test_a_perfect_tag_is_not_certain() -> None:
    _, per_class = measure(np.diag([9, 30]), ["rare", "common"], 200, 0)
    assert per_class["rare"].f1.value == 1
    assert per_class["rare"].f1.low < per_class["common"].f1.low < 1


def test_without_any_error_no_average_is_certain() -> None:
    few, _ = measure(np.diag([1, 2, 0]), "abc", 200, 0)
    many, _ = measure(np.diag([100, 200, 0]), "abc", 200, 0)
    for name in OVERALL:
        assert getattr(few, name).low < getattr(many, name).low < getattr(many, name).value, name
        assert getattr(many, name).high >= getattr(many, name).value, name
    assert few.weighted_f1.value == few.weighted_f1.high == 1
    assert few.macro_f1.value == pytest.approx(2 / 3)


def test_without_any_hit_no_average_is_certain() -> None:
    overall, _ = measure(np.array([[0, 9], [0, 0]]), "ab", 200, 0)
    for name in OVERALL:
        assert getattr(overall, name).value == getattr(overall, name).low == 0
        assert 0 < getattr(overall, name).high <= 1, name
    assert overall.weighted_f1.high < 0.6


def test_values_lie_inside_their_intervals_and_equal_scores_agree() -> None:
    confusion = np.array([[20, 3, 0, 0], [2, 11, 1, 0], [0, 1, 2, 0], [0, 0, 0, 0]])
    overall, per_class = measure(confusion, "abcd", 500, 0)
    for name in OVERALL:
        score = getattr(overall, name)
        assert 0 <= score.low <= score.value <= score.high <= 1, name
    assert len({str(getattr(overall, name)) for name in PROPORTIONS}) == 1
    assert per_class["d"].num_samples == 0
    assert per_class["d"].recall == Score(value=0, low=0, high=1)
    assert sum(block.num_samples for block in per_class.values()) == overall.num_samples == 40


def test_the_seed_decides() -> None:
    confusion = np.array([[20, 3], [2, 11]])
    one, same, other = (measure(confusion, "ab", 300, seed)[0] for seed in (1, 1, 2))
    assert one == same
    assert one.macro_f1 != other.macro_f1
    assert one.accuracy == other.accuracy


def test_ten_slices_of_764_rows_take_less_than_a_second() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 764)
    predicted = np.where(rng.random(764) < 0.85, true, rng.integers(0, 4, 764))
    confusion = confusion_matrix(true, predicted, 4)
    start = time.process_time()
    for seed in range(10):
        measure(confusion, "abcd", 2000, seed)
    assert time.process_time() - start < 1


def test_wilson_of_one_trial_and_of_none() -> None:
    with np.errstate(all="raise"):
        low, high = wilson_interval([1, 0, 0], [1, 1, 0])
    assert low.tolist() == [pytest.approx(1 / (1 + 1.959964**2)), 0, 0]
    assert high.tolist() == [1, pytest.approx(1 - low[0]), 1]


def test_bootstrap_ends_are_the_quantiles_that_leave_out_a_fortieth_each() -> None:
    def share(drawn: IntArray) -> dict[str, FloatArray]:
        return {"share": drawn[:, 0] / drawn.sum(axis=1)}

    low, high = bootstrap_ends(np.array([500, 500]), share, 20_000, 0)["share"]
    reach = 1.959964 * 0.5 / 1000**0.5
    assert low == pytest.approx(0.5 - reach, abs=0.0011)
    assert high == pytest.approx(0.5 + reach, abs=0.0011)


def test_ends_of_a_tag_come_from_its_own_counts() -> None:
    _, per_class = measure(np.array([[8, 2, 0], [1, 5, 0], [3, 0, 1]]), "abc", 10, 0)

    def wilson(hits: int, trials: int) -> list[float]:
        return [float(end) for end in wilson_interval(hits, trials)]

    def ends(score: Score) -> list[float]:
        return pytest.approx([score.low, score.high])

    for tag, hits, chosen, support in [("a", 8, 12, 10), ("b", 5, 7, 6), ("c", 1, 1, 4)]:
        scores = per_class[tag]
        assert wilson(hits, chosen) == ends(scores.precision)
        assert wilson(hits, support) == ends(scores.recall)
        jaccard = wilson(hits, support + chosen - hits)
        assert [2 * one / (1 + one) for one in jaccard] == ends(scores.f1)


def test_a_single_hit_is_resampled_and_no_upper_end() -> None:
    overall, _ = measure(np.array([[1, 9], [10, 0]]), "ab", 200, 0)
    assert overall.weighted_f1.high > overall.weighted_f1.value > overall.weighted_f1.low


def test_without_an_error_the_end_is_the_average_of_the_tags_own() -> None:
    overall, per_class = measure(np.array([[9, 0], [0, 1]]), "ab", 200, 0)
    lows = [per_class[tag].precision.low for tag in "ab"]
    assert overall.weighted_precision.low == pytest.approx(0.9 * lows[0] + 0.1 * lows[1])
    assert overall.macro_precision.low == pytest.approx(sum(lows) / 2)
    assert overall.weighted_precision.high == 1
