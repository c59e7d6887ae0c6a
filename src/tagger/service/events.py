"""Appends events to the store, and keeps the indexes that can be rebuilt from them."""

import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.engine import Row

from tagger.service.database import execute_text
from tagger.service.fingerprints import BANDS, comparable, fingerprints, numbered
from tagger.service.tables import EVENT, FINGERPRINT, ITEM_STATE, REVIEW_QUEUE, TALLY

Kind = Literal[
    "tags", "held", "released", "watched",
    "submitted", "reported", "confirmed", "claimed", "labelled", "skipped", "undone",
    "rollout", "redecided",
]  # fmt: skip
Status = Literal["published", "review", "duplicate", "rejected"]

PUBLISHED: Status = "published"
IN_REVIEW: Status = "review"
DUPLICATE: Status = "duplicate"
REJECTED: Status = "rejected"

NO_TAG = ""
"""What a person says of an item that is no content of the platform: it is rejected."""

SERVICE = 1
"""Item that events about the service itself are of: the number of the store's first event."""

CHUNK = 1_000
HOUR_MS = 3_600_000

APPEND = (
    "INSERT INTO event SELECT last + 1, :at, :kind, coalesce(CAST(:item AS BIGINT), last + 1), "
    ":actor, :status, :tag, :data "
    "FROM (SELECT coalesce(max(sequence), 0) AS last FROM event) AS numbered RETURNING sequence"
)
OPEN_REVIEW = insert(REVIEW_QUEUE)
COUNT_LABEL = text(
    "INSERT INTO tally (first, second, times) VALUES (:first, :second, :by) "
    "ON CONFLICT (first, second) DO UPDATE SET times = tally.times + :by"
)
INDEX_TEXT = (
    "INSERT INTO fingerprint (value, item) VALUES "
    + ", ".join(f"(:value{at}, :item)" for at in range(BANDS + 1))
    + " ON CONFLICT DO NOTHING"
)

NOBODYS = {"claimed_by": None, "lease_until": None}
INDEXES = (REVIEW_QUEUE, TALLY, FINGERPRINT)
"""What is made of the events."""


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        sequence: Its number; there is no gap.
        at: When, in milliseconds.
        kind: What.
        item: The item that it happened to: the number of the event by which that was submitted.
        actor: Whose key asked for it.
        status: What the item is from here on; None: as before.
        tag: Its tag from here on, None without a status.
        data: What else is to be known. With `opens`, a reason, the item is to be reviewed, by a
            `deadline` perhaps; `worth` is how many hours it need wait less than others.
    """

    sequence: int
    at: int
    kind: Kind
    item: int
    actor: str
    status: Status | None
    tag: str | None
    data: dict[str, Any]


def append(
    connection: Connection,
    kind: Kind,
    *,
    at: int,
    actor: str,
    item: int | None = None,
    status: Status | None = None,
    tag: str | None = None,
    data: Mapping[str, Any],
) -> Event:
    """Add an event; without an item it is about one of its own."""
    row = {"at": at, "kind": kind, "item": item, "actor": actor, "status": status, "tag": tag}
    row["data"] = json.dumps(data, ensure_ascii=False)
    sequence = execute_text(connection, APPEND, row).scalar()
    assert sequence is not None
    event = Event(sequence, at, kind, item or sequence, actor, status, tag, dict(data))
    _index(connection, event)
    if status is not None:
        _index_text(connection, event)
    return event


def read_event(connection: Connection, sequence: int, kind: Kind) -> Event | None:
    """Return an event by its number, if it is of this kind."""
    found = connection.execute(
        select(EVENT).where(EVENT.c.sequence == sequence, EVENT.c.kind == kind)
    ).one_or_none()
    return None if found is None else _event(found)


def events_of(connection: Connection, item: int, kind: Kind) -> list[Event]:
    """Return the events of a kind that happened to an item, the last one last."""
    found = connection.execute(
        select(EVENT).where(EVENT.c.item == item, EVENT.c.kind == kind).order_by(EVENT.c.sequence)
    )
    return [_event(row) for row in found]


def last_event_of(connection: Connection, item: int, kind: Kind) -> Event | None:
    """Return the last event of a kind that happened to an item."""
    ours = (EVENT.c.item == item, EVENT.c.kind == kind)
    last = select(EVENT).where(*ours).order_by(EVENT.c.sequence.desc()).limit(1)
    found = connection.execute(last).one_or_none()
    return None if found is None else _event(found)


def state_of(connection: Connection, item: int) -> tuple[Status, str | None, int]:
    """Return what an item is, its tag, and the number of the event that made it so."""
    found = connection.execute(select(ITEM_STATE).where(ITEM_STATE.c.item == item)).one()
    return found.status, found.tag, found.changed


def every_event(connection: Connection, *kinds: Kind, after: int = 0) -> Iterator[Event]:
    """Yield the events after a number in their order, or those of some kinds, a chunk at a time."""
    last = after
    chunk = select(EVENT).order_by(EVENT.c.sequence).limit(CHUNK)
    chunk = chunk.where(EVENT.c.kind.in_(kinds)) if kinds else chunk
    while rows := connection.execute(chunk.where(EVENT.c.sequence > last)).all():
        last = rows[-1].sequence
        yield from map(_event, rows)


def rebuild_indexes(connection: Connection) -> int:
    """Make all that can be rebuilt anew; return how many events there are."""
    for index in INDEXES:
        connection.execute(delete(index))
    duplicates = select(ITEM_STATE.c.item).where(ITEM_STATE.c.status == DUPLICATE)
    not_kept = {*connection.scalars(duplicates)}
    values, items = array("q"), array("q")
    count = 0
    for event in every_event(connection):
        _index(connection, event)
        if event.kind == "submitted" and event.item not in not_kept:
            ours = {*_fingerprints(event)}
            values.extend(ours)
            items.extend([event.item] * len(ours))
        count += 1
    # In the order of the index: else each row would be written to another page, again and again.
    order = np.lexsort((items, values))
    for start in range(0, len(order), CHUNK):
        rows = [{"value": values[at], "item": items[at]} for at in order[start : start + CHUNK]]
        connection.execute(insert(FINGERPRINT), rows)
    return count


def _event(row: Row[Any]) -> Event:
    return Event(**dict(row._mapping) | {"data": json.loads(row.data)})


def _index(connection: Connection, event: Event) -> None:
    """Bring the indexes up to date with an event that was just added."""
    in_queue = REVIEW_QUEUE.c.item == event.item
    match event.kind:
        case "claimed":
            lease = {"claimed_by": event.actor, "lease_until": event.data["until"]}
            connection.execute(update(REVIEW_QUEUE).where(in_queue).values(lease))
        case "skipped":
            last = {"place": event.at + 1, "deadline": None}
            connection.execute(update(REVIEW_QUEUE).where(in_queue).values(last | NOBODYS))
        case "labelled" if not event.data.get("settles", True):
            labels = {"labels": json.dumps(event.data["labels"])}
            connection.execute(update(REVIEW_QUEUE).where(in_queue).values(labels | NOBODYS))
        case "labelled":
            connection.execute(delete(REVIEW_QUEUE).where(in_queue))
        case "undone":
            connection.execute(delete(REVIEW_QUEUE).where(in_queue))
            connection.execute(OPEN_REVIEW, event.data["queued"])
    if counted := event.data.get("counted"):
        by = -1 if event.kind == "undone" else 1
        connection.execute(COUNT_LABEL, {"first": counted[0], "second": counted[1], "by": by})
    worth = round(HOUR_MS * event.data.get("worth", 0))
    if reason := event.data.get("opens"):
        opened = {"review": event.sequence, "item": event.item, "reason": reason, "labels": "[]"}
        times = {"opened_at": event.at, "place": event.at - worth}
        times["deadline"] = event.data.get("deadline")
        connection.execute(OPEN_REVIEW, opened | times | NOBODYS)
    elif worth:
        sooner = {"place": REVIEW_QUEUE.c.place - worth}
        connection.execute(update(REVIEW_QUEUE).where(in_queue).values(sooner))


def _index_text(connection: Connection, event: Event) -> None:
    """Let later items be compared with an item, unless it is a duplicate of one that is kept."""
    if event.kind == "submitted":
        source = event
        known = False
    else:
        found = read_event(connection, event.item, "submitted")
        assert found is not None
        source = found
        known = bool(
            connection.scalar(
                select(FINGERPRINT.c.item).where(
                    FINGERPRINT.c.value == _fingerprints(source)[0],
                    FINGERPRINT.c.item == event.item,
                )
            )
        )
    kept = event.status != DUPLICATE
    if kept and not known:
        values = numbered(_fingerprints(source))
        execute_text(connection, INDEX_TEXT, values | {"item": event.item})
    elif known and not kept:
        connection.execute(
            delete(FINGERPRINT).where(
                FINGERPRINT.c.value.in_(_fingerprints(source)), FINGERPRINT.c.item == event.item
            )
        )


def _fingerprints(submitted: Event) -> tuple[int, ...]:
    data = submitted.data
    return fingerprints(comparable(data["title"], data["description"]))
