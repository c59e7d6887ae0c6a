import numpy as np
import pytest

from tagger.errors import UserError
from tagger.rollout.ab import Arms, compare_arms, log_evidence, needed_items, ratio_is_wrong
from tagger.rollout.plan import AbConfig

CONFIG = AbConfig(metric="review", baseline=0.2, effect=0.05)


def test_without_items_or_without_hits_nothing_is_decided() -> None:
    assert compare_arms(Arms(), 0.5, 0.05) == "not enough"
    assert compare_arms(Arms(new=50_000, old=50_000), 0.5, 0.05) == "not enough"


def test_fewer_hits_are_better_and_more_are_worse() -> None:
    few = Arms(new=2_000, new_hits=300, old=2_000, old_hits=400)
    assert compare_arms(few, 0.5, 0.05) == "better"
    many = Arms(new=2_000, new_hits=400, old=2_000, old_hits=300)
    assert compare_arms(many, 0.5, 0.05) == "worse"
    alike = Arms(new=2_000, new_hits=400, old=2_000, old_hits=410)
    assert compare_arms(alike, 0.5, 0.05) == "not enough"


def test_the_share_of_the_new_arm_is_taken_into_account() -> None:
    arms = Arms(new=1_000, new_hits=100, old=9_000, old_hits=1_800)
    assert compare_arms(arms, 0.1, 0.05) == "better"


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.05])
def test_equal_arms_are_seldom_told_apart_however_often_one_looks(share: float) -> None:
    rng = np.random.default_rng(0)
    is_new, hit = rng.random((300, 3_000)) < share, rng.random((300, 3_000)) < 0.2
    parts = (is_new, is_new & hit, ~is_new, ~is_new & hit)
    counts = [np.cumsum(one, axis=1)[:, 19::20] * 1.0 for one in parts]
    better, worse = log_evidence(share, *counts)
    assert np.mean(np.maximum(better, worse).max(axis=1) >= np.log(40)) <= 0.05


@pytest.mark.slow
def test_how_many_items_are_needed_is_said_beforehand_and_depends_on_the_effect() -> None:
    needed = needed_items(CONFIG, 0.5, 0.05)
    assert 2_500 < needed <= 5_000
    assert needed_items(CONFIG, 0.05, 0.05) > needed
    with pytest.raises(UserError, match="larger effect"):
        needed_items(AbConfig(metric="review", baseline=0.2, effect=1e-5), 0.5, 0.05)


def test_arms_of_the_wrong_size_are_noticed() -> None:
    assert not ratio_is_wrong(Arms(new=5_060, old=4_940), 0.5)
    assert ratio_is_wrong(Arms(new=5_400, old=4_600), 0.5)
    assert not ratio_is_wrong(Arms(), 0.5)
