import numpy as np
import pytest
from scipy.stats import kstest, norm

from tagger.monitoring.drift import BINS, Drift, log_bets, smoothed_p_values
from tagger.scores import FloatArray


def bins_of(values: FloatArray) -> np.ndarray:
    return np.clip(np.round(128 + 25 * values), 0, BINS - 1).astype(np.int64)


def watch(bins: np.ndarray, seed: int, needed: float) -> tuple[Drift, int | None]:
    """Watch rows (n, n_scores); return the row of the alarm too, if there is one."""
    rng = np.random.default_rng((99, seed))
    drift = Drift.begin([1 / bins.shape[1]] * bins.shape[1])
    for row, one in enumerate(bins, start=1):
        drift.observe(one, rng.random(len(one)), row)
        if drift.evidence >= needed:
            return drift, row
    return drift, None


def test_a_p_value_is_what_a_hand_computes() -> None:
    counts = np.zeros((2, BINS), dtype=np.int64)
    counts[0, [3, 5, 9]] = [2, 4, 1]
    # Below 5 are two of seven; it and the four like it count by half: (2 + 0.5 * 5) / 8.
    assert smoothed_p_values(counts, np.array([5, 0]), np.array([0.5, 0.25])) == pytest.approx(
        [4.5 / 8, 0.25]
    )


def test_bets_win_and_lose_as_much() -> None:
    # exp(shift z - shift^2 / 2), where z = 1 at p = 0.8413
    assert np.exp(log_bets(np.array([norm.cdf(1)])))[0, 3:] == pytest.approx(
        [1.19722, 1.37713, 1.61607], abs=1e-5
    )
    grid = (np.arange(100_000) + 0.5) / 100_000
    assert np.exp(log_bets(grid)).mean(axis=0) == pytest.approx(1.0, abs=2e-4)
    assert np.isfinite(log_bets(np.array([0.0, 1.0]))).all()


def test_p_values_are_uniform_though_values_tie() -> None:
    rng = np.random.default_rng(3)
    counts = np.zeros((1, BINS), dtype=np.int64)
    found = []
    for _ in range(2000):
        one = rng.integers(0, 3, size=1)  # three values: nearly all tie
        found.append(smoothed_p_values(counts, one, rng.random(1))[0])
        counts[0, one] += 1
    assert kstest(found, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_false_alarms_ever_are_as_rare_as_promised() -> None:
    """At 1 / alpha = 4 at most 25 % of streams; 200 of them may have 62 by chance (p < 0.03)."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(400, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])  # correlated
        alarms += watch(bins_of(values), seed, 4.0)[1] is not None
    assert 5 <= alarms <= 62  # and it is no test that never alarms


@pytest.mark.slow
def test_a_reference_that_is_fixed_would_break_the_promise() -> None:
    """Why `observe` adds every item: bets against the accidents of 30 rows win for ever."""
    alarms = {True: 0, False: 0}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        bins = bins_of(rng.normal(size=(630, 1)))
        for grows in alarms:
            drift = Drift.begin([1.0])
            for one in bins[:30]:
                drift.learn(one, np.array([True]))
            fixed = drift.counts.copy()
            for row, one in enumerate(bins[30:]):
                drift.observe(one, rng.random(1), row)
                if not grows:
                    drift.counts = fixed.copy()
                if drift.evidence >= 20:
                    alarms[grows] += 1
                    break
    assert alarms[True] <= 3
    assert alarms[False] >= 6


@pytest.mark.slow
def test_a_shift_is_found_soon_and_named() -> None:
    delays, begins = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(500, 3))
        values[300:, 1] -= 0.8
        drift, row = watch(bins_of(values), seed, 20.0)
        assert row is not None
        delays.append(row - 300)
        assert drift.bets.values.argmax() == 1
        direction, since = drift.leading(1)
        assert direction == "falls"
        begins.append(abs(since - 300))
    assert np.median(begins) < 20
    assert 0 < np.median(delays) < 65


def test_what_was_learnt_is_no_bet() -> None:
    drift = Drift.begin([0.5, 0.5])
    drift.learn(np.array([7, 9]), np.array([True, False]))
    assert drift.counts.sum(axis=1).tolist() == [1, 0]
    assert drift.evidence == 1.0
