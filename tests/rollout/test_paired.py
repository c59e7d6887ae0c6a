import numpy as np
import pytest

from tagger.rollout.paired import (
    Judged,
    compare_quality,
    judge,
    quality_evidence,
    scores,
    sign_log_evidence,
)


@pytest.mark.parametrize(
    ("old", "new", "label", "outcome"),
    [
        ("a", "b", "b", "corrected"),
        ("a", "b", "a", "broken"),
        ("a", "b", "c", "tied"),
        ("a", None, "a", "lost"),
        ("a", None, "b", "spared"),
        (None, "a", "a", "filled"),
        (None, "a", "b", "spoiled"),
    ],
)
def test_a_disagreement_is_judged_by_what_it_changed(
    old: str | None, new: str | None, label: str, outcome: str
) -> None:
    assert judge(old, new, label) == outcome


def test_a_wrong_tag_outweighs_as_many_right_ones_as_the_plan_says() -> None:
    values, times = scores(Judged(filled=4, spoiled=1), wrong_costs=4)
    assert values @ times == pytest.approx(0)
    better, _ = quality_evidence(Judged(filled=60, spoiled=15), 4)
    assert better < 0  # nothing was gained
    assert compare_quality(Judged(filled=60, spoiled=1), 4, 0.05) == "better"
    assert compare_quality(Judged(filled=60, spoiled=60), 4, 0.05) == "worse"


def test_without_judgements_nothing_is_decided() -> None:
    assert compare_quality(Judged(), 4, 0.05) == "not enough"
    assert compare_quality(Judged(tied=1_000), 4, 0.05) == "not enough"
    assert compare_quality(Judged(corrected=26, broken=20), 4, 0.05) == "not enough"


def test_three_in_four_of_45_are_enough_and_a_mirror_image_is_worse() -> None:
    assert compare_quality(Judged(corrected=33, broken=12), 4, 0.05) == "better"
    assert compare_quality(Judged(corrected=13, broken=35), 4, 0.05) == "worse"


def test_the_evidence_has_mean_one_where_both_runs_are_equal() -> None:
    wins = np.arange(31, dtype=np.float64)
    chances = np.array([float(np.prod([(30 - i) / (i + 1) for i in range(k)])) for k in range(31)])
    mean = np.sum(chances * np.exp(sign_log_evidence(wins, 30 - wins))) / 2**30
    assert mean == pytest.approx(1)


def test_equal_runs_are_seldom_told_apart_however_often_one_looks() -> None:
    won = np.cumsum(np.random.default_rng(0).random((400, 1_000)) < 0.5, axis=1) * 1.0
    lost = np.arange(1, 1_001) - won
    ever = sign_log_evidence(won, lost).max(axis=1) >= np.log(20)
    assert 0 < ever.mean() <= 0.05
