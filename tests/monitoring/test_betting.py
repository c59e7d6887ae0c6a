import itertools
import math

import numpy as np
import pytest

from tagger.monitoring.betting import SLOWNESS, Bets


def test_the_capital_after_two_bets_is_what_a_hand_computes() -> None:
    bets = Bets.begin(1, 2, at_start=0.5)
    bets.observe(np.array([[2.0, 0.5]]))
    left = 0.5 / (1 + math.log(1 + 1 / SLOWNESS))
    staked = 0.25 + (0.5 - left) / 2
    assert bets.values[0] == pytest.approx(left + staked * 2.5)
    bets.observe(np.array([[1.0, 0.0]]))
    then = 0.5 / (1 + math.log(1 + 2 / SLOWNESS))
    moved = (left - then) / 2
    assert bets.values[0] == pytest.approx(then + staked * 2 + moved)


def test_the_capital_is_one_in_the_mean_over_all_that_can_happen() -> None:
    """Of fair bets; over all 2^8 sequences of a fair coin."""
    total = 0.0
    for coins in itertools.product((-1, 1), repeat=8):
        bets = Bets.begin(1, 3, at_start=0.3)
        for coin in coins:
            bets.observe(1 + coin * np.array([[0.9, 0.2, -0.6]]))
        total += bets.values[0]
    assert total / 2**8 == pytest.approx(1.0)


def test_a_late_change_is_not_paid_for_with_what_was_lost_before() -> None:
    bets = Bets.begin(1, 1, at_start=0.0)
    for _ in range(2000):
        bets.observe(np.array([[0.9]]))
    lost = bets.values[0]
    for _ in range(20):
        bets.observe(np.array([[1.9]]))
    assert lost < 1
    assert bets.values[0] > 20  # what was staked at the start would be worth 1e-92


def test_bets_are_read_back_as_they_were() -> None:
    bets = Bets.begin(2, 3, at_start=0.1)
    bets.observe(np.full((2, 3), 1 / 3))
    again = Bets.model_validate_json(bets.model_dump_json())
    assert (again.staked == bets.staked).all()
    assert again.count == 1
