"""Reads CSV and its relatives: values parted by commas, semicolons, tabs or pipes."""

import csv
import re
from collections.abc import Collection, Iterator
from itertools import chain
from typing import Any

from tagger.data.problems import Problems
from tagger.data.readers.opening import Opened
from tagger.data.readers.rows import (
    Row,
    Unreadable,
    broken_row,
    normalized,
    place_of,
    select_columns,
    text_row,
)
from tagger.data.readers.text import read_lines
from tagger.errors import UserError

# The longest line and the longest field in characters. Python's csv module stops at 131,072, which
# real descriptions exceed; without any limit, a quote that is never closed would pull the rest of
# the file into memory.
LONGEST = 2**24
_DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
# A header without any of them is that of one column: no character of its texts parts values.
_NONE = "\x1f"
# By as many lines and characters the delimiter is told.
_SAMPLE_LINES = 20
_SAMPLE_CHARACTERS = 2**16
_EXCEL_HINT = re.compile(r'"?sep=([^"])"?[,;\t]*', re.IGNORECASE)


def delimited_rows(
    opened: Opened,
    wanted: Collection[str],
    others: bool,
    problems: Problems,
    delimiter: str | None,
) -> Iterator[Row]:
    """Yield the rows of a delimited text, and count the blank ones; see `read_rows`."""
    above, used, header, records = _find_records(opened, wanted, delimiter)
    kept, columns = select_columns(header, wanted, others)
    width, number = len(header), 0
    while True:
        line = above + records.line_num + 1
        try:
            record = next(records, None)
        except csv.Error as error:
            number += 1
            if "expected after" not in str(error):  # then other rows are inside of this one
                raise Unreadable(f"{place_of(number, line)}: {_explain(error)}") from None
            yield broken_row(number, line, _explain(error))
            continue
        if record is None:
            return
        # The first look is for speed: few rows begin with a blank.
        if not record or not (record[0].strip() or any(map(str.strip, record))):
            problems.skipped += 1
            continue
        number += 1
        if len(record) < width:
            told = f"{len(record)} fields, the header has {width}"
            yield broken_row(number, line, told, "too few fields")
        elif any(map(str.strip, record[width:])):
            told = f"{len(record)} fields, the header has {width} (put texts that hold "
            told += f"{_named(used)} in double quotes)"
            yield broken_row(number, line, told, "too many fields")
        else:
            yield text_row(number, line, {name: record[at] for at, name in kept}, columns)


def delimited_header(opened: Opened, delimiter: str | None) -> list[str]:
    """Return the names of all columns of a delimited text."""
    return _find_records(opened, (), delimiter)[2]


def _find_records(
    opened: Opened, wanted: Collection[str], delimiter: str | None
) -> tuple[int, str, list[str], Any]:
    """Find the header and the delimiter.

    Returns:
        The number of lines above the header, the delimiter, the header, and a `csv.reader` that
        has read it.
    """
    # The limit belongs to the process; raised only, so that nobody else's setting is cut.
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
    lines = read_lines(opened.stream, opened.head, "", LONGEST)
    above, sample, hint = _find_header(lines, wanted)
    if not sample:
        raise Unreadable("the file is empty: a header line and rows were expected")
    given = _checked(delimiter) or hint
    found = _find_delimiter(sample, wanted)
    if given and found not in (given, _NONE) and given not in sample[0]:
        raise Unreadable(
            f"the header {sample[0].strip()[:80]!r} has no {_named(given)}, the delimiter that was "
            f"given; it seems to be {_named(found)}"
        )
    used = given or found
    records = csv.reader(
        chain(sample, lines),
        delimiter=used,
        # `id, title, tag`: a quote after a blank begins a quoted text there too.
        skipinitialspace=0 < sample[0].count(used) == sample[0].count(f"{used} "),
        strict=True,
    )
    try:
        return above, used, next(records), records
    except csv.Error as error:
        raise Unreadable(f"header (line {above + 1}): {_explain(error)}") from None


def _find_header(
    lines: Iterator[str], wanted: Collection[str]
) -> tuple[int, list[str], str | None]:
    """Pass over what stands above the header: blank lines, comments, Excel's `sep=;`.

    Returns:
        The number of lines passed over, the header with the lines after it that make a sample, and
        the delimiter that Excel named.
    """
    hint = None
    for above, line in enumerate(lines):
        if above == 0 and (excel := _EXCEL_HINT.fullmatch(line.rstrip("\r\n"))):
            hint = excel[1]
        elif line.strip(",;| \t\r\n") and not _is_comment(line, wanted):
            sample, size = [line], len(line)
            while len(sample) < _SAMPLE_LINES and size < _SAMPLE_CHARACTERS:
                sample.append(next(lines, ""))
                size += len(sample[-1])
            return above, [one for one in sample if one], hint
    return 0, [], hint


def _is_comment(line: str, wanted: Collection[str]) -> bool:
    """Whether a line above the rows is a comment, and no header whose first column is `#`."""
    if not line.startswith("#"):
        return False
    first, *rest = re.split(r"[,;\t|]", line.strip())
    known = {normalized(name) for name in wanted}
    return " " in first.strip() or known.isdisjoint(normalized(name.strip('"')) for name in rest)


def _checked(delimiter: str | None) -> str | None:
    if delimiter is None:
        return None
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise UserError(
            f"the delimiter {delimiter!r} cannot be used; expected one character, such as "
            + ", ".join(_DELIMITERS.values())
        )
    return delimiter


def _named(delimiter: str) -> str:
    return _DELIMITERS.get(delimiter, repr(delimiter))


def _find_delimiter(sample: list[str], wanted: Collection[str]) -> str:
    """Return the delimiter that finds most wanted columns, then that most rows agree with."""
    known = {normalized(name) for name in wanted}
    scores = {}
    for delimiter in _DELIMITERS:
        records: list[list[str]] = []
        try:
            records += csv.reader(sample, delimiter=delimiter)
        except csv.Error:
            continue
        header, *rows = records
        if len(header) > 1:
            # The last row may go on below the sample.
            widths = [len(row) for row in (rows[:-1] or rows) if any(row)]
            agreeing = widths.count(len(header)) / max(1, len(widths))
            hits = len(known & {normalized(name) for name in header})
            scores[delimiter] = hits, agreeing, len(header)
    return max(scores, key=scores.__getitem__, default=_NONE)


def _explain(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quoted text that begins here is never closed"
    if "field limit" in str(error):
        return f"a field longer than {LONGEST:,} characters (a quote that is never closed?)"
    if "expected after" in str(error):
        return 'text after a closing quote; write a quote inside a text twice, as in "a ""b"""'
    return str(error)
