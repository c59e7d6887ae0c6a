import gc
import time
from collections.abc import Sequence

import numpy as np
import pytest
from tagger.compression.interleaving import (
    BLOCK,
    LEAD_IN,
    WARMUP,
    Here,
    Rounds,
    fit_length,
    paired_ratio,
    run_order,
    summarize_tail,
    time_one_by_one,
    time_together,
)

from tagger.compression import interleaving
from tagger.data.items import Item
from tagger.decision.decider import PLAIN, Decider

TEXTS = [(f"title {number}", "some words") for number in range(30)]


class Recorder:
    """Notes, in a list that all share, who was asked what."""

    tags = ("a", "b")

    def __init__(self, name: str, calls: list[tuple[str, list[str]]], seconds: float = 0) -> None:
        self.name, self.calls, self.seconds = name, calls, seconds
        self.collector_was_on: set[bool] = set()

    def predict_proba(self, items: Sequence[Item]) -> np.ndarray:
        self.calls.append((self.name, [item.title for item in items]))
        self.collector_was_on.add(gc.isenabled())
        time.sleep(self.seconds)
        return np.full((len(items), 2), 0.5)


def here(*models: Recorder) -> list[Here]:
    return [Here(Decider(model, PLAIN, None)) for model in models]


def rounds(most: int, seconds: float | None = None) -> Rounds:
    return Rounds(most, seconds, done=lambda: None)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleaving, "SETTLE_SECONDS", 0)


def test_the_order_turns_with_each_round() -> None:
    assert [run_order(3, number) for number in range(3)] == [[0, 1, 2], [2, 1, 0], [0, 1, 2]]


def test_each_run_answers_the_same_block_before_the_next_block() -> None:
    calls: list[tuple[str, list[str]]] = []
    models = [Recorder("A", calls), Recorder("B", calls)]
    times = time_one_by_one(here(*models), TEXTS, rounds(3))
    assert times.shape == (3, 2, BLOCK)

    assert {len(titles) for _, titles in calls} == {1}
    assert [name for name, _ in calls[: 2 * WARMUP]] == ["A"] * WARMUP + ["B"] * WARMUP
    timed = calls[2 * WARMUP :]
    length = LEAD_IN + BLOCK
    blocks = [timed[start : start + length] for start in range(0, len(timed), length)]
    assert [{name for name, _ in block} for block in blocks] == [
        {"A"}, {"B"}, {"B"}, {"A"}, {"A"}, {"B"},
    ]  # fmt: skip
    asked = [[titles[0] for _, titles in block[LEAD_IN:]] for block in blocks]
    in_turn = [f"title {number % 30}" for number in range(3 * BLOCK)]
    for number in range(3):
        expected = in_turn[number * BLOCK : (number + 1) * BLOCK]
        assert asked[2 * number] == asked[2 * number + 1] == expected


def test_times_stand_with_their_run_whatever_the_order() -> None:
    calls: list[tuple[str, list[str]]] = []
    slow, fast = Recorder("slow", calls, 0.001), Recorder("fast", calls)
    times = time_one_by_one(here(slow, fast), TEXTS, rounds(2))
    assert times[:, 0].min() >= 1
    assert np.median(times[:, 1]) < 1
    rates = time_together(here(slow, fast), TEXTS, rounds(2))
    assert rates.shape == (2, 2)
    assert (rates[:, 0] < rates[:, 1]).all()
    assert rates[:, 0].max() <= len(TEXTS) / 0.001


def test_many_items_go_in_one_call() -> None:
    calls: list[tuple[str, list[str]]] = []
    time_together(here(Recorder("A", calls), Recorder("B", calls)), TEXTS, rounds(2))
    titles = [title for title, _ in TEXTS]
    assert calls[2:] == [(name, titles) for name in "ABBA"]


def test_garbage_is_not_collected_while_a_clock_runs() -> None:
    model = Recorder("A", [])
    assert gc.isenabled()
    time_one_by_one(here(model), TEXTS, rounds(1))
    assert model.collector_was_on == {False}
    assert gc.isenabled()


def test_rounds_end_by_number_or_by_time() -> None:
    done: list[int] = []
    assert list(Rounds(3, None, lambda: done.append(1))) == [0, 1, 2]
    assert len(done) == 3
    assert list(rounds(1000, seconds=1e-9)) == [0], "the first round is always made"
    assert list(rounds(3, seconds=60)) == [0, 1, 2]


def test_texts_are_cut_and_repeated_title_first() -> None:
    texts = [("one two", "three four five"), ("", "six"), ("seven eight nine", "")]
    assert fit_length(texts, 4) == [
        ("one two", "three four"),
        ("", "six six six six"),
        ("seven eight nine", "seven"),
    ]
    assert fit_length(texts, 1) == [("one", ""), ("", "six"), ("seven", "")]
    assert [len(" ".join(text).split()) for text in fit_length(texts, 128)] == [128] * 3


def test_the_tail_needs_a_thousand_times() -> None:
    times = np.arange(1000.0)
    found = summarize_tail(times)
    assert (found["p50_ms"], found["items"]) == (499.5, 1000)
    assert found["p999_ms"] == pytest.approx(998.001)
    assert summarize_tail(times[:999])["p999_ms"] is None


def test_a_faster_run_has_a_ratio_below_one() -> None:
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 3, 40)[:, None]  # the machine slows down: both runs alike
    first = drift * rng.normal(10, 0.3, (40, BLOCK))
    half = drift * rng.normal(5, 0.15, (40, BLOCK))
    ratio = paired_ratio(first, half)
    assert ratio["value"] == pytest.approx(0.5, abs=0.01)
    assert 0.48 < ratio["low"] <= ratio["value"] <= ratio["high"] < 0.52
    assert paired_ratio(half, first)["value"] == pytest.approx(2, abs=0.04)
    assert paired_ratio(first, first) == {"value": 1, "low": 1, "high": 1}
