from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from tagger.decision.policies import REVIEW
from tagger.monitoring.monitor import Incoming, Monitor
from tagger.monitoring.report import describe
from tagger.monitoring.state import MonitorState

Streams = Callable[..., Iterator[Incoming]]
Read = Callable[[MonitorState, Iterable[Incoming]], None]


@pytest.mark.slow
def test_an_alarm_says_what_changed_and_since_when(
    state: MonitorState, stream: Streams, read: Read
) -> None:
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
def test_words_that_came_are_named(state: MonitorState, stream: Streams, read: Read) -> None:
    def with_word(rows: Iterator[Incoming]) -> Iterator[Incoming]:
        for one in rows:
            yield replace(one, item=replace(one.item, title="diffusion transformer model"))

    read(state, stream(400, seed=1))
    read(state, with_word(stream(150, seed=2, mean_length=25)))
    [alarm] = describe(state).standing
    assert {"diffusion", "transformer", "model"} <= {one.word for one in alarm.words}


@pytest.mark.slow
def test_repeats_count_once(state: MonitorState, stream: Streams, read: Read) -> None:
    rows = [*stream(300, seed=1)]
    read(state, iter(rows))
    evidence = state.watch.drift.evidence
    read(state, iter([rows[0]] * 200))  # would be the longest run of one length ever seen
    assert state.watch.drift.evidence == evidence
    assert state.repeated == 200
    assert not state.alarms
    assert describe(state).rows == 500


@pytest.mark.slow
def test_a_broken_promise_is_an_alarm_with_its_errors(
    state: MonitorState, stream: Streams, read: Read
) -> None:
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
    state: MonitorState, stream: Streams, read: Read
) -> None:
    rows = (replace(one, decided=REVIEW) for one in stream(300, seed=1, errors=1.0))
    read(state, rows)
    report = describe(state)
    assert report.precision == []
    assert report.kept == "too few"
    assert sum(one.published for one in report.timeline.stretches) == 0


@pytest.mark.slow
def test_each_tag_has_a_promise_where_it_was_given_one(
    state: MonitorState, stream: Streams, read: Read
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
    state: MonitorState, stream: Streams, read: Read
) -> None:
    state.home = {"confidence": (500, 0.98, 0.02), "tag: fruit": (500, 0.6, 0.49)}
    read(state, stream(300, seed=1))
    report = describe(state)
    assert not report.alarms
    [told] = report.home
    assert told.startswith("confidence: 0.8")
    assert "0.980 of the 500 rows" in told


def test_reports_that_people_uphold_are_an_alarm_of_their_own(
    state: MonitorState, stream: Streams
) -> None:
    monitor = Monitor(state, None)
    rows = [replace(one, item=replace(one.item, tag=None)) for one in stream(60, seed=1)]
    for one in rows:
        monitor.read(one)
        monitor.read_report(one)  # all are reported: that alone says nothing
    report = describe(state)
    assert (report.reports, report.alarms) == ("steady", [])
    assert (report.precision[0].reported, report.precision[0].upheld) == (60, 0)
    for one in rows[:30]:
        monitor.read_upheld(one, item=5)
    report = describe(state)
    [alarm] = report.standing
    assert (alarm.kind, report.reports, report.kept) == ("reports", "alarm", "too few")
    assert "wrong by users' reports that people upheld, 10.0% may be" in alarm.told
    assert alarm.items[-1].id in {one.item.id for one in rows[:30]}
    assert {one.name for one in report.precision} > {"all", "tag: fruit", "tag: metal"}
    state.event = 9
    state.accept()
    report = describe(state)
    assert (report.reports, report.precision[0].upheld) == ("too few", 0)
    assert report.precision[0].reported == 60
    monitor.read_upheld(rows[0], item=9)  # it came in before
    monitor.read_upheld(rows[0], item=10)
    assert describe(state).precision[0].upheld == 1
