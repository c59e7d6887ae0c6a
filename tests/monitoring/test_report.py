from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from tagger.monitoring.monitor import LEARNING, Incoming
from tagger.monitoring.quality import Group
from tagger.monitoring.report import describe, is_broken
from tagger.monitoring.state import MonitorState

Streams = Callable[..., Iterator[Incoming]]
Read = Callable[[MonitorState, Iterable[Incoming]], None]


@pytest.mark.slow
def test_a_steady_stream_is_steady(state: MonitorState, stream: Streams, read: Read) -> None:
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


def test_few_rows_are_too_few_and_never_an_alarm(
    state: MonitorState, stream: Streams, read: Read
) -> None:
    read(state, stream(8, seed=1, errors=1.0))
    read(state, stream(9, seed=2, mean_length=90, errors=1.0))
    report = describe(state)
    assert (report.drift, report.kept, report.alarms) == ("too few", "too few", [])
    assert not report.estimate_valid


def test_a_part_needs_more_evidence_than_the_whole(state: MonitorState) -> None:
    for name in ("all", "tag: fruit"):
        group = state.groups[name] = Group(promise=0.9)
        while group.evidence("promise") < 20 or group.labelled < 20:
            group.label(group.labelled % 3 > 0, 1.0, 1.0)
    assert is_broken(state, "all", "promise")
    assert not is_broken(state, "tag: fruit", "promise")  # one of two tags and seven slices
    state.groups["tag: fruit"].test.staked *= 9
    assert is_broken(state, "tag: fruit", "promise")
    state.each_tag = True  # then the whole and the tags share alpha
    assert not is_broken(state, "all", "promise")


@pytest.mark.slow
def test_each_year_has_its_verdict(state: MonitorState, stream: Streams, read: Read) -> None:
    def dated(rows: Iterator[Incoming], date: str) -> Iterator[Incoming]:
        return (replace(one, date=date) for one in rows)

    def changed(rows: Iterator[Incoming]) -> Iterator[Incoming]:
        return (replace(one, item=replace(one.item, title="diffusion model")) for one in rows)

    read(state, dated(stream(LEARNING + 9, seed=1), "2019-12-31"))
    read(state, dated(stream(200, seed=2), "31/12/2020"))
    read(state, dated(changed(stream(150, seed=3, mean_length=30)), "2021"))
    read(state, dated(stream(60, seed=4), "2022-03-04 10:00"))  # while the alarm stands
    read(state, dated(stream(3, seed=5), ""))
    years = {one.year: one for one in describe(state).years}
    assert {year: one.drift for year, one in years.items()} == {
        2019: "too few", 2020: "steady", 2021: "alarm", 2022: "alarm",
    }  # fmt: skip
    assert [one.rows for one in years.values()] == [LEARNING + 9, 200, 150, 60]
    assert [one.watched for one in years.values()][:2] == [9, 200]
    assert [one.estimate_valid for one in years.values()] == [False, True, False, False]
    assert [len(one.changed) for one in years.values()] == [0, 0, 1, 0]
    assert "length rises" in years[2021].changed[0]
    assert "more often: diffusion" in years[2021].changed[0].replace("model, ", "")
    assert years[2020].highest < 20 <= years[2021].highest
    assert sum(years[2020].tags) == 200
