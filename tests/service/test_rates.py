from tagger.service import rates
from tagger.service.rates import RateLimit


def test_a_seconds_requests_may_come_at_once_and_then_steadily() -> None:
    now = 0.0
    limit = RateLimit(10, clock=lambda: now)
    assert [limit.wait("a") for _ in range(11)] == [0] * 10 + [1]
    assert limit.wait("b") == 0  # another one's
    now = 0.2
    assert [limit.wait("a") for _ in range(3)] == [0, 0, 1]


def test_less_than_one_a_second_is_possible() -> None:
    now = 0.0
    limit = RateLimit(0.1, clock=lambda: now)
    assert [limit.wait("a"), limit.wait("a")] == [0, 10]
    now = 10.0
    assert limit.wait("a") == 0


def test_some_seconds_requests_may_come_at_once() -> None:
    limit = RateLimit(0.1, seconds=30, clock=lambda: 0.0)
    assert [limit.wait("a") for _ in range(4)] == [0, 0, 0, 10]


def test_those_that_were_quiet_longest_are_forgotten() -> None:
    limit = RateLimit(1, clock=lambda: 0.0)
    for number in range(rates.MOST_KEPT + 1):
        limit.wait(str(number))
    assert limit.wait("0") == 0
    assert limit.wait(str(rates.MOST_KEPT)) == 1
