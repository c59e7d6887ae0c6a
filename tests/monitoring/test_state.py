from collections.abc import Callable, Iterable, Iterator

import pytest

from tagger.errors import UserError
from tagger.monitoring.monitor import Incoming
from tagger.monitoring.report import describe
from tagger.monitoring.state import MonitorState

Streams = Callable[..., Iterator[Incoming]]
Read = Callable[[MonitorState, Iterable[Incoming]], None]


@pytest.mark.slow
def test_after_an_alarm_nothing_is_learnt_until_it_is_accepted(
    state: MonitorState, stream: Streams, read: Read
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
def test_a_state_that_was_written_in_between_says_the_same(
    state: MonitorState, stream: Streams, read: Read
) -> None:
    rows = [*stream(420, seed=1, errors=0.05)]
    other = MonitorState.model_validate_json(state.model_dump_json())
    read(state, iter(rows))
    for start in (0, 1, 150, 300, 401):
        ends = {0: 1, 1: 150, 150: 300, 300: 401, 401: 420}
        read(other, iter(rows[start : ends[start]]))
        other = MonitorState.model_validate_json(other.model_dump_json())
    assert other.model_dump_json() == state.model_dump_json()
