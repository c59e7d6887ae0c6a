import threading
import time
from collections.abc import Sequence

import pytest

from tagger.data.items import Item
from tagger.decision.decider import UNSURE, Decider
from tagger.prediction import predict_rows
from tagger.scores import FloatArray
from tagger.service.inference import MOST_TOGETHER, Inference, Prediction, predict
from tagger.service.writer import QueueFullError


def item(title: str) -> Item:
    return Item("1", title, "")


def test_predictions_are_those_of_tagger_predict(decider: Decider) -> None:
    items = [item(title) for title in ("apple", "iron rain", "nothing", "rain rain")]
    for ours, theirs in zip(predict(decider, items), predict_rows(decider, items), strict=True):
        _, decision, tag, probability, reason, *rest = theirs
        assert (ours.published or "needs review", ours.tag, ours.reason) == (decision, tag, reason)
        assert ours.probabilities[tag] == float(probability)
        assert [*ours.probabilities.values()] == [*map(float, rest)]


def test_what_comes_in_meanwhile_is_computed_together(decider: Decider) -> None:
    inference = Inference(decider, 1_000)
    futures = [inference.submit([item("apple")] * 10) for _ in range(10)]
    assert inference.waiting == 100
    inference.start()
    answers = [future.result(5) for future in futures]
    inference.stop()
    assert [len(answer) for answer in answers] == [10] * 10
    assert decider.classifier.calls == [60, 40]  # type: ignore[attr-defined]
    assert MOST_TOGETHER == 64
    assert inference.waiting == 0


def test_everybody_gets_their_own_answers(decider: Decider) -> None:
    inference = Inference(decider, 10_000)
    inference.start()
    wrong = []

    def ask(number: int) -> None:
        words = [("apple", "iron", "rain")[(number + at) % 3] for at in range(number % 7 + 1)]
        found = inference.submit([item(word) for word in words]).result(10)
        expected = [{"apple": "fruit", "iron": "metal", "rain": "weather"}[word] for word in words]
        if [one.published for one in found] != expected:
            wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    inference.stop()
    assert not wrong


def test_only_the_request_that_fails_fails(decider: Decider) -> None:
    inference = Inference(decider, 100)
    futures = [inference.submit([item(title)]) for title in ("apple", "a defect", "iron")]
    inference.start()
    assert [futures[at].result(5)[0].published for at in (0, 2)] == ["fruit", "metal"]
    with pytest.raises(ValueError, match="a defect"):
        futures[1].result(5)
    assert inference.submit([item("rain")]).result(5)[0].published == "weather"
    inference.stop()


def test_more_than_may_wait_is_refused_and_what_was_cancelled_is_not_computed(
    decider: Decider,
) -> None:
    inference = Inference(decider, 2)
    large = inference.submit([item("apple")] * 5)  # nothing waits: it is taken
    with pytest.raises(QueueFullError):
        inference.submit([item("apple")])
    assert large.cancel()
    inference.start()
    inference.stop()
    assert decider.classifier.calls == []  # type: ignore[attr-defined]


def test_a_queue_that_stands_is_bounded_by_time_and_a_burst_is_not(decider: Decider) -> None:
    classifier = decider.classifier
    quick = classifier.predict_proba

    def slow(items: Sequence[Item]) -> FloatArray:
        time.sleep(0.01 * len(items))
        return quick(items)

    classifier.predict_proba = slow  # type: ignore[method-assign]
    inference = Inference(decider, 1_000, 0.03)
    inference.start()
    for _ in range(30):  # until it knows how long an item takes
        inference.submit([item("apple")]).result(5)
    burst = [inference.submit([item("apple")]) for _ in range(8)]
    assert not inference.is_late()
    assert [one.result(5)[0].published for one in burst] == ["fruit"] * 8
    late = []
    ends = time.monotonic() + 1
    while time.monotonic() < ends:  # two items in the time that one takes
        late.append(inference.is_late())
        if not late[-1]:
            inference.submit([item("iron")])
        time.sleep(0.005)
    assert sum(late) > 20
    assert len(late) - sum(late) > 20
    inference.stop()


def test_what_is_unclear_goes_to_a_person(decider: Decider) -> None:
    (found,) = predict(decider, [item("apple apple iron")])
    assert found == Prediction(
        None, "fruit", {"fruit": 0.660131, "metal": 0.333333, "weather": 0.006536}, UNSURE
    )
