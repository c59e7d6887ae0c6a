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
    Selection,
    Unreadable,
    as_row,
    normalized,
    place_of,
    select_columns,
)
from tagger.data.readers.text import opened_text
from tagger.errors import UserError

# The longest line in bytes and the longest field in characters. Python's csv module stops at
# 131,072, which real descriptions exceed; without any limit, a quote that is never closed would
# pull the rest of the file into memory.
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
    problems: Problems,
    others: bool,
    *,
    delimiter: str | None,
) -> Iterator[Row]:
    """Yield the rows of a delimited text; see `read_rows`."""
    with opened_text(opened.stream, opened.head, newline="", longest=LONGEST) as lines:
        yield from _rows(lines, wanted, problems, others, delimiter=delimiter)


def delimited_header(opened: Opened, delimiter: str | None) -> list[str]:
    """Return the names of all columns of a delimited text."""
    with opened_text(opened.stream, opened.head, newline="", longest=LONGEST) as lines:
        above, _, records = _records_from_header(lines, (), delimiter)
        try:
            return list(next(records))
        except csv.Error as error:
            raise Unreadable(f"header (line {above + 1}): {_explain(str(error))}") from None


def _rows(
    lines: Iterator[str],
    wanted: Collection[str],
    problems: Problems,
    others: bool,
    *,
    delimiter: str | None,
) -> Iterator[Row]:
    above, used, records = _records_from_header(lines, wanted, delimiter)
    selection: Selection | None = None
    kept: tuple[tuple[int, str], ...] = ()
    width = number = 0
    while True:
        line = above + records.line_num + 1
        try:
            record = next(records)
        except StopIteration:
            break
        except csv.Error as error:
            explained = _explain(str(error))
            if selection is None:
                raise Unreadable(f"header (line {line}): {explained}") from None
            number += 1
            if "expected after" not in str(error):  # then other rows are inside of this one
                raise Unreadable(f"{place_of(number, line)}: {explained}") from None
            problems.add(explained, place_of(number, line))
            continue
        if selection is None:
            selection = select_columns(record, wanted, problems, others, "header")
            if selection is None:
                return
            kept, width = selection.kept, len(record)
            continue
        # The first look is for speed: few rows begin with a blank.
        if not record or not (record[0].strip() or any(map(str.strip, record))):
            problems.skipped += 1
            continue
        number += 1
        if len(record) != width and (len(record) < width or any(map(str.strip, record[width:]))):
            _add_wrong_width(record, width, used, place_of(number, line), problems)
            continue
        values = {name: record[at] for at, name in kept}
        row = as_row(number, line, values, selection.columns, problems)
        if row:
            yield row


def _records_from_header(
    lines: Iterator[str], wanted: Collection[str], delimiter: str | None
) -> tuple[int, str, Any]:
    """Find the header and the delimiter.

    Returns:
        The number of lines above the header, the delimiter, and a `csv.reader` from the header on.
    """
    # The limit belongs to the process; raised only, so that nobody else's setting is cut.
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
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
    return above, used, records


def _find_header(
    lines: Iterator[str], wanted: Collection[str]
) -> tuple[int, list[str], str | None]:
    """Pass over what stands above the header: blank lines, comments, Excel's `sep=;`.

    Returns:
        The number of lines passed over, the header with the lines after it that make a sample, and
        the delimiter that Excel named.
    """
    above = 0
    hint: str | None = None
    for line in lines:
        if above == 0 and (excel := _EXCEL_HINT.fullmatch(line.rstrip("\r\n"))):
            hint = excel[1]
        elif line.strip(",;| \t\r\n") and not _is_comment(line, wanted):
            sample = [line]
            size = len(line)
            while len(sample) < _SAMPLE_LINES and size < _SAMPLE_CHARACTERS:
                following = next(lines, None)
                if following is None:
                    break
                sample.append(following)
                size += len(following)
            return above, sample, hint
        above += 1
    return above, [], hint


def _is_comment(line: str, wanted: Collection[str]) -> bool:
    """Whether a line above the rows is a comment, and no header whose first column is `#`."""
    if not line.startswith("#"):
        return False
    first, *rest = re.split(r"[,;\t|]", line.strip())
    if " " in first.strip():
        return True
    known = {normalized(name) for name in wanted}
    return known.isdisjoint(normalized(name.strip('"')) for name in rest)


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
        header, *rows = [*_records(sample, delimiter)] or [[]]
        if len(header) > 1:
            # The last row may go on below the sample.
            widths = [len(row) for row in (rows[:-1] or rows) if any(row)]
            agreeing = widths.count(len(header)) / max(1, len(widths))
            hits = len(known & {normalized(name) for name in header})
            scores[delimiter] = hits, agreeing, len(header)
    return max(scores, key=scores.__getitem__, default=_NONE)


def _records(sample: list[str], delimiter: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(sample, delimiter=delimiter)
    except csv.Error:
        return


def _add_wrong_width(
    record: list[str], width: int, delimiter: str, place: str, problems: Problems
) -> None:
    if len(record) > width:
        problems.add(
            f"{len(record)} fields, the header has {width} (put texts that hold "
            f"{_named(delimiter)} in double quotes)",
            place,
            kind="too many fields",
        )
    else:
        problems.add(f"{len(record)} fields, the header has {width}", place, kind="too few fields")


def _explain(error: str) -> str:
    if "unexpected end of data" in error:
        return "a quoted text that begins here is never closed"
    if "field limit" in error:
        return f"a field longer than {LONGEST:,} characters (a quote that is never closed?)"
    if "expected after" in error:
        return 'text after a closing quote; write a quote inside a text twice, as in "a ""b"""'
    return error
