"""Names the tables of the store, for queries; `migrations/` makes them.

`event` is what happened: rows are added, never changed, which triggers see to. `item_state` is a
view of it. `answer` holds what was answered to an idempotency key, and is append-only too.
`review_queue`, `tally` (how many labels were given, and pairs of them) and `fingerprint` are
indexes, which can be rebuilt from the events. Times are milliseconds since 1970 in UTC.
"""

from sqlalchemy import column, table

EVENT = table(
    "event",
    *map(column, ("sequence", "at", "kind", "item", "actor", "status", "tag", "data")),
)
ITEM_STATE = table("item_state", *map(column, ("item", "changed", "changed_at", "status", "tag")))
ANSWER = table("answer", *map(column, ("client", "key", "body_sha256", "answer", "at")))
API_KEY = table(
    "api_key",
    *map(
        column,
        ("id", "name", "role", "secret_sha256", "created_at", "expires_at", "revoked_at"),
    ),
)
REVIEW_QUEUE = table(
    "review_queue",
    *map(column, ("review", "item", "reason", "opened_at", "place", "deadline", "labels")),
    *map(column, ("claimed_by", "lease_until")),
)
TALLY = table("tally", *map(column, ("first", "second", "times")))
FINGERPRINT = table("fingerprint", column("value"), column("item"))
