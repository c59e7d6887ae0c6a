import threading

import pytest
from sqlalchemy import text
from tests.service.conftest import Submit

from tagger.service.database import Store, open_store
from tagger.service.events import append
from tagger.service.hold import Hold, current_hold, lift_hold, set_hold
from tagger.service.maintenance import rebuild_store, verify_store
from tagger.service.writer import Writer


def test_publishing_stops_and_resumes(store: Store, submit: Submit) -> None:
    submit()
    with store.writing() as connection:
        assert current_hold(connection) is None
        lift_hold(connection, actor="me", at=1)
        assert current_hold(connection) is None
        set_hold(connection, "too sure", actor="me", at=2)
        assert current_hold(connection) == Hold(2, "too sure", "me")
        set_hold(connection, "wörse", actor="you", at=3)
        assert current_hold(connection) == Hold(3, "wörse", "you")
        lift_hold(connection, actor="me", at=4)
        assert current_hold(connection) is None
        set_hold(connection, "broken", actor="monitor", at=5, version="1")
        held = current_hold(connection)
    assert held is not None
    assert held.stops("1")
    assert not held.stops("2")
    assert Hold(2, "too sure", "me").stops("2")
    assert "6 events" in verify_store(store.url)
    assert rebuild_store(store.url) == 6


@pytest.mark.slow
def test_a_hold_takes_turns_with_a_service_that_writes(store: Store) -> None:
    writer = Writer(store, 1_000)
    writer.start()
    other = open_store(store.url)
    failed: list[Exception] = []

    def hold() -> None:
        try:
            for number in range(20):
                with other.writing() as connection:
                    set_hold(connection, "why", actor="me", at=number)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=hold)
    thread.start()
    written = [
        writer.submit(lambda c: append(c, "reported", at=1, actor="us", item=2, data={}))
        for _ in range(300)
    ]
    numbers = {future.result(20).sequence for future in written}
    thread.join(30)
    writer.stop()
    other.close()
    assert not failed
    assert len(numbers) == 300
    with store.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM event")) == 320
    assert "320 events" in verify_store(store.url)
