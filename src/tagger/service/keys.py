"""Makes, lists, revokes and checks the keys by which clients are known."""

import hashlib
import hmac
import logging
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.engine import Row

from tagger.errors import UserError
from tagger.service.database import Store
from tagger.service.refusals import Refusal
from tagger.service.sessions import is_valid, key_of
from tagger.service.tables import API_KEY

Role = Literal["submit", "review", "read", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

PATTERN = re.compile(r"tg_([0-9a-f]{12})_([0-9a-f]{48})")
FRESH_SECONDS = 1.0
"""How long what the store says of a key is taken for true: so soon a revoked one is refused."""
MOST_CACHED = 10_000


@dataclass(frozen=True)
class Client:
    """Who asks.

    Attributes:
        id: Of the key; it stands in the events.
        role: What it may do.
    """

    id: str
    role: Role


LOCAL = Client("local", "admin")
"""Whoever asks a service that only this machine reaches and that has no keys."""


def now_ms() -> int:
    """Return the time as the store keeps it: milliseconds since 1970 in UTC."""
    return time.time_ns() // 1_000_000


def shown_time(at: int) -> str:
    """Return a time as people and tables have it, in UTC: 2026-02-20 06:43:18."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at / 1_000))


def create_key(connection: Connection, name: str, role: Role, days: float | None) -> str:
    """Make a key, and return it; the store keeps only its hash.

    Args:
        connection: To the store.
        name: Whose it is.
        role: What it may do.
        days: After which it expires; None: never.
    """
    at = now_ms()
    key_id, secret = secrets.token_hex(6), secrets.token_hex(24)
    row = {"id": key_id, "name": name, "role": role, "secret_sha256": _hash(secret)}
    times = {"created_at": at, "expires_at": None if days is None else at + int(days * 86_400_000)}
    connection.execute(insert(API_KEY).values(row | times))
    return f"tg_{key_id}_{secret}"


def describe_keys(connection: Connection) -> list[str]:
    """Return a line for each key, the oldest first: id, role, whether it is valid, whose."""
    now = now_ms()
    rows = connection.execute(select(API_KEY).order_by(API_KEY.c.created_at, API_KEY.c.id))
    return [f"{row.id}  {row.role:<6}  {_state(row, now):<31}  {row.name}" for row in rows]


def _state(row: Row[Any], now: int) -> str:
    if row.revoked_at is not None:
        return f"revoked {shown_time(row.revoked_at)}"
    if row.expires_at is None:
        return "valid"
    return f"{'valid until' if row.expires_at > now else 'expired'} {shown_time(row.expires_at)}"


def revoke_key(connection: Connection, key_id: str) -> None:
    """End a key; what was done with it stays.

    Raises:
        UserError: when there is no such key that is valid.
    """
    done = connection.execute(
        update(API_KEY)
        .where(API_KEY.c.id == key_id, API_KEY.c.revoked_at.is_(None))
        .values(revoked_at=now_ms())
    )
    if not done.rowcount:
        raise UserError(f"there is no valid key {key_id!r}", hint="`tagger keys list` lists them.")


def has_keys(connection: Connection) -> bool:
    """Whether there was ever a key: then there is no answer without one."""
    return bool(connection.scalar(select(func.count()).select_from(API_KEY)))


class Authentication:
    """Tells by its key who asks.

    Args:
        store: Where keys are kept; it is asked at most once a second for each.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._cache: dict[str, tuple[Row[Any] | None, float]] = {}

    def known(self, header: str | None, session: str = "") -> bool:
        """Whether `identify` answers at once, without asking the store."""
        key_id = key_of(session) if header is None else _parts(header)[0]
        return self._fresh(key_id) is not None

    def identify(self, header: str | None, session: str = "") -> Client:
        """Return who sent a request with this Authorization header or, without one, this cookie.

        Raises:
            Refusal: when the key is missing, unknown, expired or revoked, or the session is over.
        """
        key_id, secret = (key_of(session), "") if header is None else _parts(header)
        row = self._look_up(key_id)
        if not key_id:
            if header is None and row is None:
                return LOCAL
            raise Refusal(401, "a key is needed", ["as Authorization: Bearer tg_..."])
        # Compared even if there is no such key, so that the time says nothing.
        expected = _hash("") if row is None else row.secret_sha256
        same = hmac.compare_digest(_hash(secret), expected)
        if row is None or not (is_valid(session, expected, now_ms()) if header is None else same):
            raise Refusal(401, "the key is not known" if header else "the session is over")
        if not (state := _state(row, now_ms())).startswith("valid"):
            raise Refusal(401, f"the key is not valid: {state}")
        return Client(row.id, row.role)

    def _look_up(self, key_id: str) -> Row[Any] | None:
        """Return the row of a key; for an empty id any row, which says whether there are keys."""
        if fresh := self._fresh(key_id):
            return fresh[0]
        query = select(API_KEY).limit(1)
        with self.store.reading() as connection:
            row = connection.execute(
                query.where(API_KEY.c.id == key_id) if key_id else query
            ).one_or_none()
        if len(self._cache) >= MOST_CACHED:
            self._cache.clear()
        self._cache[key_id] = (row, time.monotonic() + FRESH_SECONDS)
        return row

    def _fresh(self, key_id: str) -> tuple[Row[Any] | None, float] | None:
        found = self._cache.get(key_id)
        return found if found is not None and found[1] > time.monotonic() else None


class RedactKeys(logging.Filter):
    """Takes keys out of what is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the secret of each key in a message; the id stays."""
        record.msg = PATTERN.sub(r"tg_\1_...", record.getMessage())
        record.args = ()
        return True


def _parts(header: str | None) -> tuple[str, str]:
    """Return id and secret of the key in an Authorization header; "" for what is no key."""
    scheme, _, key = (header or "").partition(" ")
    match = PATTERN.fullmatch(key.strip())
    return (match[1], match[2]) if match and scheme.lower() == "bearer" else ("", "")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
