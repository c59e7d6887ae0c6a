"""The config: schema, composition, saving and reading, and messages about mistakes."""
