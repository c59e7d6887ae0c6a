"""Reads tables row by row, strictly, in constant memory.

Text (CSV and its relatives, JSON), Parquet, Feather and Arrow files, compressed or not, pipes, and
tables given from Python. Strictly means: a value is handed on exactly as it is written (an id `007`
stays `007`, a title `NA` stays a title), and a row that is not what it should be is reported, never
repaired by a guess. Only a key that is absent, a JSON or Arrow null, counts as a missing value.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.data.problems import Problems
from tagger.data.readers.arrow import (
    ARROW_FILE_MAGIC,
    ARROW_STREAM_MAGIC,
    PARQUET_MAGIC,
    arrow_file_rows,
    arrow_schema,
    parquet_rows,
)
from tagger.data.readers.delimited import delimited_header, delimited_rows
from tagger.data.readers.json_text import json_integers, json_rows
from tagger.data.readers.opening import COMPRESSED, Opened, missing_file, opened
from tagger.data.readers.rows import HEADER_ROWS, Row, Unreadable, normalized, with_broken
from tagger.data.readers.tables import table_header, table_rows
from tagger.data.readers.text import start_of_text
from tagger.errors import UserError, describe_os_error

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "ENDINGS",
    "SUFFIXES",
    "Row",
    "normalized",
    "number_type",
    "read_header",
    "read_rows",
    "table_header",
    "table_rows",
    "with_broken",
]

_DELIMITED = (".csv", ".tsv", ".txt")
_JSON = (".json", ".jsonl", ".ndjson")
_TEXT = (*_DELIMITED, *_JSON)
_BINARY = (".parquet", ".arrow", ".feather")
SUFFIXES = (*_TEXT, *_BINARY, *(one + more for one in _TEXT + _BINARY for more in COMPRESSED))
ENDINGS = f"{', '.join(_TEXT + _BINARY)}, or these with {', '.join(COMPRESSED)}"

PARQUET, ARROW, JSON, DELIMITED = "parquet", "arrow", "json", "delimited"

_JSON_START = re.compile(r'\s*(\[\s*)?(\{\s*["}]|\])')


def read_rows(
    path: Path,
    wanted: Collection[str],
    problems: Problems,
    others: bool = False,
    *,
    delimiter: str | None = None,
) -> Iterator[Row]:
    """Yield the rows of a table; what is wrong with its structure goes to `problems`.

    A row with a problem is left out and reading goes on, if the table can still be followed from
    there. The caller decides when to raise what was collected.

    Args:
        path: A file or a named pipe, which is read once, in order.
        wanted: The columns to read; a row has their values by these names.
        problems: Where structural problems are added, and blank rows are counted.
        others: Whether to hand on the values of other columns too, where they are plain; by
            default they are passed over unread.
        delimiter: What parts the values of a delimited text; found by default.

    Raises:
        UserError: when the file is missing, is a folder, has an ending that says nothing, or is
            refused by the operating system.
    """
    names = frozenset(wanted)
    with _told(path, problems), opened(path) as one:
        kind = _kind_of(one)
        if kind == PARQUET:
            yield from parquet_rows(one, names, problems, others)
        elif kind == ARROW:
            yield from arrow_file_rows(one, names, problems, others)
        elif kind == JSON:
            yield from json_rows(one, names, problems, others)
        else:
            yield from delimited_rows(one, names, problems, others, delimiter=delimiter)


def read_header(path: Path, problems: Problems, delimiter: str | None = None) -> list[str]:
    """Return the names of a table's columns, whether it has rows or not.

    Raises:
        UserError: as `read_rows` does.
    """
    names: dict[str, None] = {}
    with _told(path, problems), opened(path) as one:
        kind = _kind_of(one)
        if kind == DELIMITED:
            names |= dict.fromkeys(filter(str.strip, delimited_header(one, delimiter)))
        elif kind in (PARQUET, ARROW):
            names |= dict.fromkeys(arrow_schema(one).names)
        else:
            for row in islice(json_rows(one, (), problems, False), HEADER_ROWS):
                names |= dict.fromkeys(row.columns)
    return list(names)


def number_type(path: Path, column: str) -> "pyarrow.DataType | None":
    """Return the type of a column of numbers, where the file has types; else None."""
    import pyarrow as pa

    with opened(path) as one:
        kind = _kind_of(one)
        if kind in (PARQUET, ARROW):
            found = arrow_schema(one).field(column).type
            return found if pa.types.is_integer(found) or pa.types.is_floating(found) else None
        return pa.int64() if kind == JSON and json_integers(one, column) else None


@contextmanager
def _told(path: Path, problems: Problems) -> Iterator[None]:
    """Tell in one way why a table can't be opened, or be read on."""
    _check_path(path)
    try:
        yield
    except Unreadable as error:
        problems.add(str(error))
    except FileNotFoundError:
        raise missing_file(path) from None
    except OSError as error:
        raise UserError(f"{path}: {describe_os_error(error)}") from None


def _kind_of(one: Opened) -> str:
    """Tell how to read what is open: binary formats by their first bytes, text by its ending."""
    name = one.name.lower()
    if one.head.startswith(PARQUET_MAGIC) or name.endswith(".parquet"):
        return PARQUET
    is_arrow = one.head.startswith((ARROW_FILE_MAGIC, ARROW_STREAM_MAGIC))
    if is_arrow or name.endswith((".arrow", ".feather")):
        return ARROW
    start = start_of_text(one.head)
    unnamed = "." not in name
    if not (unnamed or name.endswith(_TEXT)):
        raise UserError(f"{one.name} ends in {Path(name).suffix!r}, expected one of {ENDINGS}")
    looks = _JSON_START.match(start) or (unnamed and start.lstrip().startswith(("{", "[")))
    return JSON if name.endswith(_JSON) or looks else DELIMITED


def _check_path(path: Path) -> None:
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.name.lower().endswith(SUFFIXES))
        found = f"; it holds {', '.join(inside[:10])}" if inside else ""
        raise UserError(f"{path} is a folder, a file was expected{found}")
