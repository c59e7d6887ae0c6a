"""Reads tables row by row, strictly, in constant memory.

Text (CSV and its relatives, JSON), Parquet, Feather and Arrow files, compressed or not, pipes, and
tables given from Python. Strictly means: a value is handed on exactly as it is written (an id `007`
stays `007`, a title `NA` stays a title), and a row that is not what it should be is reported, never
repaired by a guess. Only a key that is absent, a JSON or Arrow null, counts as a missing value.
"""

import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from tagger.data.problems import Problems
from tagger.data.readers.arrow import (
    ARROW_FILE_MAGIC,
    ARROW_STREAM_MAGIC,
    BATCH_ROWS,
    PARQUET_MAGIC,
    arrow_file_rows,
    arrow_rows,
    parquet_rows,
)
from tagger.data.readers.delimited import delimited_rows
from tagger.data.readers.json_text import json_rows
from tagger.data.readers.opening import COMPRESSED, Opened, Source, missing_file, opened
from tagger.data.readers.rows import Row, Unreadable
from tagger.data.readers.tables import table_rows
from tagger.data.readers.text import start_of_text
from tagger.errors import UserError, describe_os_error

__all__ = [
    "BATCH_ROWS",
    "ENDINGS",
    "SUFFIXES",
    "Row",
    "arrow_rows",
    "read_header",
    "read_rows",
    "table_rows",
]

_DELIMITED = (".csv", ".tsv", ".txt")
_JSON = (".json", ".jsonl", ".ndjson")
_TEXT = (*_DELIMITED, *_JSON)
_BINARY = (".parquet", ".arrow", ".feather")
SUFFIXES = (*_TEXT, *_BINARY, *(one + more for one in _TEXT + _BINARY for more in COMPRESSED))
ENDINGS = f"{', '.join(_TEXT + _BINARY)}, or these with {', '.join(COMPRESSED)}"

_HEADER_ROWS = 100
_JSON_START = re.compile(r'\s*(\[\s*)?(\{\s*["}]|\])')


def read_rows(
    source: Source,
    wanted: Collection[str],
    problems: Problems,
    others: bool = False,
    *,
    delimiter: str | None = None,
    may_be_empty: bool = False,
) -> Iterator[Row]:
    """Yield the rows of a table; what is wrong with its structure goes to `problems`.

    A row with a problem is left out and reading goes on, if the table can still be followed from
    there. The caller decides when to raise what was collected.

    Args:
        source: A file; `-` for standard input; or a stream of bytes. Each is read once, in order.
        wanted: The columns to read; a row has their values by these names.
        problems: Where structural problems are added, and blank rows are counted.
        others: Whether to hand on the values of other columns too, where they are plain; by
            default they are passed over unread.
        delimiter: What parts the values of a delimited text; found by default.
        may_be_empty: Whether a table without rows is no problem.

    Raises:
        UserError: when the file is missing, is a folder, has an ending that says nothing, or is
            refused by the operating system.
    """
    names = frozenset(wanted)
    if isinstance(source, Path):
        _check_path(source)
    try:
        with opened(source) as one:
            yield from _rows(
                one, names, problems, others, delimiter=delimiter, may_be_empty=may_be_empty
            )
    except Unreadable as error:
        problems.add(str(error))
    except FileNotFoundError:
        assert isinstance(source, Path)
        raise missing_file(source) from None
    except OSError as error:
        raise UserError(f"{source}: {describe_os_error(error)}") from None


def read_header(source: Source, problems: Problems, delimiter: str | None = None) -> list[str]:
    """Return the names of a table's columns; of JSON, the keys of the first rows."""
    rows = read_rows(source, (), problems, delimiter=delimiter)
    return [*dict.fromkeys(name for row in islice(rows, _HEADER_ROWS) for name in row.columns)]


def _rows(
    one: Opened,
    wanted: frozenset[str],
    problems: Problems,
    others: bool,
    *,
    delimiter: str | None,
    may_be_empty: bool,
) -> Iterator[Row]:
    """Yield the rows of what is open: binary formats by their first bytes, text by its ending."""
    name = one.name.lower()
    if one.head.startswith(PARQUET_MAGIC) or name.endswith(".parquet"):
        return parquet_rows(one, wanted, problems, others, may_be_empty)
    is_arrow = one.head.startswith((ARROW_FILE_MAGIC, ARROW_STREAM_MAGIC))
    if is_arrow or name.endswith((".arrow", ".feather")):
        return arrow_file_rows(one, wanted, problems, others, may_be_empty)
    start = start_of_text(one.head)
    unnamed = "." not in name
    if not (unnamed or name.endswith(_TEXT)):
        raise UserError(f"{one.name} ends in {Path(name).suffix!r}, expected one of {ENDINGS}")
    if (
        name.endswith(_JSON)
        or _JSON_START.match(start)
        or (unnamed and start.lstrip().startswith(("{", "[")))
    ):
        return json_rows(one, wanted, problems, others, may_be_empty)
    return delimited_rows(
        one, wanted, problems, others, delimiter=delimiter, may_be_empty=may_be_empty
    )


def _check_path(path: Path) -> None:
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.name.lower().endswith(SUFFIXES))
        found = f"; it holds {', '.join(inside[:10])}" if inside else ""
        raise UserError(f"{path} is a folder, a file was expected{found}")
