"""Defines typed documents, which JSON files hold, and reads them back or refuses them.

A room that computes something returns a `Document`; whoever reads the file gets the same type
back. The JSON schemas of all documents stand in docs/run-folder.md.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tagger.errors import UserError
from tagger.files import write_json

SCHEMA_VERSION: Literal[2] = 2
"""Of all documents; files from before there was a version are version 1."""


class Record(BaseModel):
    """A part of a document: immutable, and closed to fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Document(Record):
    """The content of one JSON file.

    Attributes:
        WRITTEN_BY: The command that writes the file, for messages.
        schema_version: Rises when a field changes its name or its meaning.
    """

    WRITTEN_BY: ClassVar[str] = "the command that wrote it"

    schema_version: Literal[2] = SCHEMA_VERSION

    @classmethod
    def upgrade(cls, plain: dict[str, Any]) -> dict[str, Any] | None:
        """Return the fields of a version 1 file under their names of today; None: not read.

        Only a document that users have to keep defines this; others are written again.

        Raises:
            KeyError, TypeError: when the file does not hold what version 1 has.
        """
        return None

    @classmethod
    def parse(cls, plain: object, where: Path) -> Self:
        """Turn the content of a file into the document.

        Args:
            plain: What was read, of any version.
            where: The file, for messages.

        Raises:
            UserError: when it does not fit, or was written by a newer version.
        """
        if not isinstance(plain, dict):
            raise UserError(f"{where} is damaged: it holds no object")
        version = plain.get("schema_version", 1)
        again = f"Write it again with this version: {cls.WRITTEN_BY}"
        try:
            readable = plain if version == SCHEMA_VERSION else None
            if version == 1 and (upgraded := cls.upgrade(dict(plain))) is not None:
                readable = upgraded | {"schema_version": SCHEMA_VERSION}
            if readable is not None:
                return cls.model_validate(readable)
        except (ValidationError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{where} is no {cls.__name__} of version {version}: {_first_problem(error)}",
                hint=again,
            ) from None
        raise UserError(
            f"{where} holds version {version} of {cls.__name__}; only version {SCHEMA_VERSION} can "
            "be read",
            hint=again,
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            UserError: when it is missing or damaged, or of a version that can't be read.
        """
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged, it cannot be read as JSON: {error}") from None
        return cls.parse(plain, path)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))


def _first_problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__} {error}"
    detail = error.errors()[0]
    return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
