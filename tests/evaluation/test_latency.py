import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tagger.config import LatencyConfig
from tagger.data.items import Item
from tagger.decision.calibrators import Unchanged
from tagger.decision.decider import PLAIN, Decider, Rule
from tagger.evaluation.latency import measure_latency


class Sleeper:
    tags = ("a", "b")

    def __init__(self) -> None:
        self.calls: list[tuple[int, str, str | None]] = []
        self.threads: set[int] = set()

    def predict_proba(self, items: Sequence[Item]) -> np.ndarray:
        self.calls.append((len(items), items[0].title, items[0].tag))
        self.threads.add(torch.get_num_threads())
        time.sleep(0.002)
        return np.array([[0.3, 0.7]])


def plain(model: Sleeper) -> Decider:
    return Decider(model, PLAIN, None)


ITEMS = [Item(str(number), f"title {number}", "text", tag="a") for number in range(3)]


def test_items_go_one_by_one_in_turn_after_the_warm_up() -> None:
    model = Sleeper()
    result = measure_latency(plain(model), ITEMS, LatencyConfig(items=10, warmup=4, threads=1))
    assert len(model.calls) == 14
    assert {size for size, _, _ in model.calls} == {1}
    assert [title[-1] for _, title, _ in model.calls[4:8]] == list("0120")
    assert {tag for _, _, tag in model.calls} == {None}, "the answer must not be given along"
    assert 2 <= result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"] < 1000
    assert result["p50_ms"] <= result["mean_ms"] * 5
    assert {key: result[key] for key in ("items", "warmup", "batch_size", "threads")} == {
        "items": 10, "warmup": 4, "batch_size": 1, "threads": 1,
    }  # fmt: skip


def test_correction_and_policy_are_timed_too() -> None:
    class Ponders:
        def decide(self, probabilities: np.ndarray) -> np.ndarray:
            time.sleep(0.004)
            return probabilities.argmax(axis=1)

    class Corrects(Unchanged):
        def apply(self, probabilities: np.ndarray) -> np.ndarray:
            time.sleep(0.004)
            return probabilities

    decider = Decider(Sleeper(), Rule(Corrects(), Ponders(), None), None)
    result = measure_latency(decider, ITEMS, LatencyConfig(items=10, warmup=0, threads=1))
    assert result["p50_ms"] >= 2 + 4 + 4


def test_threads_are_set_stated_and_restored() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        model = Sleeper()
        result = measure_latency(plain(model), ITEMS, LatencyConfig(items=10, warmup=0, threads=1))
        assert model.threads == {1}
        assert result["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_are_restored_after_an_error() -> None:
    class Broken(Sleeper):
        def predict_proba(self, items: Sequence[Item]) -> np.ndarray:
            raise ValueError("broken")

    before = torch.get_num_threads()
    config = LatencyConfig(items=10, warmup=0, threads=before + 1)
    with pytest.raises(ValueError, match="broken"):
        measure_latency(plain(Broken()), ITEMS, config)
    assert torch.get_num_threads() == before


def test_all_cores_are_used_when_none_are_given() -> None:
    config = LatencyConfig(items=10, warmup=0, threads=None)
    result = measure_latency(plain(Sleeper()), ITEMS, config)
    assert result["threads"] >= 1
