"""Reads tables row by row, strictly, in constant memory.

Text (CSV and its relatives, JSON), Parquet, Feather and Arrow files, feeds, compressed or not,
pipes, and tables given from Python. Strictly means: a value is handed on exactly as it is written
(an id `007` stays `007`, a title `NA` stays a title), and a row that is not what it should be is
reported, never repaired by a guess. Only a key that is absent, a JSON or Arrow null, counts as a
missing value.
"""

import lzma
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.data.problems import Problems, did_you_mean
from tagger.data.readers.arrow import (
    ARROW_FILE_MAGIC,
    ARROW_STREAM_MAGIC,
    PARQUET_MAGIC,
    arrow_file_rows,
    arrow_number_type,
    arrow_schema,
)
from tagger.data.readers.delimited import delimited_header, delimited_rows
from tagger.data.readers.feeds import COLUMNS, feed_rows, is_feed
from tagger.data.readers.json_text import json_integers, json_rows
from tagger.data.readers.opening import COMPRESSED, PIPE, Opened, opened, readable_twice
from tagger.data.readers.rows import HEADER_ROWS, Row, normalized, noting, readable_rows
from tagger.data.readers.tables import table_header, table_rows
from tagger.data.readers.text import start_of_text
from tagger.errors import UserError, describe_os_error

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "ENDINGS",
    "PIPE",
    "SUFFIXES",
    "Row",
    "normalized",
    "number_type",
    "read_header",
    "read_rows",
    "readable_twice",
    "table_header",
    "table_rows",
]

_DELIMITED = (".csv", ".tsv", ".txt")
_JSON = (".json", ".jsonl", ".ndjson")
_FEEDS = (".xml", ".rss", ".atom")
_TEXT = (*_DELIMITED, *_JSON, *_FEEDS)
_BINARY = (".parquet", ".arrow", ".feather")
SUFFIXES = (*_TEXT, *_BINARY, *(one + more for one in _TEXT + _BINARY for more in COMPRESSED))
ENDINGS = f"{', '.join(_TEXT + _BINARY)}, or these with {', '.join(COMPRESSED)}"

ARROW, JSON, FEED, DELIMITED = "arrow", "json", "feed", "delimited"

_JSON_START = re.compile(r'\s*(\[\s*)?(\{\s*["}]|\])')


def read_rows(
    path: Path,
    wanted: Collection[str],
    problems: Problems,
    others: bool = False,
    broken: bool = False,
    *,
    delimiter: str | None = None,
) -> Iterator[Row]:
    """Yield the rows of a table; what is wrong with its structure goes to `problems`.

    A row with a problem is left out and reading goes on, if the table can still be followed from
    there. The caller decides when to raise what was collected.

    Args:
        path: A file.
        wanted: The columns to read; a row has their values by these names.
        problems: Where structural problems are added, and blank rows are counted.
        others: Whether to hand on the values of other columns too, where they are plain; by
            default they are passed over unread.
        broken: Whether to yield rows that cannot be read too; see `readable_rows`.
        delimiter: What parts the values of a delimited text; found by default.

    Raises:
        UserError: when the file is missing, is a folder, has an ending that says nothing, or is
            refused by the operating system.
    """
    names = frozenset(wanted)
    with _told(path, problems), opened(path) as one:
        kind = _kind_of(one)
        if kind == ARROW:
            rows = arrow_file_rows(one, names, others)
        elif kind == JSON:
            rows = json_rows(one, names, others)
        elif kind == FEED:
            rows = feed_rows(one, names, others)
        else:
            rows = delimited_rows(one, names, others, problems, delimiter)
        yield from readable_rows(rows, problems, broken)


def read_header(path: Path, problems: Problems, delimiter: str | None = None) -> list[str]:
    """Return the names of a table's columns, whether it has rows or not.

    Raises:
        UserError: as `read_rows` does.
    """
    names: list[str] = []
    with _told(path, problems), opened(path) as one:
        kind = _kind_of(one)
        if kind == DELIMITED:
            names = [name for name in delimited_header(one, delimiter) if name.strip()]
        elif kind == ARROW:
            names = arrow_schema(one).names
        elif kind == FEED:
            names = [*COLUMNS]
        else:
            rows = [*islice(json_rows(one, (), False), HEADER_ROWS)]
            names = [name for row in rows for name in row.columns]
            if not names:  # then the rows are told to be broken, and not the table to be empty
                list(readable_rows(rows, problems, broken=False))
    return [*dict.fromkeys(names)]


def number_type(path: Path, column: str) -> "pyarrow.DataType | None":
    """Return the type of a column of numbers, where the file has types; else None."""
    import pyarrow as pa

    with opened(path) as one:
        kind = _kind_of(one)
        if kind == ARROW:
            return arrow_number_type(arrow_schema(one), column)
        return pa.int64() if kind == JSON and json_integers(one, column) else None


@contextmanager
def _told(path: Path, problems: Problems) -> Iterator[None]:
    """Tell in one way why a table can't be opened, or be read on."""
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.name.lower().endswith(SUFFIXES))
        found = f"; it holds {', '.join(inside[:10])}" if inside else ""
        raise UserError(f"{path} is a folder, a file was expected{found}")
    if path.is_fifo():
        raise UserError(f"{path} is a pipe, and a table is read twice: save it as a file")
    try:
        with noting(problems):
            yield
    except FileNotFoundError:
        try:
            near = did_you_mean(path.name, [file.name for file in path.parent.iterdir()])
        except OSError:
            near = f": there is no folder {path.parent}"
        raise UserError(f"{path} does not exist{near}") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{path}: {describe_os_error(error)}") from None
        # What unpacks a file says so of its content, without a number of the system.
        problems.add(f"the archive is cut off or damaged ({error}); copy or download it again")


def _kind_of(one: Opened) -> str:
    """Tell how to read what is open: by its first bytes, else, if it is text, by its ending."""
    name = one.name.lower()
    magic = (PARQUET_MAGIC, ARROW_FILE_MAGIC, ARROW_STREAM_MAGIC)
    if one.head.startswith(magic) or name.endswith(_BINARY):
        return ARROW
    start = start_of_text(one.head)
    if is_feed(start):
        return FEED
    unnamed = "." not in name
    if not (unnamed or name.endswith(_TEXT)):
        raise UserError(f"{one.name} ends in {Path(name).suffix!r}, expected one of {ENDINGS}")
    looks = _JSON_START.match(start) or (unnamed and start.lstrip().startswith(("{", "[")))
    return JSON if name.endswith(_JSON) or looks else DELIMITED
