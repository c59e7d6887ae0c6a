import numpy as np
import pytest

from tagger.compare import scoring
from tagger.compare.comparison import threshold_config
from tagger.compare.report import Difference
from tagger.compare.scoring import (
    SCORES,
    better_than,
    compare_all,
    score_cross_domain,
    score_out_of_fold,
)
from tagger.config.schema import DecisionConfig
from tagger.scores import FloatArray, IntArray, confusion_matrix, scores_from_confusion

N, TAGS, SEEDS = 240, 3, 2


@pytest.fixture
def true() -> IntArray:
    return np.arange(N) % TAGS


def answers(true: IntArray, accuracy: float, seed: int, sharpness: float = 3.0) -> FloatArray:
    """Probabilities of two runs that are right on a share of the rows."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(SEEDS):
        chosen = np.where(random.random(N) < accuracy, true, (true + 1) % TAGS)
        logits = np.eye(TAGS)[chosen] * sharpness + random.normal(0, 0.3, (N, TAGS))
        exponentials = np.exp(logits)
        rows.append(exponentials / exponentials.sum(axis=1, keepdims=True))
    return np.array(rows)


def promise(precision: float) -> DecisionConfig:
    return threshold_config().model_copy(update={"target_precision": precision})


def test_what_a_model_abstains_from_is_not_published(true: IntArray) -> None:
    probabilities = answers(true, 1.0, 0)
    probabilities[:, ::2] = 1 / TAGS
    result = score_out_of_fold(probabilities, true, folds(), promise(0.9))
    assert result["coverage"] == pytest.approx(0.5, abs=0.02)
    assert result["published_precision"] == 1.0


def folds() -> IntArray:
    return np.tile(np.arange(N) % 5, (SEEDS, 1))


def test_scores_are_means_over_seeds(true: IntArray) -> None:
    probabilities = answers(true, 0.8, 0)
    result = score_out_of_fold(probabilities, true, folds(), promise(0.9))
    for name in SCORES:
        per_seed = [
            scores_from_confusion(confusion_matrix(true, rows.argmax(1), TAGS))[name]
            for rows in probabilities
        ]
        assert result[name] == pytest.approx(np.mean(per_seed))
        assert result[f"{name}_sd"] == pytest.approx(np.std(per_seed, ddof=1))


def test_temperature_is_fitted_to_the_other_folds(true: IntArray) -> None:
    sure = answers(true, 0.8, 0, sharpness=8.0)  # sure of everything, right in 8 of 10
    result = score_out_of_fold(sure, true, folds(), promise(0.9))
    assert result["ece_before"] is not None and result["ece"] is not None
    assert result["ece_before"] > 0.15
    assert result["ece"] < 0.6 * result["ece_before"]


def test_a_promise_out_of_reach_publishes_nothing(true: IntArray) -> None:
    result = score_out_of_fold(answers(true, 0.5, 0), true, folds(), promise(0.99))
    assert result["coverage"] == 0.0
    assert result["published_precision"] is None


def test_a_promise_within_reach_is_kept(true: IntArray) -> None:
    result = score_out_of_fold(answers(true, 0.99, 0), true, folds(), promise(0.9))
    assert result["coverage"] is not None and result["coverage"] > 0.9
    assert result["published_precision"] is not None and result["published_precision"] > 0.95


def test_differences_are_those_of_the_mean_scores(true: IntArray) -> None:
    approaches = {"good": answers(true, 0.9, 1), "poor": answers(true, 0.6, 2)}
    (one,) = compare_all(approaches, true, "weighted_f1")
    expected = [
        np.mean(
            [
                scores_from_confusion(confusion_matrix(true, rows.argmax(1), TAGS))["weighted_f1"]
                for rows in runs
            ]
        )
        for runs in approaches.values()
    ]
    assert (one.one, one.other) == ("good", "poor")
    assert one.value == pytest.approx(expected[0] - expected[1])
    assert one.low < one.value < one.high
    assert one.proven


def test_equal_approaches_are_not_called_better(true: IntArray) -> None:
    same = answers(true, 0.8, 1)
    (one,) = compare_all({"a": same, "b": same.copy()}, true, "macro_f1")
    assert one.value == 0.0
    assert not one.proven


def test_more_comparisons_make_wider_intervals(true: IntArray) -> None:
    approaches = {str(seed): answers(true, 0.8, seed) for seed in range(8)}
    (alone,) = compare_all({name: approaches[name] for name in ("0", "1")}, true, "weighted_f1")
    among = compare_all(approaches, true, "weighted_f1")
    assert len(among) == 28
    assert among[0].high - among[0].low > 1.2 * (alone.high - alone.low)


@pytest.mark.slow
def test_intervals_of_level_approaches_rarely_leave_out_zero(
    true: IntArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 10 pairs of 5 approaches that are alike, 40 times: at most 5 % should err, with luck."""
    monkeypatch.setattr(scoring, "RESAMPLES", 500)
    wrong = 0
    for repeat in range(40):
        approaches = {str(k): answers(true, 0.8, 1000 * repeat + k)[:1] for k in range(5)}
        wrong += any(
            one.proven for one in compare_all(approaches, true, "weighted_f1", seed=repeat)
        )
    assert wrong <= 6


def test_chosen_pairs_alone_are_compared_and_by_narrower_intervals(true: IntArray) -> None:
    approaches = {name: answers(true, 0.8, at) for at, name in enumerate("abcdef")}
    pairs = compare_all(approaches, true, "weighted_f1", pairs=[("c", "a"), ("b", "a")])
    assert [(one.one, one.other) for one in pairs] == [("c", "a"), ("b", "a")]
    everything = compare_all(approaches, true, "weighted_f1")
    (same,) = [one for one in everything if (one.one, one.other) == ("a", "b")]
    assert same.value == pytest.approx(-pairs[1].value)
    assert pairs[1].high - pairs[1].low < same.high - same.low


def difference(one: str, other: str, value: float, low: float, high: float) -> Difference:
    proven = low > 0 or high < 0
    return Difference(one=one, other=other, value=value, low=low, high=high, proven=proven)


def test_better_than_reads_both_directions() -> None:
    pairs = [
        difference("a", "b", 0.1, 0.05, 0.15),
        difference("a", "c", -0.1, -0.2, -0.01),
        difference("b", "c", 0.0, -0.1, 0.1),
    ]
    assert better_than(pairs, "a") == ["b"]
    assert better_than(pairs, "b") == []
    assert better_than(pairs, "c") == ["a"]


def test_one_approach_has_nothing_to_be_compared_with(true: IntArray) -> None:
    assert compare_all({"only": answers(true, 0.8, 0)}, true, "weighted_f1") == []


def test_another_source_is_decided_by_what_was_fitted_to_its_own(true: IntArray) -> None:
    home = answers(true, 0.97, 0)
    abroad = answers(true, 0.6, 1)  # as sure as at home, and often wrong
    result = score_cross_domain(abroad, true, home, true, promise(0.9))
    own = score_out_of_fold(home, true, folds(), promise(0.9))
    assert own["published_precision"] is not None and own["published_precision"] > 0.9
    assert result["coverage"] is not None and result["coverage"] > 0.9
    assert result["published_precision"] == pytest.approx(0.6, abs=0.08)
    assert result["weighted_f1"] == pytest.approx(0.6, abs=0.08)
