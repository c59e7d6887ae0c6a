import pytest
from sqlalchemy import select
from tests.service.conftest import Submit

from tagger.service.database import Store
from tagger.service.events import (
    append,
    events_of,
    every_event,
    read_event,
    rebuild_indexes,
    state_of,
)
from tagger.service.tables import FINGERPRINT, REVIEW_QUEUE


def queue(store: Store) -> list[tuple[object, ...]]:
    with store.reading() as connection:
        found = connection.execute(
            select(REVIEW_QUEUE).order_by(REVIEW_QUEUE.c.place, REVIEW_QUEUE.c.review)
        )
        return [tuple(row) for row in found]


def indexed(store: Store) -> set[int]:
    with store.reading() as connection:
        return {*connection.scalars(select(FINGERPRINT.c.item))}


def test_events_are_numbered_without_gaps_and_read_back(store: Store) -> None:
    with store.writing() as connection:
        first = append(connection, "tags", at=1, actor="us", data={"tags": ["ä", "b"]})
        second = append(connection, "reported", at=2, actor="you", item=1, data={})
    with store.reading() as connection:
        assert [*every_event(connection)] == [first, second]
        assert (first.sequence, first.item, second.sequence, second.item) == (1, 1, 2, 1)
        assert read_event(connection, 1, "tags") == first
        assert read_event(connection, 1, "submitted") is None
        assert events_of(connection, 1, "reported") == [second]
        assert events_of(connection, 2, "reported") == []


def test_the_state_is_that_of_the_last_event_which_has_one(store: Store, submit: Submit) -> None:
    item = submit("one", "review", opens="unsure")
    with store.writing() as connection:
        assert state_of(connection, item) == ("review", None, item)
        append(connection, "reported", at=2, actor="you", item=item, data={})
        assert state_of(connection, item) == ("review", None, item)
        label = append(
            connection, "labelled", at=3, actor="us", item=item, status="published", tag="metal",
            data={},
        )  # fmt: skip
        assert state_of(connection, item) == ("published", "metal", label.sequence)


def test_the_queue_follows_the_events(store: Store, submit: Submit) -> None:
    one, two = (submit(title, "review", opens="unsure") for title in ("one", "two"))
    with store.writing() as connection:
        append(connection, "claimed", at=2, actor="us", item=one, data={"until": 99})
    assert queue(store) == [
        (one, one, "unsure", 1_000, 1_000, None, "[]", "us", 99),
        (two, two, "unsure", 1_000, 1_000, None, "[]", None, None),
    ]
    with store.writing() as connection:
        append(connection, "skipped", at=1_002, actor="us", item=one, data={})
    assert queue(store)[1] == (one, one, "unsure", 1_000, 1_003, None, "[]", None, None)
    with store.writing() as connection:
        append(
            connection, "labelled", at=4, actor="us", item=two, status="published", tag="fruit",
            data={},
        )  # fmt: skip
    assert [row[0] for row in queue(store)] == [one]


def test_only_what_is_kept_is_compared_with_later_items(store: Store, submit: Submit) -> None:
    kept, copy, likely = submit("a"), submit("a", "duplicate"), submit("b", "review", opens="x")
    assert indexed(store) == {kept, likely}
    with store.writing() as connection:
        append(connection, "labelled", at=2, actor="us", item=likely, status="duplicate", data={})
    assert indexed(store) == {kept}
    assert copy not in indexed(store)


@pytest.mark.parametrize("status", ["published", "review"])
def test_indexes_made_anew_are_the_same(store: Store, submit: Submit, status: str) -> None:
    for title in ("one", "two", "three"):
        submit(title, status, **({"opens": "unsure"} if status == "review" else {}))
    before = queue(store), indexed(store)
    with store.writing() as connection:
        connection.execute(FINGERPRINT.delete())
        connection.execute(REVIEW_QUEUE.delete())
        assert rebuild_indexes(connection) == 3
    assert (queue(store), indexed(store)) == before
