import numpy as np
import pytest

from tagger.rollout.canary import Operations, check_guards, rate_log_evidence
from tagger.rollout.plan import GuardsConfig

LIMITS = GuardsConfig()


def broken(seen: Operations, config: GuardsConfig = LIMITS) -> list[str]:
    return [guard.name for guard in check_guards(seen, config) if guard.broken]


def test_a_run_that_nothing_was_asked_of_breaks_nothing() -> None:
    assert not broken(Operations())
    assert not any(guard.doubtful for guard in check_guards(Operations(), LIMITS))


def test_one_failure_in_two_hundred_items_is_too_much_and_one_in_a_hundred_thousand_is_not() -> (
    None
):
    assert broken(Operations(asked=200, failed=1)) == ["failures"]
    assert not broken(Operations(asked=100_000, failed=1))
    assert broken(Operations(asked=100_000, failed=6)) == ["failures"]


def test_slow_answers_are_a_limit_of_p99() -> None:
    assert not broken(Operations(asked=1_000, slow=10))
    assert broken(Operations(asked=1_000, slow=30)) == ["slow answers"]


def test_a_rise_of_review_is_told_by_the_items_on_which_the_runs_differ() -> None:
    assert not broken(Operations(asked=1_000, more_review=50, more_published=40))
    assert broken(Operations(asked=1_000, more_review=70, more_published=20)) == ["review rate"]


def test_more_is_published_only_up_to_the_limit() -> None:
    assert not broken(Operations(asked=1_000, more_review=0, more_published=90))
    assert broken(Operations(asked=1_000, more_review=0, more_published=110)) == ["published rate"]
    assert not broken(Operations(asked=5, more_published=3))  # of which nothing can be told


def test_the_evidence_has_mean_one_at_what_is_allowed() -> None:
    times = np.arange(41, dtype=np.float64)
    chances = np.array([float(np.prod([(40 - i) / (i + 1) for i in range(k)])) for k in range(41)])
    chances *= 0.01**times * 0.99 ** (40 - times)
    evidence = np.exp(rate_log_evidence(times, np.full(41, 40.0), 0.01))
    assert np.sum(chances * evidence) == pytest.approx(1)
