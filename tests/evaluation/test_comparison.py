import numpy as np
import pytest

from tagger.data.items import Item
from tagger.evaluation.comparison import compare_decisions, mcnemar_p_value, paired_bootstrap
from tagger.scores import confusion_matrix, scores_from_confusion

TAGS = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("fixed", "broken", "expected"),
    [
        (8, 2, 2 * (1 + 10 + 45) / 2**10),  # both tails of ten tosses
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
        (5, 0, 2 / 2**5),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(fixed: int, broken: int, expected: float) -> None:
    assert mcnemar_p_value(fixed, broken) == pytest.approx(expected)


def test_changed_items_are_told_apart() -> None:
    items = [Item(str(number), f"title {number}", "") for number in range(5)]
    true, ours = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 0, 2])
    theirs = np.array([0, 1, 1, 2, 2])
    result = compare_decisions(items, true, ours, theirs, TAGS, resamples=100, seed=0)
    assert [one["id"] for one in result["fixed"]] == ["1"]
    assert [one["id"] for one in result["broken"]] == ["2"]
    expected = {"id": "3", "title": "title 3", "true": "b", "ours": "a", "theirs": "c"}
    assert result["still_wrong"] == [expected]
    assert result["num_samples"] == 5
    assert result["mcnemar"] == {"fixed": 1, "broken": 1, "p_value": 1.0}
    assert result["differences"]["accuracy"]["value"] == 0


def test_equal_runs_do_not_differ_at_all() -> None:
    true = np.array([0, 1, 2, 0, 1])
    same = np.array([0, 1, 1, 0, 0])
    ends = paired_bootstrap(true, same, same, 3, resamples=200, seed=0)
    assert set(ends.values()) == {(0.0, 0.0)}


def test_pairing_finds_what_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 300)
    hard = rng.random(300) < 0.25
    theirs = np.where(hard, (true + 1) % 3, true)
    ours = theirs.copy()
    mended = np.flatnonzero(hard)[:12]
    ours[mended] = true[mended]
    low, high = paired_bootstrap(true, ours, theirs, 3, resamples=1000, seed=0)["accuracy"]
    assert 0 < low < 12 / 300 < high < 0.08
    swapped = paired_bootstrap(true, theirs, ours, 3, resamples=1000, seed=0)["accuracy"]
    assert swapped[1] < 0


def test_drawing_counts_is_drawing_pairs() -> None:
    rng = np.random.default_rng(3)
    true = rng.integers(0, 3, 90)
    ours, theirs = (
        np.where(rng.random(90) < share, true, rng.integers(0, 3, 90)) for share in (0.8, 0.7)
    )
    plain = []
    for _ in range(3000):
        rows = rng.integers(0, 90, 90)
        one, two = (
            scores_from_confusion(confusion_matrix(true[rows], run[rows], 3))["macro_f1"]
            for run in (ours, theirs)
        )
        plain.append(one - two)
    found = paired_bootstrap(true, ours, theirs, 3, resamples=3000, seed=0)["macro_f1"]
    assert found == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.015)


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    true, ours, theirs = (rng.integers(0, 3, 60) for _ in range(3))
    one, same, other = (
        paired_bootstrap(true, ours, theirs, 3, resamples=200, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same != other
