import numpy as np
import pytest

from tagger.build import judging
from tagger.build.judging import Judged, choose_run
from tagger.config.schema import LatencyConfig
from tagger.data.tags import tag_positions
from tagger.decision.decider import CalibrationSet

TIMES = {"plain": 1.0, "second": 0.5, "slow": 9.0}


@pytest.fixture
def choose(toy_build, shared_runs, monkeypatch):
    """Chooses among runs that say given things of 60 rows and take `TIMES`."""
    run = shared_runs.open("words")
    items = [item for part in ("train", "validation", "test") for item in shared_runs.items(
        "words", part
    )]  # fmt: skip
    true = tag_positions(items, run.tags)
    monkeypatch.setattr(judging, "LATENCY", LatencyConfig(items=10, warmup=0, threads=1))
    some_time = judging.time_run(run, items, 1000.0)

    def make(sure, **given):
        order = iter(sure)

        def timed(*_):
            return some_time.model_copy(update={"p99_ms": TIMES[next(order)]})

        monkeypatch.setattr(judging, "time_run", timed)
        judged = {}
        for name, (right, confidence) in sure.items():
            rows = np.full((60, 3), (1 - confidence) / 2)
            said = np.where(np.arange(60) < right, true, (true + 1) % 3)
            rows[np.arange(60), said] = confidence + np.arange(60)[::-1] / 1e4
            rows /= rows.sum(axis=1, keepdims=True)
            fitted_to = CalibrationSet(rows, true, None, "these rows")
            judged[name] = Judged(run, rows, fitted_to, 1.0)
        return choose_run(toy_build(**given), judged, items)

    return make


def test_more_is_published_where_that_is_proven(choose):
    made = choose({"plain": (20, 0.6), "second": (60, 0.6)}, promise=0.9)
    assert made.name == "second"
    assert "publishes more by the promise" in made.reasons[0]
    assert made.decision.confidence == pytest.approx(1 - 0.1 / 2)


def test_the_plainer_one_stays_where_nothing_is_proven(choose):
    made = choose({"second": (60, 0.6), "plain": (60, 0.6)})
    assert made.name == "second"
    assert made.reasons == ["plain does not take the place of second: it is not proven better"]


def test_of_two_that_are_level_the_quicker_one_is_taken(choose):
    made = choose({"plain": (60, 0.6), "second": (60, 0.6)})
    assert made.name == "second"
    assert "answers sooner" in made.reasons[0]


def test_what_is_too_slow_is_shown_and_not_chosen(choose, toy_build):
    steps = toy_build().build.model_copy(update={"max_p99_ms": 2.0})
    made = choose({"plain": (20, 0.6), "slow": (60, 0.6)}, build=steps)
    assert made.name == "plain"
    assert [one.quick for one in made.candidates] == [True, False]
    assert made.candidates[1].published is None
    assert made.decision.confidence == pytest.approx(0.9)


def test_where_all_are_too_slow_the_quickest_is_taken(choose, toy_build):
    steps = toy_build().build.model_copy(update={"max_p99_ms": 0.1})
    made = choose({"plain": (60, 0.6), "second": (20, 0.6)}, build=steps)
    assert made.name == "second"
    assert made.reasons[0].startswith("no run answers 99 of 100 items within 0.1 ms")


def test_a_run_that_is_too_slow_for_a_few_items_alone_is_timed_again(shared_runs, monkeypatch):
    run, items = shared_runs.open("words"), shared_runs.items("words", "train")
    monkeypatch.setattr(judging, "LATENCY", LatencyConfig(items=10, warmup=0, threads=1))
    some_time = judging.measure_latency
    again = []

    def timed(*arguments):
        return some_time(*arguments).model_copy(update={"p50_ms": 1.0, "p99_ms": 5.0})

    def once_more(*arguments):
        again.append(arguments[-1])
        return timed(*arguments[:-1]).model_copy(update={"p99_ms": 1.5})

    monkeypatch.setattr(judging, "measure_latency", timed)
    monkeypatch.setattr(judging, "measure_within_budget", once_more)
    assert judging.time_run(run, items, 2.0).p99_ms == 1.5
    assert judging.time_run(run, items, 0.5).p99_ms == 5.0  # its median is too slow already
    assert judging.time_run(run, items, 6.0).p99_ms == 5.0
    assert again == [2.0]
