"""Gives people the items that need them, one at a time, and takes their labels."""

from typing import Any

from sqlalchemy import Connection, func, or_, select
from sqlalchemy.engine import Row

from tagger.service.events import (
    DUPLICATE,
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
from tagger.service.tables import EVENT, REVIEW_QUEUE

LISTED = 50


def list_reviews(connection: Connection, at: int) -> dict[str, Any]:
    """Return how many items need review, how many are claimed, and the first of them."""
    count = func.count()
    live = REVIEW_QUEUE.c.lease_until > at
    rows = connection.execute(
        select(REVIEW_QUEUE).order_by(REVIEW_QUEUE.c.position).limit(LISTED)
    ).all()
    hold = current_hold(connection)
    return {
        "labelled": 0,
        "agreement": {"pairs": 0, "kappa": None},
        "hold": hold and {"since": hold.since, "reason": hold.reason},
        "open": connection.scalar(select(count).select_from(REVIEW_QUEUE)),
        "claimed": connection.scalar(select(count).select_from(REVIEW_QUEUE).where(live)),
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


def list_claimed(connection: Connection, client: str, at: int) -> list[dict[str, Any]]:
    """Return the items that are a person's now, the one that was claimed last first."""
    queue = REVIEW_QUEUE.c
    rows = connection.execute(
        select(REVIEW_QUEUE)
        .where(queue.claimed_by == client, queue.lease_until > at)
        .order_by(queue.lease_until.desc(), queue.position)
    ).all()
    return [_described(connection, row, row.lease_until) for row in rows]


def claim(
    connection: Connection, client: str, at: int, lease_seconds: int, review: int | None = None
) -> dict[str, Any] | None:
    """Give a person a review that is nobody's, until the lease ends: the first one, or this."""
    free = or_(REVIEW_QUEUE.c.lease_until.is_(None), REVIEW_QUEUE.c.lease_until <= at)
    if review is not None:
        free &= REVIEW_QUEUE.c.review == review
    row = connection.execute(
        select(REVIEW_QUEUE).where(free).order_by(REVIEW_QUEUE.c.position).limit(1)
    ).one_or_none()
    if row is None:
        return None
    until = at + 1_000 * lease_seconds
    lease = {"review": row.review, "until": until}
    append(connection, "claimed", at=at, actor=client, item=row.item, data=lease)
    return _described(connection, row, until)


def label(
    connection: Connection, review: int, tag: str | None, client: str, at: int
) -> dict[str, Any]:
    """Take a person's label of an item that is theirs; the same one again changes nothing.

    Args:
        connection: To the store.
        review: Which.
        tag: The item's; None: it is a duplicate of the one that it was found to be like.
        client: Who labels.
        at: When.

    Raises:
        Refusal: when the item is not, or no longer, theirs.
    """
    status, published = (DUPLICATE, None) if tag is None else (PUBLISHED, tag)
    done = {"review_id": review, "status": status, "tag": published}
    if _queued(connection, review) is None:
        last = _last_label(connection, review)
        if last is not None and last.actor == client and last.data["label"] == [status, tag]:
            return done | {"item": last.item}
    row = _claimed(connection, review, client, at)
    if tag is None and _submitted(connection, row.item)["duplicate_of"] is None:
        raise Refusal(422, f"item {row.item} was not found to be like another")
    before, tag_before, _ = state_of(connection, row.item)
    same = (before, tag_before) == (status, published)
    append(
        connection,
        "labelled",
        at=at,
        actor=client,
        item=row.item,
        # An item that stays what it was is not published once more.
        status=None if same else status,
        tag=None if same else published,
        data={
            "label": [status, tag],
            "before": [before, tag_before],
            "queued": dict(row._mapping),
        },
    )
    return done | {"item": row.item}


def skip(connection: Connection, review: int, client: str, at: int) -> dict[str, Any]:
    """Put an item that is a person's at the end of the queue, for anybody.

    Raises:
        Refusal: when it is not, or no longer, theirs.
    """
    row = _claimed(connection, review, client, at)
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
    last = _last_label(connection, review)
    if last is None or last.actor != client or _queued_item(connection, last.item) is not None:
        raise Refusal(409, f"review {review} has no label of yours to take back")
    status: Status | None
    status, tag = last.data["before"] if last.status is not None else (None, None)
    until = at + 1_000 * lease_seconds
    queued = last.data["queued"] | {"claimed_by": client, "lease_until": until}
    data = {"review": review, "queued": queued}
    append(
        connection, "undone", at=at, actor=client, item=last.item, status=status, tag=tag, data=data
    )
    row = _queued(connection, review)
    assert row is not None
    return _described(connection, row, until)


def _described(connection: Connection, row: Row[Any], until: int) -> dict[str, Any]:
    data = _submitted(connection, row.item)
    reports = events_of(connection, row.item, "reported")
    original = data["duplicate_of"]
    return {
        "review_id": row.review,
        "item": row.item,
        "reason": row.reason,
        "lease_until": until,
        **{name: data[name] for name in ("title", "description", "tag", "probabilities")},
        "suggested_tag": data["suggested"],
        "reported_tags": sorted({one.data["tag"] for one in reports if one.data["tag"]}),
        "blind": False,
        "labels": [],
        "similar": [],
        "original": original and _original(connection, original),
    }


def _original(connection: Connection, item: int) -> dict[str, Any]:
    data = _submitted(connection, item)
    own = {name: data[name] for name in ("title", "description")}
    return {"item": item, "tag": state_of(connection, item)[1]} | own


def _submitted(connection: Connection, item: int) -> dict[str, Any]:
    event = read_event(connection, item, "submitted")
    assert event is not None
    return event.data


def _queued(connection: Connection, review: int) -> Row[Any] | None:
    return connection.execute(
        select(REVIEW_QUEUE).where(REVIEW_QUEUE.c.review == review)
    ).one_or_none()


def _queued_item(connection: Connection, item: int) -> int | None:
    return connection.scalar(select(REVIEW_QUEUE.c.review).where(REVIEW_QUEUE.c.item == item))


def _last_label(connection: Connection, review: int) -> Event | None:
    """Return the last label of a review that is over; None where it has none.

    Raises:
        Refusal: when there is no such review.
    """
    item = connection.scalar(
        select(EVENT.c.item).where(
            EVENT.c.sequence == review, EVENT.c.kind.in_(["submitted", "reported"])
        )
    )
    if item is None:
        raise Refusal(404, f"there is no review {review}")
    labels = events_of(connection, item, "labelled")
    return labels[-1] if labels and labels[-1].data["queued"]["review"] == review else None


def _claimed(connection: Connection, review: int, client: str, at: int) -> Row[Any]:
    """Return a review that is a person's, or refuse what they want to do with it."""
    row = _queued(connection, review)
    if row is None:
        _last_label(connection, review)  # which says so where there never was one
        raise Refusal(409, f"review {review} was settled already")
    if row.claimed_by != client:
        raise Refusal(409, f"review {review} is not yours: claim it first")
    if row.lease_until <= at:
        raise Refusal(409, f"your lease of review {review} has lapsed: claim it again")
    return row
