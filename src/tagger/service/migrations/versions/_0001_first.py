"""Makes the tables, the view of what items are, and the triggers that keep events as they are."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ITEM_STATE = """
CREATE VIEW item_state AS
SELECT item, sequence AS changed, at AS changed_at, status, tag
FROM event
WHERE status IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM event AS later
    WHERE later.item = event.item AND later.sequence > event.sequence AND later.status IS NOT NULL
)
"""


def upgrade() -> None:
    """Make everything."""
    op.create_table(
        "event",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("item", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("status", sa.Text),
        sa.Column("tag", sa.Text),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.execute("CREATE INDEX event_kind ON event (item, kind)")
    op.execute("CREATE INDEX event_state ON event (item, sequence) WHERE status IS NOT NULL")
    op.execute(
        "CREATE INDEX event_published ON event (status, tag, sequence) WHERE status IS NOT NULL"
    )
    op.create_table(
        "answer",
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("body_sha256", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("secret_sha256", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "review_queue",
        sa.Column("review", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("item", sa.BigInteger, nullable=False, unique=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("deadline", sa.BigInteger),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("claimed_by", sa.Text),
        sa.Column("lease_until", sa.BigInteger),
    )
    op.create_table(
        "tally",
        sa.Column("first", sa.Text, primary_key=True),
        sa.Column("second", sa.Text, primary_key=True),
        sa.Column("times", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "fingerprint",
        sa.Column("value", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("item", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.execute(ITEM_STATE)
    if op.get_bind().dialect.name == "sqlite":
        for table in ("event", "answer"):
            for change in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in ("event", "answer"):
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
