import math

import numpy as np
import pytest
from scipy.special import betaln
from scipy.stats import binom

from tagger.monitoring.quality import Group, Since, precision_interval, promise_factors


def test_the_estimate_without_labels_is_what_a_hand_computes() -> None:
    group = Group(promise=None)
    assert group.expected_precision() is None
    for probability in (0.9, 1.0, 0.8):
        group.publish(probability, 0)
    expected = group.expected_precision()
    assert expected is not None
    half = 1.96 * math.sqrt(0.09 + 0.16) / 3
    assert expected.value == pytest.approx(0.9)
    assert expected.low == pytest.approx(0.9 - half, abs=1e-3)
    assert expected.high == 1.0
    assert group.evidence("promise") == group.evidence("reports") == 1.0  # nothing is promised


def test_a_bet_is_a_likelihood_ratio_where_all_are_drawn_alike() -> None:
    """Promised 0.98: bets on 4 %, 8 % and 16 % of errors."""
    assert promise_factors(False, 0.02, 0.98, 0.02) == pytest.approx([2, 4, 8])
    assert promise_factors(True, 0.02, 0.98, 0.02) == pytest.approx(
        [0.96 / 0.98, 0.92 / 0.98, 0.84 / 0.98]
    )
    # Drawn twice as often, a label weighs half: 1 + (4 / 2 - 1 / 2) for the second.
    assert promise_factors(False, 0.04, 0.98, 0.02)[1] == pytest.approx(2.5)
    # What is drawn less often than the least is not bet more on.
    assert promise_factors(False, 0.01, 0.98, 0.02) == pytest.approx([2, 4, 8])


def test_bets_are_fair_over_what_is_published_whatever_is_drawn() -> None:
    """Items of two kinds: 10 % drawn often with 1 % errors, 90 % seldom with 3.2222 %."""
    promise = 0.97  # the errors of all: 0.1 * 1 % + 0.9 * 3.2222 % = 3 %
    kinds = [(0.1, 0.5, 0.01), (0.9, 0.1, 0.03 / 0.9 - 0.001 / 0.9)]
    mean = np.zeros(3)
    for share, drawn, wrong in kinds:
        for right, chance in ((False, wrong), (True, 1 - wrong)):
            factors = promise_factors(right, drawn, promise, 0.1)
            mean += share * (drawn * chance * factors)
        mean += share * (1 - drawn)  # not drawn: no bet
    assert mean == pytest.approx(1.0)


def test_the_interval_is_robbins_mixture_where_all_are_drawn_alike() -> None:
    errors = np.arange(1e-4, 1, 1e-4)
    for right, wrong in ((98, 2), (50, 50), (20, 0)):
        capital = (
            betaln(0.5 + wrong, 0.5 + right)
            - betaln(0.5, 0.5)
            - wrong * np.log(errors)
            - right * np.log1p(-errors)
        )
        kept = errors[capital < math.log(20)]
        low, high = precision_interval({0.02: (right, wrong)}, 0.02)
        assert low == pytest.approx(1 - kept[-1], abs=0.005)
        assert high == pytest.approx(1 - kept[0], abs=0.002)


def test_the_interval_without_labels_says_nothing() -> None:
    assert precision_interval({}, 1.0) == (0.0, 1.0)


@pytest.mark.slow
def test_the_interval_holds_at_all_looks_at_once() -> None:
    """At most 5 % of streams ever leave it; of 100, 11 by chance (p < 0.02)."""
    missed = 0
    for seed in range(100):
        wrong = np.random.default_rng(seed).random(640) < 0.06
        ends = [
            precision_interval({1.0: (n - int(wrong[:n].sum()), int(wrong[:n].sum()))}, 1.0)
            for n in (10, 20, 60, 200, 640)
        ]
        missed += any(not low <= 0.94 <= high for low, high in ends)
    assert missed <= 11
    assert ends[-1][1] - ends[-1][0] < 0.1  # and it says something


def first_alarm(wrong: np.ndarray, promise: float) -> int | None:
    group = Group(promise=promise)
    for at, one in enumerate(wrong, start=1):
        group.label(not one, 1.0, 1.0)
        if at >= 20 and group.evidence("promise") >= 20:
            return at
    return None


@pytest.mark.slow
def test_a_broken_promise_is_found_soon_and_a_kept_one_seldom_called_broken() -> None:
    rng = np.random.default_rng(5)
    broken = [first_alarm(rng.random(400) < 0.07, 0.98) or 400 for _ in range(100)]
    assert np.median(broken) <= 110
    assert np.quantile(broken, 0.9) <= 300
    kept = [first_alarm(rng.random(600) < 0.02, 0.98) for _ in range(100)]
    assert sum(one is not None for one in kept) <= 11  # 5 expected at most; p < 0.02


def test_labels_are_counted_by_how_likely_they_were_drawn() -> None:
    group = Group(promise=0.9)
    for right, drawn in ((True, 0.5), (True, 0.5), (False, 0.1)):
        group.label(right, drawn, 0.1)
    measured = group.measured_precision(0.1, 0.05)
    assert measured is not None
    assert measured.value == pytest.approx(4 / 14)  # weights 2, 2 and 10
    assert measured.low < 4 / 14 < measured.high
    assert group.labelled == 3
    assert Group.model_validate_json(group.model_dump_json()).labels == group.labels


def with_reports(published: int, upheld: int) -> Group:
    return Group(promise=0.98, published=published, tests=[Since(upheld=upheld)])


def test_reports_that_are_upheld_are_bet_on_as_a_hand_does() -> None:
    ratios = [2**2 * (0.96 / 0.98) ** 8, 4**2 * (0.92 / 0.98) ** 8, 8**2 * (0.84 / 0.98) ** 8]
    expected = 0.5 + np.mean(ratios) / 2
    assert with_reports(10, 2).evidence("reports") == pytest.approx(expected)
    accepted = Group(promise=0.98, published=110, tests=[Since(published=100, upheld=2)])
    assert accepted.evidence("reports") == pytest.approx(expected)
    assert math.isfinite(with_reports(10**6, 10**6).evidence("reports"))


def test_evidence_of_reports_is_one_in_the_mean_where_all_errors_are_reported() -> None:
    chances = binom.pmf(range(41), 40, 0.02)
    evidence = [with_reports(40, wrong).evidence("reports") for wrong in range(41)]
    assert np.dot(chances, evidence) == pytest.approx(1.0)


def test_years_of_kept_promises_need_not_be_outweighed() -> None:
    group = Group(promise=0.98)
    for number in range(1, 11_001):
        group.publish(0.99, number - 1)
    begins = [one.published for one in group.tests]
    assert (begins[:3], begins[-2:], len(begins)) == ([0, 500, 1000], [10500, 10750], 34)
    assert group.evidence("reports") < 1
    for item in range(11_001, 11_601):
        group.publish(0.99, item - 1)
        if item % 12 == 0:
            group.uphold(item)
    group.uphold(3)  # of long ago: the latest tests do not count it
    upheld = {one.published: one.upheld for one in group.tests}
    assert (upheld[0], upheld[11_000]) == (51, 50)
    assert group.evidence("reports") > 20
    assert with_reports(11_600, 51).evidence("reports") < 1  # had all begun with the first item


@pytest.mark.parametrize(("precision", "least", "most"), [(0.98, 0, 11), (0.90, 60, 100)])
def test_reporters_who_are_wrong_half_of_the_time_break_no_promise(
    precision: float, least: int, most: int
) -> None:
    """Who reports a half of the errors, and as many right items: of 100 streams, ever."""
    rng = np.random.default_rng(8)
    wrong = rng.random((100, 1000)) >= precision
    reported = (rng.random(wrong.shape) < 0.5) & wrong
    false_reports = (rng.random(wrong.shape) < 0.5 * (1 - precision)) & ~wrong
    assert 0.8 < false_reports.sum() / reported.sum() < 1.25
    broken = 0
    for upheld in np.cumsum(reported, axis=1):  # people uphold what is wrong, whoever reported it
        looks = range(50, 1000, 10)
        broken += any(with_reports(n, upheld[n - 1]).evidence("reports") >= 20 for n in looks)
    assert least <= broken <= most
