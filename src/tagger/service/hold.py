"""Stops and resumes publishing: while a service is held, a person decides on every item."""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, text

from tagger.service.events import SERVICE, append

LAST = text(
    "SELECT kind, at, actor, data FROM event "
    "WHERE item = :item AND kind IN ('held', 'released') ORDER BY sequence DESC LIMIT 1"
)
# Each event takes the number after the last one.
LOCK = text("LOCK TABLE event IN SHARE ROW EXCLUSIVE MODE")


@dataclass(frozen=True)
class Hold:
    """That the run publishes nothing: since when (in milliseconds), why, and who said so."""

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
    """Stop publishing, also beside a service that runs; a hold that is on gets this reason."""
    lock_events(connection)
    append(connection, "held", at=at, actor=actor, item=SERVICE, data={"reason": reason})


def lift_hold(connection: Connection, *, actor: str, at: int) -> None:
    """Resume publishing; what was held waits for people still."""
    lock_events(connection)
    append(connection, "released", at=at, actor=actor, item=SERVICE, data={})


def lock_events(connection: Connection) -> None:
    """Let this transaction append beside a service: what another process writes is waited for."""
    if connection.dialect.name == "postgresql":  # SQLite lets one process write at a time
        connection.execute(LOCK)
