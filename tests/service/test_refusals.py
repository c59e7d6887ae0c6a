from tagger.service.refusals import Refusal


def test_a_refusal_says_what_and_when_to_come_again() -> None:
    refusal = Refusal(429, "too many", ["one", "two"], retry_after=3)
    assert str(refusal) == "too many"
    assert (refusal.status, refusal.problems, refusal.retry_after) == (429, ("one", "two"), 3)
