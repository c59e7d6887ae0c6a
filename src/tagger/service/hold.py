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
    """That nothing is published: since when (in milliseconds), why, and who said so.

    Attributes:
        version: Of the run that alone is stopped, since it broke its promise; "": all are.
    """

    since: int
    reason: str
    actor: str
    version: str = ""

    def stops(self, version: str) -> bool:
        """Whether a run publishes nothing."""
        return self.version in ("", version)


def current_hold(connection: Connection) -> Hold | None:
    """Return the hold that is on; None where there is none."""
    last = connection.execute(LAST, {"item": SERVICE}).one_or_none()
    if last is None or last.kind == "released":
        return None
    data = json.loads(last.data)
    return Hold(last.at, data["reason"], last.actor, data.get("version", ""))


def set_hold(
    connection: Connection,
    reason: str,
    *,
    actor: str,
    at: int,
    alarm: str | None = None,
    version: str = "",
) -> None:
    """Stop publishing, also beside a service that runs; a hold that is on gets this reason.

    Args:
        connection: To the store.
        reason: Which people are shown.
        actor: Who says so.
        at: When, in milliseconds.
        alarm: Of `tagger monitor`, by which one it was put on.
        version: Of the run that is stopped; "": all are.
    """
    lock_events(connection)
    data = {"reason": reason, "version": version} | ({} if alarm is None else {"alarm": alarm})
    append(connection, "held", at=at, actor=actor, item=SERVICE, data=data)


def lift_hold(connection: Connection, *, actor: str, at: int) -> None:
    """Resume publishing; what was held waits for people still."""
    lock_events(connection)
    append(connection, "released", at=at, actor=actor, item=SERVICE, data={})


def lock_events(connection: Connection) -> None:
    """Let this transaction append beside a service: what another process writes is waited for."""
    if connection.dialect.name == "postgresql":  # SQLite lets one process write at a time
        connection.execute(LOCK)
