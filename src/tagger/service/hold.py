"""Stops and resumes publishing: while a service is held, a person decides on every item."""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, text

from tagger.service.events import SERVICE, append

LAST = text(
    "SELECT kind, at, actor, data FROM event "
    "WHERE item = :item AND kind IN ('held', 'released') ORDER BY sequence DESC LIMIT 1"
)


@dataclass(frozen=True)
class Hold:
    """That nothing is published by the run.

    Attributes:
        since: When it was said, in milliseconds.
        reason: Why.
        actor: Who said so.
    """

    since: int
    reason: str
    actor: str


def current_hold(connection: Connection) -> Hold | None:
    """Return the hold that is on; None where there is none."""
    last = connection.execute(LAST, {"item": SERVICE}).one_or_none()
    if last is None or last.kind == "released":
        return None
    return Hold(last.at, json.loads(last.data)["reason"], last.actor)


def set_hold(connection: Connection, reason: str, *, actor: str, at: int) -> None:
    """Stop publishing, beside a service that writes too; a hold that is on gets this reason."""
    _lock(connection)
    append(connection, "held", at=at, actor=actor, item=SERVICE, data={"reason": reason})


def lift_hold(connection: Connection, *, actor: str, at: int) -> bool:
    """Resume publishing; return whether there was a hold. What was held waits for people still."""
    _lock(connection)
    if held := current_hold(connection) is not None:
        append(connection, "released", at=at, actor=actor, item=SERVICE, data={})
    return held


def _lock(connection: Connection) -> None:
    """Wait for what another process writes: each event takes the number after the last one."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(text("LOCK TABLE event IN SHARE ROW EXCLUSIVE MODE"))
