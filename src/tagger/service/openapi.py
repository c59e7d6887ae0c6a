"""Completes the OpenAPI document: the run's tags, the limits, and an example of each body."""

from collections.abc import Iterator, Sequence
from typing import Any

from tagger.decision.policies import NEEDS_REVIEW

Schema = dict[str, Any]
BY_TYPE = {"string": "a text", "integer": 7, "number": 0.97, "boolean": False, "null": None}
BY_NAME = {
    "id": "arxiv:1234",
    "title": "Segment anything",
    "description": "A model that cuts objects out of images.",
    "comment": "This is about images.",
    "reason": "not sure enough",
    "status": "published",
    "run": "first-run",
    "version": "4f1c0b7a92de",
} | dict.fromkeys(
    ("submitted_at", "published_at", "opened_at", "lease_until", "since"), 1_764_432_000_000
)
"""What fields hold in examples, unless the field has one of its own; others go by their type."""


def complete(document: Schema, tags: Sequence[str], most_items: int) -> Schema:
    """Write into a document what it cannot know of itself; once more changes nothing.

    Args:
        document: As FastAPI makes it of the bodies.
        tags: The approved ones.
        most_items: Of one request.
    """
    known = {"tag": [*tags], "decision": [*tags, NEEDS_REVIEW, "duplicate"]}
    for schema in _every_schema(document):
        if schema.get("format") in known:
            schema["enum"] = known[schema.pop("format")]
    schemas = document["components"]["schemas"]
    for name in ("ClassifyIn", "SubmitIn"):
        schemas[name]["properties"]["items"]["maxItems"] = most_items
    for schema in schemas.values():
        schema.setdefault("examples", [_example(schema, schemas)])
    return document


def _every_schema(part: Any) -> Iterator[Schema]:
    if isinstance(part, dict):
        yield part
    if isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from _every_schema(inner)


def _example(schema: Schema, schemas: Schema) -> Any:
    """Compose an example of a schema from those of its fields."""
    match schema:
        case {"$ref": str(name)}:
            return _example(schemas[name.rpartition("/")[2]], schemas)
        case {"examples": [first, *_]} | {"enum": [first, *_]}:
            return first
        case {"properties": dict(fields)}:
            return {
                name: BY_NAME[name]
                if name in BY_NAME and "examples" not in field
                else _example(field, schemas)
                for name, field in fields.items()
            }
        case {"additionalProperties": dict(values), "propertyNames": dict(names)}:
            return {_example(names, schemas): _example(values, schemas)}
        case {"type": "array", "items": dict(items)}:
            return [_example(items, schemas)]
        case {"anyOf": [first, *_]}:
            return _example(first, schemas)
    return BY_TYPE[schema["type"]]
