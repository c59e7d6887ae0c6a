"""Takes items in, lists what is published, and takes reports of wrong tags."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from tagger.data.columns import INCLUSION
from tagger.decision import policies
from tagger.rollout.arms import Answered
from tagger.service.bodies import FeedbackIn, SubmittedItem
from tagger.service.database import execute_text
from tagger.service.duplicates import Match, closest, find_match, find_meant
from tagger.service.events import (
    DUPLICATE,
    HOUR_MS,
    IN_REVIEW,
    PUBLISHED,
    REJECTED,
    Kind,
    Status,
    append,
    events_of,
    read_event,
    state_of,
)
from tagger.service.hold import Hold, current_hold
from tagger.service.inference import Prediction
from tagger.service.meaning import MeaningIndex
from tagger.service.refusals import Refusal
from tagger.service.settings import DuplicatesConfig
from tagger.service.tables import EVENT, ITEM_STATE, REVIEW_QUEUE

NEEDS_REVIEW = policies.NEEDS_REVIEW
FIND_ANSWER = (
    "SELECT last, body_sha256, answer "
    "FROM (SELECT coalesce(max(sequence), 0) AS last FROM event) AS numbered "
    "LEFT JOIN answer ON client = :client AND key = :key"
)
KEEP_ANSWER = (
    "INSERT INTO answer (client, key, body_sha256, answer, at) "
    "VALUES (:client, :key, :body_sha256, :answer, :at)"
)

SEARCHED = 5_000
"""Most items that a search looks at for one page."""

LIKELY_DUPLICATE = "likely duplicate"
REPORTED = "reported by users"
HELD = "held"
SAMPLE = "random sample"
DISAGREEMENT = "two runs differ"
BLIND = frozenset({SAMPLE, DISAGREEMENT})
"""Reasons with which people are not told what any run says."""

UNSURE_HOURS = 12
"""What a person's look is worth at an item whose two most probable tags are equally so."""
REPORT_HOURS = 24
"""What it is worth for each report: a wrong tag that is published is seen by everybody."""
DISAGREEMENT_HOURS = 24
"""What it is worth where two runs differ: a rollout waits for it."""
SAMPLE_DAYS = 3
"""By when a person is to have looked at an item of the random sample."""


@dataclass(frozen=True)
class Submission:
    """An item that comes in.

    Attributes:
        item: As it came.
        truncated: Whether it was cut before the model read it.
        prediction: What the run says; None for one that is certainly a duplicate.
        match: What it was found to be like before it was classified.
        seen: Number of the last event by then.
        sample: With which probability it was drawn for a person's blind look, unless it is
            certainly a duplicate; None: it was not drawn.
        answered: What both runs said during a rollout; None without one.
    """

    item: SubmittedItem
    truncated: bool
    prediction: Prediction | None
    match: Match | None
    seen: int
    sample: float | None = None
    answered: Answered | None = None


@dataclass(frozen=True)
class Asked:
    """Which request it is.

    Attributes:
        client: Whose.
        key: Its idempotency key.
        body_sha256: Hash of its body.
        at: When it came.
    """

    client: str
    key: str
    body_sha256: str
    at: int


def find_answer(connection: Connection, asked: Asked) -> tuple[str | None, int]:
    """Return what was answered to an idempotency key, and the number of the last event.

    Without an answer the key is new; without an event the number is 0.

    Raises:
        Refusal: when the key was given with another body.
    """
    found = execute_text(connection, FIND_ANSWER, vars(asked)).one()
    if found.body_sha256 not in {None, asked.body_sha256}:
        raise Refusal(409, f"the idempotency key {asked.key!r} was given before with another body")
    return found.answer, found.last


def submit_items(
    connection: Connection,
    submissions: Sequence[Submission],
    asked: Asked,
    run: dict[str, str],
    limits: DuplicatesConfig,
    *,
    meaning: MeaningIndex | None = None,
) -> str:
    """Put items into the store, all or none; return the answer, the first one to a replay.

    What means the same is looked for among the items of earlier requests.

    Raises:
        Refusal: when the key was given with another body.
    """
    first, last = find_answer(connection, asked)
    if first is not None:
        return first
    certain = any(one.prediction and one.prediction.published for one in submissions)
    hold = current_hold(connection) if certain else None
    items: list[dict[str, Any]] = []
    for one in submissions:
        # Its like may have come in while it was classified, or in the same request.
        match = one.match
        if one.seen < last + len(items):
            later = find_match(connection, one.item.title, one.item.description, one.seen)
            match = closest([match, later])
        vector = None if one.prediction is None else one.prediction.vector
        if meaning is not None and vector is not None and not _likely(match, limits):
            match = find_meant(connection, meaning, vector, limits) or match
        items.append(_submit(connection, replace(one, match=match), asked, run, limits, hold=hold))
    answer = json.dumps(run | {"items": items}, ensure_ascii=False)
    execute_text(connection, KEEP_ANSWER, vars(asked) | {"answer": answer})
    return answer


def _submit(
    connection: Connection,
    one: Submission,
    asked: Asked,
    run: dict[str, str],
    limits: DuplicatesConfig,
    *,
    hold: Hold | None,
) -> dict[str, Any]:
    item, match = one.item, one.match
    if one.answered is not None and one.answered.by_new:
        run = {"run": one.answered.run, "version": one.answered.version}
    likely = _likely(match, limits)
    status: Status
    tag = None
    reason = ""
    would_publish = None if likely or one.prediction is None else one.prediction.published
    if match is not None and match.is_certain(limits.certain):
        status, decision = DUPLICATE, "duplicate"
        reason = REJECTED if state_of(connection, match.item)[0] == REJECTED else ""
    elif likely or one.prediction is None:
        status, decision, reason = IN_REVIEW, NEEDS_REVIEW, LIKELY_DUPLICATE
    elif would_publish is None:
        status, decision, reason = IN_REVIEW, NEEDS_REVIEW, one.prediction.reason
    elif hold is not None and hold.stops(run["version"]):
        status, decision, reason = IN_REVIEW, NEEDS_REVIEW, HELD
    else:
        status = PUBLISHED
        decision = tag = would_publish
    said = {
        "id": item.id,
        "tag": one.prediction and one.prediction.tag,
        "probabilities": one.prediction and one.prediction.probabilities,
        "truncated": one.truncated,
        "duplicate_of": match.item if match is not None and likely else None,
    }
    texts = {"title": item.title, "description": item.description}
    suggested = {"suggested": item.suggested_tag, "would_publish": would_publish}
    opened: dict[str, Any] = {}
    if status != DUPLICATE and one.sample is not None:
        deadline = asked.at + 24 * HOUR_MS * SAMPLE_DAYS
        opened = {"opens": SAMPLE, "deadline": deadline, INCLUSION: one.sample}
    elif status == IN_REVIEW:
        probabilities = one.prediction.probabilities if one.prediction else {}
        second, first = [0.0, 1.0, *sorted(probabilities.values())][-2:]
        opened = {"opens": reason, "worth": UNSURE_HOURS * (1 - (first - second))}
    during: dict[str, Any] = {}
    if one.answered is not None:
        during = {"rollout": asdict(one.answered)}
        if one.answered.judge and opened.get("opens") not in (SAMPLE, LIKELY_DUPLICATE):
            opened = {"opens": DISAGREEMENT, "worth": DISAGREEMENT_HOURS}
    event = append(
        connection,
        "submitted",
        at=asked.at,
        actor=asked.client,
        status=status,
        tag=tag,
        data=run | said | texts | suggested | opened | during,
    )
    # Who submits is not told of the sample.
    review = event.sequence if status == IN_REVIEW else None
    own = {"item": event.item, "decision": decision, "reason": reason, "review_id": review}
    return said | own


def _likely(match: Match | None, limits: DuplicatesConfig) -> bool:
    return match is not None and match.overlap >= limits.likely


def report_item(
    connection: Connection, report: FeedbackIn, *, client: str, at: int
) -> dict[str, Any]:
    """Take the report that an item's tag is wrong or right; one of each client and item counts.

    Raises:
        Refusal: when there is no such item.
    """
    item = report.item
    if read_event(connection, item, "submitted") is None:
        raise Refusal(404, f"there is no item {item}")
    kind: Kind = "confirmed" if report.right else "reported"
    before = [one.actor for one in events_of(connection, item, kind)]
    if client not in before:
        queued = connection.scalar(select(REVIEW_QUEUE.c.review).where(REVIEW_QUEUE.c.item == item))
        shown = state_of(connection, item)[0] == PUBLISHED
        data: dict[str, Any] = {"tag": report.tag, "comment": report.comment}
        if not report.right:
            data["worth"] = REPORT_HOURS  # which moves an item that waits already
            data |= {"opens": REPORTED} if shown and queued is None else {}
        append(connection, kind, at=at, actor=client, item=item, data=data)
    return {"item": item, "counted": client not in before}


def list_published(
    connection: Connection, tag: str, before: int | None, limit: int, q: str = ""
) -> dict[str, Any]:
    """Return a page of the published items of a tag, the latest first.

    Args:
        connection: To the store.
        tag: Which.
        before: `next` of the page before; None for the first page.
        limit: Most items.
        q: What their titles must contain, in whatever case; `SEARCHED` items are looked at, so that
            even an empty page may have a next one.
    """
    most = SEARCHED if q else limit
    rows = connection.execute(
        select(ITEM_STATE, EVENT.c.at, EVENT.c.data)
        .join(EVENT, EVENT.c.sequence == ITEM_STATE.c.item)
        .where(
            ITEM_STATE.c.status == PUBLISHED,
            ITEM_STATE.c.tag == tag,
            ITEM_STATE.c.changed < (2**63 - 1 if before is None else before),
        )
        .order_by(ITEM_STATE.c.changed.desc())
        .limit(most + 1)
    ).all()
    items: list[dict[str, Any]] = []
    seen = 0
    while seen < min(most, len(rows)) and len(items) < limit:
        row, seen = rows[seen], seen + 1
        data = json.loads(row.data)
        if q.casefold() in data["title"].casefold():
            own = {name: data[name] for name in ("id", "title", "description")}
            times = {"submitted_at": row.at, "published_at": row.changed_at}
            items.append({"item": row.item, "tag": row.tag} | own | times)
    return {"items": items, "next": rows[seen - 1].changed if len(rows) > seen else None}


def list_answers(connection: Connection, items: Sequence[int]) -> list[tuple[int, str]]:
    """Return who said something of the tags of some items: item and actor."""
    said = EVENT.c.kind.in_(["reported", "confirmed"])
    query = select(EVENT.c.item, EVENT.c.actor).where(EVENT.c.item.in_(items), said)
    return [(row.item, row.actor) for row in connection.execute(query)]
