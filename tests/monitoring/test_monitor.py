from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tagger.decision.policies import REVIEW
from tagger.errors import UserError
from tagger.monitoring.monitor import LEARNING, Incoming, Monitor
from tagger.monitoring.report import describe
from tagger.monitoring.state import MonitorState

Streams = Callable[..., Iterator[Incoming]]


def read(state: MonitorState, rows: Iterator[Incoming]) -> None:
    monitor = Monitor(state, None)
    for one in rows:
        monitor.read(one)


@pytest.mark.slow
def test_a_steady_stream_is_steady(state: MonitorState, stream: Streams) -> None:
    read(state, stream(600, seed=1))
    report = describe(state)
    assert (report.drift, report.kept, report.alarms) == ("steady", "steady", [])
    assert report.rows == 600
    assert report.watched == 600 - LEARNING
    assert report.estimate_valid
    everything = report.precision[0]
    assert everything.name == "all"
    assert everything.expected is not None
    assert everything.expected.value == pytest.approx(0.85, abs=0.02)
    assert everything.measured is not None
    assert everything.measured.value == 1.0


def test_few_rows_are_too_few_and_never_an_alarm(state: MonitorState, stream: Streams) -> None:
    read(state, stream(8, seed=1, errors=1.0))
    read(state, stream(9, seed=2, mean_length=90, errors=1.0))
    report = describe(state)
    assert (report.drift, report.kept, report.alarms) == ("too few", "too few", [])
    assert not report.estimate_valid


@pytest.mark.slow
def test_an_alarm_says_what_changed_and_since_when(state: MonitorState, stream: Streams) -> None:
    read(state, stream(400, seed=1))
    read(state, stream(150, seed=2, mean_length=25, prefix="un"))
    report = describe(state)
    [alarm] = report.standing
    assert report.drift == "alarm"
    assert not report.estimate_valid
    assert alarm.kind == "drift"
    assert 400 < alarm.row <= 465
    assert alarm.evidence >= 20
    assert alarm.scores[0].name == "length"
    assert alarm.scores[0].direction == "rises"
    assert abs(alarm.scores[0].since - 400) <= 15
    assert alarm.scores[0].before == pytest.approx(16, abs=1)
    assert alarm.told.startswith("length rises from row")
    assert all(one.row > 380 for one in alarm.items)
    assert len(alarm.items) == 5
    assert alarm.date.startswith("2026-01-")


@pytest.mark.slow
def test_words_that_came_are_named(state: MonitorState, stream: Streams) -> None:
    def with_word(rows: Iterator[Incoming]) -> Iterator[Incoming]:
        for one in rows:
            yield replace(one, item=replace(one.item, title="diffusion transformer model"))

    read(state, stream(400, seed=1))
    read(state, with_word(stream(150, seed=2, mean_length=25)))
    [alarm] = describe(state).standing
    assert {"diffusion", "transformer", "model"} <= {one.word for one in alarm.words}


@pytest.mark.slow
def test_after_an_alarm_nothing_is_learnt_until_it_is_accepted(
    state: MonitorState, stream: Streams
) -> None:
    read(state, stream(400, seed=1))
    read(state, stream(150, seed=2, mean_length=40))
    frozen = state.watch.model_dump_json()
    read(state, stream(100, seed=3))
    assert state.watch.model_dump_json() == frozen
    assert len(state.alarms) == 1
    state.accept()
    assert state.alarms[0].accepted
    assert describe(state).drift == "too few"
    read(state, stream(400, seed=4, mean_length=40))
    assert describe(state).drift == "steady"
    with pytest.raises(UserError, match="no alarm stands"):
        state.accept()


@pytest.mark.slow
def test_repeats_count_once(state: MonitorState, stream: Streams) -> None:
    rows = [*stream(300, seed=1)]
    read(state, iter(rows))
    evidence = state.watch.drift.evidence
    read(state, iter([rows[0]] * 200))  # would be the longest run of one length ever seen
    assert state.watch.drift.evidence == evidence
    assert state.repeated == 200
    assert not state.alarms
    assert describe(state).rows == 500


@pytest.mark.slow
def test_a_state_that_was_written_in_between_says_the_same(
    state: MonitorState, stream: Streams
) -> None:
    rows = [*stream(420, seed=1, errors=0.05)]
    other = MonitorState.model_validate_json(state.model_dump_json())
    read(state, iter(rows))
    for start in (0, 1, 150, 300, 401):
        ends = {0: 1, 1: 150, 150: 300, 300: 401, 401: 420}
        read(other, iter(rows[start : ends[start]]))
        other = MonitorState.model_validate_json(other.model_dump_json())
    assert other.model_dump_json() == state.model_dump_json()


@pytest.mark.slow
def test_a_broken_promise_is_an_alarm_with_its_errors(state: MonitorState, stream: Streams) -> None:
    read(state, stream(400, seed=1, errors=0.35))
    report = describe(state)
    [alarm] = report.standing
    assert alarm.kind == report.kept.replace("alarm", "promise") == "promise"
    assert report.drift == "steady"
    assert "are wrong, 10.0% may be" in alarm.told
    assert len(alarm.items) == 5
    everything = report.precision[0]
    assert everything.broken
    assert everything.labelled >= 20
    assert everything.measured is not None
    assert everything.measured.high < 0.9
    state.accept()
    assert describe(state).kept == "too few"
    assert describe(state).precision[0].labelled == 0


def test_what_is_not_published_says_nothing_of_the_promise(
    state: MonitorState, stream: Streams
) -> None:
    rows = (replace(one, decided=REVIEW) for one in stream(300, seed=1, errors=1.0))
    read(state, rows)
    report = describe(state)
    assert report.precision == []
    assert report.kept == "too few"
    assert sum(one.published for one in report.timeline.stretches) == 0


@pytest.mark.slow
def test_each_tag_has_a_promise_where_it_was_given_one(
    state: MonitorState, stream: Streams
) -> None:
    rows = [*stream(700, seed=1)]
    wrong = [
        replace(one, item=replace(one.item, tag="fruit")) if one.decided and at % 5 else one
        for at, one in enumerate(rows)
    ]
    # One tag is wrong, but seldom published: the whole keeps the promise.
    thinned = [one for at, one in enumerate(wrong) if not one.decided or at % 10 == 0]
    thinned = [
        replace(one, item=replace(one.item, tag="fruit")) if one.decided else one for one in thinned
    ]
    read(state, iter(thinned))
    assert not state.stands("promise")
    state.each_tag = True
    monitor = Monitor(state, None)
    for one in thinned:
        monitor.read_label(one)
    [alarm] = state.alarms
    assert alarm.told.startswith("tag: metal:")


def test_home_and_stream_are_compared_in_words_and_raise_no_alarm(
    state: MonitorState, stream: Streams
) -> None:
    state.home = {"confidence": (500, 0.98, 0.02), "tag: fruit": (500, 0.6, 0.49)}
    read(state, stream(300, seed=1))
    report = describe(state)
    assert not report.alarms
    [told] = report.home
    assert told.startswith("confidence: 0.8")
    assert "0.980 of the 500 rows" in told
