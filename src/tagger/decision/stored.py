"""Fitted parts as JSON: the name of their kind beside their numbers."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import TypeAdapter

Part = TypeVar("Part")


def part_to_json(part: Any, kinds: Mapping[str, type[Any]]) -> dict[str, Any]:
    """Return the kind of a dataclass and its fields."""
    kind = next(name for name, one in kinds.items() if isinstance(part, one))
    return {"kind": kind, **asdict(part)}


def part_from_json(values: Mapping[str, Any], kinds: Mapping[str, type[Part]]) -> Part:
    """Read what `part_to_json` returned.

    Raises:
        KeyError, TypeError, ValueError: when it is something else.
    """
    numbers = dict(values)
    kind = kinds[numbers.pop("kind")]
    kind(**numbers)  # it knows the names of its fields, the adapter their types
    return TypeAdapter(kind).validate_json(json.dumps(numbers), strict=True)
