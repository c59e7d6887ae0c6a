"""Gives people the items that need them, one at a time, and takes their labels.

Items of the random sample whose deadline is near come first, then the others by their place: when
they came in, less the hours that a look at them is worth. So whatever waits moves up by the hour.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, or_, select
from sqlalchemy.engine import Row

from tagger.service.content import SAMPLE
from tagger.service.events import (
    DUPLICATE,
    HOUR_MS,
    PUBLISHED,
    Event,
    Status,
    append,
    events_of,
    read_event,
    state_of,
)
from tagger.service.hold import current_hold
from tagger.service.refusals import Refusal
from tagger.service.tables import EVENT, REVIEW_QUEUE, TALLY

LISTED = 50
NEAR_MS = 24 * HOUR_MS
"""From when on before its deadline an item of the sample comes first."""

Label = list[Any]
"""Who gave it, what the item is by it, and its tag."""


@dataclass(frozen=True)
class _Review:
    """A review: its number and item; its row while it waits, else the label that settled it."""

    number: int
    item: int
    row: Row[Any] | None
    settled: Event | None

    @property
    def labels(self) -> list[Label]:
        """The labels that were given and not taken back, the first one first."""
        if self.row is not None:
            return [*json.loads(self.row.labels)]
        assert self.settled is not None
        before = json.loads(self.settled.data["queued"]["labels"])
        return [*before, [self.settled.actor, *self.settled.data["label"]]]


def count_reviews(connection: Connection, at: int) -> dict[str, Any]:
    """Return how many items need review, how many are claimed, and what labels there are so far."""
    count = func.count()
    live = REVIEW_QUEUE.c.lease_until > at
    hold = current_hold(connection)
    tally = {(row.first, row.second): row.times for row in connection.execute(select(TALLY))}
    pairs = {pair: number for pair, number in tally.items() if pair[1]}
    return {
        "open": connection.scalar(select(count).select_from(REVIEW_QUEUE)),
        "claimed": connection.scalar(select(count).select_from(REVIEW_QUEUE).where(live)),
        "labelled": sum(tally.values()),
        "hold": hold and {"since": hold.since, "reason": hold.reason},
        "agreement": {"pairs": sum(pairs.values()), "kappa": cohen_kappa(pairs)},
    }


def list_reviews(connection: Connection, at: int) -> dict[str, Any]:
    """Return how the queue stands, and the first items of it."""
    rows = connection.execute(select(REVIEW_QUEUE).order_by(*_order(at)).limit(LISTED)).all()
    return count_reviews(connection, at) | {
        "reviews": [
            {
                "review_id": row.review,
                "item": row.item,
                "title": _submitted(connection, row.item)["title"],
                "reason": row.reason,
                "opened_at": row.opened_at,
                "claimed": bool(row.lease_until and row.lease_until > at),
            }
            for row in rows
        ],
    }


def cohen_kappa(pairs: Mapping[tuple[str, str], int]) -> float | None:
    """Return how far two people agree beyond chance, 1 at most; None where that is undefined.

    Args:
        pairs: How many items have these two labels, the first person's first.
    """
    total = sum(pairs.values())
    both: dict[str, list[int]] = {}
    for pair, number in pairs.items():
        for at, label in enumerate(pair):
            both.setdefault(label, [0, 0])[at] += number
    chance = sum(first * second for first, second in both.values())
    if total * total == chance:  # nothing, or one label alone
        return None
    agreed = total * sum(number for (first, second), number in pairs.items() if first == second)
    return (agreed - chance) / (total * total - chance)


def claim(
    connection: Connection, client: str, at: int, lease_seconds: int
) -> dict[str, Any] | None:
    """Give a person the first item that is nobody's, until the lease ends; None where none is.

    Nobody is given an item again that they have labelled.
    """
    free = or_(REVIEW_QUEUE.c.lease_until.is_(None), REVIEW_QUEUE.c.lease_until <= at)
    theirs = REVIEW_QUEUE.c.labels.contains(json.dumps([client])[:-1], autoescape=True)
    row = connection.execute(
        select(REVIEW_QUEUE).where(free, ~theirs).order_by(*_order(at)).limit(1)
    ).one_or_none()
    if row is None:
        return None
    until = at + 1_000 * lease_seconds
    lease = {"review": row.review, "until": until}
    append(connection, "claimed", at=at, actor=client, item=row.item, data=lease)
    return _described(connection, row, until)


def label(
    connection: Connection, review: int, tag: str | None, client: str, at: int, *, people: int = 1
) -> dict[str, Any]:
    """Take a person's label of an item that is theirs; the same one again changes nothing.

    Args:
        connection: To the store.
        review: Which.
        tag: The item's; None: it is a duplicate of the one that it was found to be like.
        client: Who labels.
        at: When.
        people: How many label each item. It is settled when two agree, or a third has decided.

    Raises:
        Refusal: when the item is not, or no longer, theirs.
    """
    found = _find(connection, review)
    status, published = (DUPLICATE, None) if tag is None else (PUBLISHED, tag)
    own = [client, status, tag]
    if own in found.labels:
        return _outcome(connection, found)
    row = _claimed(found, client, at)
    if tag is None and _submitted(connection, row.item)["duplicate_of"] is None:
        raise Refusal(422, f"item {row.item} was not found to be like another")
    labels = [*found.labels, own]
    agreed = len(labels) == 2 and labels[0][1:] == labels[1][1:]
    settles = people == 1 or agreed or len(labels) > 2
    before, tag_before, _ = state_of(connection, row.item)
    # An item that stays what it was is not published once more.
    changes = settles and (before, tag_before) != (status, published)
    data = {
        "label": own[1:],
        "counted": _counted(labels),
        "before": [before, tag_before],
        "queued": dict(row._mapping),
    }
    append(
        connection,
        "labelled",
        at=at,
        actor=client,
        item=row.item,
        status=status if changes else None,
        tag=published if changes else None,
        data=data if settles else data | {"waits": json.dumps(labels)},
    )
    return _outcome(connection, _find(connection, review))


def skip(connection: Connection, review: int, client: str, at: int) -> dict[str, Any]:
    """Put an item that is a person's at the end of the queue, for anybody.

    Raises:
        Refusal: when it is not, or no longer, theirs.
    """
    row = _claimed(_find(connection, review), client, at)
    data = {"review": review}
    append(connection, "skipped", at=at, actor=client, item=row.item, data=data)
    return {"review_id": review, "item": row.item}


def undo(
    connection: Connection, review: int, client: str, at: int, lease_seconds: int
) -> dict[str, Any]:
    """Take back a person's own label; the item is theirs again, as if they had just claimed it.

    Raises:
        Refusal: when it was not labelled by them, or something happened to it since.
    """
    found = _find(connection, review)
    *before, last = found.labels or [[None]]
    status: Status | None = None
    tag = None
    if found.settled is None:
        assert found.row is not None
        queued = dict(found.row._mapping)
        taken = (found.row.lease_until or 0) > at
    else:
        queued = found.settled.data["queued"]
        last_of_all = events_of(connection, found.item, "labelled")[-1]
        taken = _waits(connection, found.item) or last_of_all != found.settled
        if found.settled.status is not None:
            status, tag = found.settled.data["before"]
    if last[0] != client or taken:
        raise Refusal(409, f"review {review} has no label of yours to take back")
    until = at + 1_000 * lease_seconds
    queued |= {"labels": json.dumps(before), "claimed_by": client, "lease_until": until}
    data = {"review": review, "queued": queued, "counted": _counted([*before, last])}
    append(
        connection, "undone", at=at, actor=client, item=found.item, status=status, tag=tag,
        data=data,
    )  # fmt: skip
    return _described(connection, _claimed(_find(connection, review), client, at), until)


def _order(at: int) -> tuple[ColumnElement[Any], ...]:
    near = REVIEW_QUEUE.c.deadline <= at + NEAR_MS
    return case((near, 0), else_=1), REVIEW_QUEUE.c.place, REVIEW_QUEUE.c.review


def _counted(labels: list[Label]) -> list[str]:
    """Return how the last of some labels is counted: the second beside the first, others alone."""
    told = [f"{status} {tag}" for _, status, tag in labels]
    return told if len(told) == 2 else [told[-1], ""]


def _described(connection: Connection, row: Row[Any], until: int) -> dict[str, Any]:
    data = _submitted(connection, row.item)
    reports = events_of(connection, row.item, "reported")
    labels = [tag for _, _, tag in json.loads(row.labels)]
    original = data["duplicate_of"]
    blind = row.reason == SAMPLE
    hints = {
        "tag": data["tag"],
        "probabilities": data["probabilities"],
        "suggested_tag": data["suggested"],
    }
    return {
        "review_id": row.review,
        "item": row.item,
        "reason": row.reason,
        "blind": blind,
        "lease_until": until,
        "title": data["title"],
        "description": data["description"],
        **(dict.fromkeys(hints) if blind else hints),
        "reported_tags": sorted(
            {one.data["tag"] for one in reports if one.data["tag"] and not blind}
        ),
        "labels": labels if len(labels) == 2 else [],
        "original": original and _original(connection, original),
        "similar": [],
    }


def _original(connection: Connection, item: int) -> dict[str, Any]:
    data = _submitted(connection, item)
    own = {name: data[name] for name in ("title", "description")}
    return {"item": item, "tag": state_of(connection, item)[1]} | own


def _submitted(connection: Connection, item: int) -> dict[str, Any]:
    event = read_event(connection, item, "submitted")
    assert event is not None
    return event.data


def _waits(connection: Connection, item: int) -> bool:
    query = select(REVIEW_QUEUE.c.review).where(REVIEW_QUEUE.c.item == item)
    return connection.scalar(query) is not None


def _find(connection: Connection, review: int) -> _Review:
    """Return a review, whether it waits or is settled.

    Raises:
        Refusal: when there is no such review.
    """
    query = select(REVIEW_QUEUE).where(REVIEW_QUEUE.c.review == review)
    row = connection.execute(query).one_or_none()
    if row is not None:
        return _Review(review, row.item, row, None)
    opened = EVENT.c.kind.in_(["submitted", "reported"])
    item = connection.scalar(select(EVENT.c.item).where(EVENT.c.sequence == review, opened))
    for event in reversed([] if item is None else events_of(connection, item, "labelled")):
        if event.data["queued"]["review"] == review:
            return _Review(review, event.item, None, event)
    raise Refusal(404, f"there is no review {review}")


def _claimed(found: _Review, client: str, at: int) -> Row[Any]:
    """Return the row of a review that is a person's, or refuse what they want to do with it."""
    row = found.row
    if row is None:
        raise Refusal(409, f"review {found.number} was settled already")
    if row.claimed_by != client:
        raise Refusal(409, f"review {found.number} is not yours: claim it first")
    if row.lease_until <= at:
        raise Refusal(409, f"your lease of review {found.number} has lapsed: claim it again")
    return row


def _outcome(connection: Connection, found: _Review) -> dict[str, Any]:
    """Return what became of an item that was labelled; nothing is told before it is settled."""
    status, tag, _ = state_of(connection, found.item) if found.settled else (None, None, 0)
    return {"review_id": found.number, "item": found.item, "status": status, "tag": tag}
