import math

import numpy as np
import pytest

from tagger.decision.bounds import clopper_pearson_lower, p_value_of_precision


def chance_of_at_least(successes, trials, chance):
    """The upper tail of a binomial, added up term by term."""
    return sum(
        math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k)
        for k in range(successes, trials + 1)
    )


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "trials"), [(1, 1), (1, 20), (7, 12), (59, 60), (60, 60)])
def test_at_the_lower_end_so_many_successes_have_just_the_chance_that_is_left(
    successes, trials, confidence
):
    low = clopper_pearson_lower(successes, trials, confidence)
    assert chance_of_at_least(successes, trials, low) == pytest.approx(1 - confidence, rel=1e-9)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (0, 10, 0.0),
        (10, 10, 0.05 ** (1 / 10)),
        (8, 10, 0.493099),  # the lower end of the two-sided 90 % interval in tables
        (59, 59, 0.950493),  # 59 rows without an error: the well-known fewest for 95 % and 95 %
        (58, 58, 0.949661),
    ],
)
def test_known_lower_ends(successes, trials, expected):
    assert clopper_pearson_lower(successes, trials, 0.95) == pytest.approx(expected, abs=1e-6)


def test_without_a_trial_nothing_is_known():
    assert clopper_pearson_lower(0, 0, 0.95) == 0.0
    assert p_value_of_precision(0, 0, 0.98) == 1.0


@pytest.mark.parametrize(("errors", "published"), [(0, 1), (0, 148), (3, 200), (12, 40), (40, 40)])
def test_p_value_is_the_chance_of_so_few_errors(errors, published):
    expected = sum(
        math.comb(published, k) * 0.02**k * 0.98 ** (published - k) for k in range(errors + 1)
    )
    assert p_value_of_precision(errors, published, 0.98) == pytest.approx(expected, rel=1e-9)


def test_known_p_values():
    assert p_value_of_precision(0, 59, 0.95) == pytest.approx(0.95**59)
    assert p_value_of_precision(59, 59, 0.95) == pytest.approx(1)


@pytest.mark.parametrize("errors", range(6))
def test_test_and_interval_say_the_same(errors):
    # That the promise is broken is rejected exactly where the lower end reaches it.
    for published in range(max(errors, 1), 300, 7):
        low = clopper_pearson_lower(published - errors, published, 0.95)
        assert (p_value_of_precision(errors, published, 0.98) <= 0.05) == (low >= 0.98)


def test_the_true_chance_is_above_the_end_as_often_as_is_said():
    random = np.random.default_rng(0)
    draws = random.binomial(80, 0.9, size=1000)
    below = np.mean([clopper_pearson_lower(int(one), 80, 0.9) <= 0.9 for one in draws])
    assert below >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / 1000)
