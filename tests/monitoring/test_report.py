from collections.abc import Callable, Iterable, Iterator

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
        group = state.groups[name] = Group.begin(0.9)
        while group.evidence < 20 or group.labelled < 20:
            group.label(group.labelled % 3 > 0, 1.0, 0.9, 1.0)
    assert is_broken(state, "all", "promise")
    assert not is_broken(state, "tag: fruit", "promise")  # one of two tags and seven slices
    state.groups["tag: fruit"].test.staked *= 9  # type: ignore[union-attr]
    assert is_broken(state, "tag: fruit", "promise")
    state.each_tag = True  # then the whole and the tags share alpha
    assert not is_broken(state, "all", "promise")
