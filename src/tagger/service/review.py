"""Gives people the items that need them, one at a time, and takes their labels.

Items of the random sample whose deadline is near come first, then the others by their place: when
they came in, less the hours that a look at them is worth. So whatever waits moves up by the hour.
"""

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, or_, select
from sqlalchemy.engine import Row

from tagger.evaluation.agreement import cohen_kappa
from tagger.service.content import BLIND
from tagger.service.events import (
    DUPLICATE,
    HOUR_MS,
    NO_TAG,
    PUBLISHED,
    REJECTED,
    Event,
    append,
    events_of,
    read_event,
    state_of,
)
from tagger.service.hold import current_hold
from tagger.service.meaning import MeaningIndex
from tagger.service.refusals import Refusal
from tagger.service.tables import EVENT, REVIEW_QUEUE, TALLY

LISTED = 50
SIMILAR, NEIGHBOURS = 5, 20
"""Most published items that are shown beside one, and most that are looked for."""
NEAR_MS = 24 * HOUR_MS
"""From when on before its deadline an item of the sample comes first."""

REJECTION = json.dumps(NO_TAG)
"""A rejection, as it is counted."""

Label = list[Any]
"""Who gave it, and the tag; None: a duplicate; `NO_TAG`: rejected."""


def count_reviews(connection: Connection, at: int) -> dict[str, Any]:
    """Return how many items need review, how many are claimed, and what labels there are so far."""
    count = select(func.count()).select_from(REVIEW_QUEUE)
    hold = current_hold(connection)
    tally = {(row.first, row.second): row.times for row in connection.execute(select(TALLY))}
    pairs = {pair: times for pair, times in tally.items() if pair[1]}
    return {
        "open": connection.scalar(count),
        "claimed": connection.scalar(count.where(REVIEW_QUEUE.c.lease_until > at)),
        "labelled": sum(tally.values()),
        "rejected": sum(n for (one, two), n in tally.items() if (two or one) == REJECTION),
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


def list_claimed(
    connection: Connection, client: str, at: int, meaning: MeaningIndex | None = None
) -> list[dict[str, Any]]:
    """Return the items that are a person's now, the one that was claimed last first."""
    mine = (REVIEW_QUEUE.c.claimed_by == client) & (REVIEW_QUEUE.c.lease_until > at)
    last_first = REVIEW_QUEUE.c.lease_until.desc(), REVIEW_QUEUE.c.review
    rows = connection.execute(select(REVIEW_QUEUE).where(mine).order_by(*last_first).limit(LISTED))
    return [_described(connection, row, row.lease_until, meaning) for row in rows.all()]


def claim(
    connection: Connection,
    client: str,
    at: int,
    lease_seconds: int,
    review: int | None = None,
    *,
    meaning: MeaningIndex | None = None,
) -> dict[str, Any] | None:
    """Give a person the first item that is nobody's, or this, until the lease ends.

    None where none is free. Nobody is given an item again that they have labelled.
    """
    free = or_(REVIEW_QUEUE.c.lease_until.is_(None), REVIEW_QUEUE.c.lease_until <= at)
    theirs = REVIEW_QUEUE.c.labels.contains(json.dumps([client])[:-1], autoescape=True)
    if review is not None:
        free &= REVIEW_QUEUE.c.review == review
    row = connection.execute(
        select(REVIEW_QUEUE).where(free, ~theirs).order_by(*_order(at)).limit(1)
    ).one_or_none()
    if row is None:
        return None
    until = at + 1_000 * lease_seconds
    lease = {"review": row.review, "until": until}
    append(connection, "claimed", at=at, actor=client, item=row.item, data=lease)
    return _described(connection, row, until, meaning)


def label(
    connection: Connection, review: int, tag: str | None, client: str, at: int, *, people: int = 1
) -> dict[str, Any]:
    """Take a person's label of an item that is theirs; the same one again changes nothing.

    Without a tag it is a duplicate of what it was found to be like; with `NO_TAG` it is rejected.
    Where two `people` label each item, it is settled when they agree, or a third has decided.

    Raises:
        Refusal: when the item is not, or no longer, theirs.
    """
    found, labels = _find(connection, review)
    status = DUPLICATE if tag is None else PUBLISHED if tag else REJECTED
    shown = tag or None
    waits = {"review_id": review, "item": found.item, "status": None, "tag": None}
    if [client, tag] in labels:
        now, tag_now, _ = state_of(connection, found.item)
        return waits | ({"status": now, "tag": tag_now} if isinstance(found, Event) else {})
    row = _claimed(found, review, client, at)
    if tag is None and _submitted(connection, row.item)["duplicate_of"] is None:
        raise Refusal(422, f"item {row.item} was not found to be like another")
    labels = [*labels, [client, tag]]
    differ = len(labels) == 2 and labels[0][1] != tag
    settles = len(labels) >= people and not (differ and people == 2)
    before, tag_before, _ = state_of(connection, row.item)
    # An item that stays what it was is not published once more.
    changes = settles and (before, tag_before) != (status, shown)
    append(
        connection,
        "labelled",
        at=at,
        actor=client,
        item=row.item,
        status=status if changes else None,
        tag=shown if changes else None,
        data={
            "settles": settles,
            "labels": labels,
            "counted": _counted(labels),
            "before": [before, tag_before],
            "queued": dict(row._mapping),
        },
    )
    return waits | ({"status": status, "tag": shown} if settles else {})


def skip(connection: Connection, review: int, client: str, at: int) -> dict[str, Any]:
    """Put an item that is a person's at the end of the queue, for anybody.

    Raises:
        Refusal: when it is not, or no longer, theirs.
    """
    row = _claimed(_find(connection, review)[0], review, client, at)
    data = {"review": review}
    append(connection, "skipped", at=at, actor=client, item=row.item, data=data)
    return {"review_id": review, "item": row.item}


def undo(
    connection: Connection,
    review: int,
    client: str,
    at: int,
    lease_seconds: int,
    *,
    meaning: MeaningIndex | None = None,
) -> dict[str, Any]:
    """Take back a person's own label; the item is theirs again, as if they had just claimed it.

    Raises:
        Refusal: when it was not labelled by them, or something happened to it since.
    """
    found, labels = _find(connection, review)
    status, tag = None, None
    if isinstance(found, Event):
        queued = found.data["queued"]
        later = events_of(connection, found.item, "labelled")[-1] != found
        taken = later or _waits(connection, found.item)
        if found.status is not None:
            status, tag = found.data["before"]
    else:
        queued, taken = dict(found._mapping), (found.lease_until or 0) > at
    if taken or not labels or labels[-1][0] != client:
        raise Refusal(409, f"review {review} has no label of yours to take back")
    until = at + 1_000 * lease_seconds
    queued |= {"labels": json.dumps(labels[:-1]), "claimed_by": client, "lease_until": until}
    data = {"review": review, "queued": queued, "counted": _counted(labels)}
    append(
        connection, "undone", at=at, actor=client, item=found.item, status=status, tag=tag,
        data=data,
    )  # fmt: skip
    row = _claimed(_find(connection, review)[0], review, client, at)
    return _described(connection, row, until, meaning)


def _order(at: int) -> tuple[ColumnElement[Any], ...]:
    near = REVIEW_QUEUE.c.deadline <= at + NEAR_MS
    return case((near, 0), else_=1), REVIEW_QUEUE.c.place, REVIEW_QUEUE.c.review


def _counted(labels: list[Label]) -> list[str]:
    """Return how the last of some labels is counted: the second beside the first, others alone."""
    told = [json.dumps(tag) for _, tag in labels]
    return told if len(told) == 2 else [told[-1], ""]


def _described(
    connection: Connection, row: Row[Any], until: int, meaning: MeaningIndex | None
) -> dict[str, Any]:
    data = _submitted(connection, row.item)
    blind = row.reason in BLIND
    reports = [] if blind else events_of(connection, row.item, "reported")
    labels = [tag for _, tag in json.loads(row.labels)]
    original = data["duplicate_of"]
    return {
        "review_id": row.review,
        "item": row.item,
        "reason": row.reason,
        "blind": blind,
        "lease_until": until,
        "title": data["title"],
        "description": data["description"],
        "tag": None if blind else data["tag"],
        "probabilities": None if blind else data["probabilities"],
        "suggested_tag": None if blind else data["suggested"],
        "reported_tags": sorted({one.data["tag"] for one in reports if one.data["tag"]}),
        "labels": labels if len(labels) == 2 else [],
        "original": original and _original(connection, original, blind=blind),
        "similar": [] if blind or meaning is None else _similar(connection, meaning, row.item),
    }


def _similar(connection: Connection, meaning: MeaningIndex, item: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for other in meaning.neighbours(item, NEIGHBOURS):
        status, tag, _ = state_of(connection, other)
        if status == PUBLISHED and len(found) < SIMILAR:
            title = _submitted(connection, other)["title"]
            found.append({"item": other, "title": title, "tag": tag})
    return found


def _original(connection: Connection, item: int, *, blind: bool) -> dict[str, Any]:
    data = _submitted(connection, item)
    own = {name: data[name] for name in ("title", "description")}
    status, tag = (None, None) if blind else state_of(connection, item)[:2]
    return {"item": item, "tag": tag, "rejected": status == REJECTED} | own


def _submitted(connection: Connection, item: int) -> dict[str, Any]:
    event = read_event(connection, item, "submitted")
    assert event is not None
    return event.data


def _waits(connection: Connection, item: int) -> bool:
    query = select(REVIEW_QUEUE.c.review).where(REVIEW_QUEUE.c.item == item)
    return connection.scalar(query) is not None


def _find(connection: Connection, review: int) -> tuple[Row[Any] | Event, list[Label]]:
    """Return a review's row while it waits, else the label that settled it; and all its labels.

    Raises:
        Refusal: when there is no such review.
    """
    query = select(REVIEW_QUEUE).where(REVIEW_QUEUE.c.review == review)
    if (row := connection.execute(query).one_or_none()) is not None:
        return row, json.loads(row.labels)
    opened = EVENT.c.kind.in_(["submitted", "reported", "redecided"])
    item = connection.scalar(select(EVENT.c.item).where(EVENT.c.sequence == review, opened))
    for event in reversed([] if item is None else events_of(connection, item, "labelled")):
        if event.data["queued"]["review"] == review:
            return event, event.data["labels"]
    raise Refusal(404, f"there is no review {review}")


def _claimed(row: Row[Any] | Event, review: int, client: str, at: int) -> Row[Any]:
    """Return the row of a review that is a person's, or refuse what they want to do with it."""
    if isinstance(row, Event):
        raise Refusal(409, f"review {review} was settled already")
    if row.claimed_by != client:
        raise Refusal(409, f"review {review} is not yours: claim it first")
    if row.lease_until <= at:
        raise Refusal(409, f"your lease of review {review} has lapsed: claim it again")
    return row
