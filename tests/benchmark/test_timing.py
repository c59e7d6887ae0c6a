import gc
import time
from collections.abc import Sequence

import numpy as np
import pytest

from tagger.benchmark import timing
from tagger.benchmark.report import Ratio
from tagger.benchmark.timing import (
    BLOCK,
    LEAD_IN,
    WARMUP,
    fit_length,
    paired_ratio,
    summarize_single_items,
    time_batches,
    time_single_items,
)
from tagger.benchmark.worker import LocalRun
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


def here(*models: Recorder) -> list[LocalRun]:
    return [LocalRun(Decider(model, PLAIN, None)) for model in models]


def done() -> None:
    """Is called after each round."""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0)


def test_each_run_answers_the_same_block_before_the_next_block() -> None:
    calls: list[tuple[str, list[str]]] = []
    models = [Recorder("A", calls), Recorder("B", calls)]
    times = time_single_items(here(*models), TEXTS, 3, done)
    assert times.shape == (2, 3, BLOCK)

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
    times = time_single_items(here(slow, fast), TEXTS, 2, done)
    assert times[0].min() >= 1
    assert np.median(times[1]) < 1
    one, two = time_batches(here(slow, fast), TEXTS, 2, done)
    assert one.highest < two.lowest
    assert one.lowest <= one.items_per_second <= one.highest <= len(TEXTS) / 0.001
    assert (one.items, one.rounds) == (len(TEXTS), 2)


def test_many_items_go_in_one_call() -> None:
    calls: list[tuple[str, list[str]]] = []
    time_batches(here(Recorder("A", calls), Recorder("B", calls)), TEXTS, 2, done)
    titles = [title for title, _ in TEXTS]
    assert calls[2:] == [(name, titles) for name in "ABBA"]


def test_garbage_is_not_collected_while_a_clock_runs() -> None:
    model = Recorder("A", [])
    assert gc.isenabled()
    time_single_items(here(model), TEXTS, 1, done)
    time_batches(here(model), TEXTS, 1, done)
    assert model.collector_was_on == {False}
    assert gc.isenabled()


def test_each_round_is_told() -> None:
    told: list[int] = []
    time_single_items(here(Recorder("A", [])), TEXTS, 3, lambda: told.append(1))
    time_batches(here(Recorder("A", [])), TEXTS, 2, lambda: told.append(1))
    assert len(told) == 5


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
    times = np.arange(1000.0).reshape(20, 50) + 1
    found = summarize_single_items(times, times)
    assert (found.p50_ms, found.items) == (500.5, 1000)
    assert found.p999_ms == pytest.approx(999.001)
    assert summarize_single_items(times[:19], times[:19]).p999_ms is None


def test_a_faster_run_has_a_ratio_below_one() -> None:
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 3, 40)[:, None]  # the machine slows down: both runs alike
    first = drift * rng.normal(10, 0.3, (40, BLOCK))
    half = drift * rng.normal(5, 0.15, (40, BLOCK))
    ratio = paired_ratio(first, half)
    assert ratio.value == pytest.approx(0.5, abs=0.01)
    assert 0.48 < ratio.low <= ratio.value <= ratio.high < 0.52
    assert paired_ratio(half, first).value == pytest.approx(2, abs=0.04)
    assert paired_ratio(first, first) == Ratio(value=1, low=1, high=1)
