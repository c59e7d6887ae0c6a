"""Reads JSON: one object a line, an array of objects, or objects that take several lines each."""

import json
import re
from collections.abc import Collection, Iterator
from itertools import chain, islice
from types import NoneType
from typing import Any

from tagger.data.readers.feeds import listed
from tagger.data.readers.opening import Opened
from tagger.data.readers.rows import HEADER_ROWS, Row, Unreadable, object_rows
from tagger.data.readers.text import read_lines

# The longest line and the longest array in characters: both are held as text.
LONGEST = 2**27

_BLANK = re.compile(r"\s*")
_AFTER = re.compile(r"\s*(,|(?=\]))")


class _Integer(str):
    """An integer, as it is written."""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written, so that a key given twice can be seen."""


# Numbers stay as they are written: 007 is no JSON, but 1.50 and 10^400 are. Only NaN and Infinity,
# which Python writes though they are no JSON, become floats.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Integer, parse_float=str, parse_constant=float
)
_DESCRIBED = {
    _Pairs: "an object", list: "a list", NoneType: "null", float: "NaN or infinite",
}  # fmt: skip


def json_rows(opened: Opened, wanted: Collection[str], others: bool) -> Iterator[Row]:
    """Yield the rows of a JSON text, whatever the ending of its file says; see `read_rows`."""
    return object_rows(
        (
            (one, at)
            for value, at in _values(opened)
            for one in (listed(value) if isinstance(value, _Pairs) else [_explain(value)])
        ),
        wanted,
        others,
        _as_text,
    )


def json_integers(opened: Opened, key: str) -> bool:
    """Whether the first rows of a JSON text have integers, and nothing else, under a key."""
    values = [
        value
        for pairs, _ in islice(_values(opened), HEADER_ROWS)
        if isinstance(pairs, _Pairs)
        for name, value in pairs
        if name == key and value is not None
    ]
    return bool(values) and all(isinstance(value, _Integer) for value in values)


def _values(opened: Opened) -> Iterator[tuple[Any, int | None]]:
    """Yield what should be objects, each with its line; an error for a line that is no JSON."""
    lines = enumerate(read_lines(opened.stream, opened.head, "\n", LONGEST), start=1)
    line, first = next((one for one in lines if one[1].strip()), (1, ""))
    read = [(line, first), *islice(lines, 1)]
    start = first.lstrip()[:1]
    # One object over several lines, unless the next line begins another.
    alone = start == "{" and not (len(read) == 2 and read[1][1].startswith("{"))
    if start != "[" and not (alone and isinstance(_decoded(first), json.JSONDecodeError)):
        yield from ((_decoded(text), at) for at, text in chain(read, lines) if text.strip())
        return
    parts, size = [], 0
    for _, part in chain(read, lines):
        parts.append(part)
        size += len(part)
        if size > LONGEST:
            raise Unreadable(
                f"a JSON array longer than {LONGEST:,} characters; write one object a line: "
                "jq -c '.[]' FILE > NEW.jsonl"
            )
    yield from _document("".join(parts), line)


def _decoded(text: str) -> Any:
    """Return the value of a text, or the error where it is no JSON."""
    try:
        return _DECODER.decode(text)
    except (json.JSONDecodeError, RecursionError) as error:
        return error


def _document(text: str, line: int) -> Iterator[tuple[Any, int]]:
    """Yield the values of an array, or values that stand one after the other, with their lines.

    Args:
        text: All of it.
        line: The number of its first line.

    Raises:
        Unreadable: for what is no JSON.
    """
    at = counted = 0
    inside = text.lstrip().startswith("[")
    if inside:
        at = text.index("[") + 1
    while True:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
        line += text.count("\n", counted, at)
        counted = at
        if at == len(text):
            break
        if inside and text[at] == "]":
            inside, at = False, at + 1
            continue
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            raise Unreadable(f"line {line}: {_explain(error)}") from None
        yield value, line
        if inside:
            after = _AFTER.match(text, at)
            if after is None:
                raise Unreadable(
                    f"line {line}: a comma or ] was expected after this value; the file may be "
                    "cut off"
                )
            at = after.end()
    if inside:
        raise Unreadable(f"line {line}: the array is never closed: the file was cut off")


def _explain(found: object) -> str:
    """Say what there is instead of an object."""
    if isinstance(found, json.JSONDecodeError):
        return f"not JSON at character {found.colno}: {found.msg}"
    if isinstance(found, RecursionError):
        return "nested too deeply"
    return f"found {_DESCRIBED.get(type(found), 'text or a number')}, expected an object"


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    raise TypeError(_DESCRIBED[type(value)])
