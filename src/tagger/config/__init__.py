"""The config: its schema, how it is composed, saved and read, and messages about mistakes."""
