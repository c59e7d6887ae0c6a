"""Signs the cookies by which browsers are known: a session is a key's, and ends with it.

A cookie holds the key's id, when it ends, and an HMAC-SHA256 of both under the stored hash of the
key's secret: no table is needed.
"""

import hashlib
import hmac
import re

COOKIE = "session"
SESSION_SECONDS = 12 * 3_600
"""How long a person stays signed in."""

PATTERN = re.compile(r"([0-9a-f]{12})\.([0-9]{1,15})\.[0-9a-f]{64}")


def make_session(key: str, at: int) -> str:
    """Return the cookie of a session of a valid key that begins now, in milliseconds."""
    _, key_id, secret = key.split("_")
    begun = f"{key_id}.{at + 1_000 * SESSION_SECONDS}"
    return f"{begun}.{_sign(begun, hashlib.sha256(secret.encode()).hexdigest())}"


def key_of(session: str) -> str:
    """Return the id of the key that a session claims to be of; "" for what is no session."""
    found = PATTERN.fullmatch(session)
    return found[1] if found else ""


def is_valid(session: str, secret_sha256: str, at: int) -> bool:
    """Whether a session was signed under this hash, and has not ended."""
    begun, _, signature = session.rpartition(".")
    return hmac.compare_digest(_sign(begun, secret_sha256), signature) and int(begun[13:]) > at


def _sign(begun: str, secret_sha256: str) -> str:
    return hmac.digest(secret_sha256.encode(), begun.encode(), "sha256").hex()
