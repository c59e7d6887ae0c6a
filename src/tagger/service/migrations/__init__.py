"""Brings stores from one schema version to the next, by Alembic, one file a version."""
