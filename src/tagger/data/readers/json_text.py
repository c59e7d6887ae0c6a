"""Reads JSON: one object a line, an array of objects, or an object that holds such an array."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TextIO

from tagger.data.problems import Problems
from tagger.data.readers.opening import Opened
from tagger.data.readers.rows import (
    HEADER_ROWS,
    Row,
    Selection,
    Unreadable,
    as_row,
    place_of,
    select_columns,
)
from tagger.data.readers.text import opened_text

# The longest line in bytes, and the longest array in characters: it is held as text.
LONGEST = 2**27
_REMEMBERED = 100


class _Integer(str):
    """An integer, as it is written."""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written, so that a key given twice can be seen."""


@dataclass(frozen=True)
class _Constant:
    """NaN or Infinity, which Python writes though they are no JSON."""

    name: str


def _decoder() -> json.JSONDecoder:
    # Numbers stay as they are written: 007 is no JSON, but 1.50 and 10^400 are.
    return json.JSONDecoder(
        object_pairs_hook=_Pairs, parse_int=_Integer, parse_float=str, parse_constant=_Constant
    )


@dataclass(frozen=True)
class _Value:
    """A JSON value and where it is; `error` says why there is none, `last` that none follows."""

    value: Any
    line: int | None
    error: str = ""
    last: bool = False


def json_rows(
    opened: Opened,
    wanted: Collection[str],
    problems: Problems,
    others: bool,
) -> Iterator[Row]:
    """Yield the rows of a JSON text, whatever the ending of its file says; see `read_rows`."""
    rows = _Rows(wanted, problems, others)
    with opened_text(opened.stream, opened.head, newline="\n", longest=LONGEST) as text:
        for number, one in enumerate(_values(text, wanted), start=1):
            if one.last:
                raise Unreadable(f"{place_of(number, one.line)}: {one.error}")
            if one.error:
                problems.add(one.error, place_of(number, one.line), kind="not JSON")
            elif not isinstance(one.value, _Pairs):
                found = _describe(one.value)
                problems.add(f"found {found}, expected an object", place_of(number, one.line))
            elif row := rows.take(one.value, number, one.line):
                yield row


def json_integers(opened: Opened, key: str) -> bool:
    """Whether the first rows of a JSON text have integers, and nothing else, under a key."""
    with opened_text(opened.stream, opened.head, newline="\n", longest=LONGEST) as text:
        first = [one.value for one in islice(_values(text, (key,)), HEADER_ROWS)]
    values = [
        value
        for pairs in first
        if isinstance(pairs, _Pairs)
        for name, value in pairs
        if name == key and value is not None
    ]
    return bool(values) and all(isinstance(value, _Integer) for value in values)


class _Rows:
    """Makes rows of objects. Their keys may differ, though most have those of the one before."""

    def __init__(self, wanted: Collection[str], problems: Problems, others: bool) -> None:
        self._wanted = wanted
        self._problems = problems
        self._others = others
        self._selections: dict[Sequence[str], Selection] = {}

    def take(self, pairs: _Pairs, number: int, line: int | None) -> Row | None:
        keys, found = zip(*pairs, strict=True) if pairs else ((), ())
        selection = self._selections.get(keys)
        if selection is None:
            place = place_of(number, line)
            selection = select_columns(keys, self._wanted, self._problems, self._others, place)
            if selection is None:
                return None
            if len(self._selections) < _REMEMBERED:
                self._selections[keys] = selection
        values: dict[str, str | None] = {}
        wrong = False
        for at, name in selection.kept:
            value = found[at]
            if value is None or isinstance(value, str):
                values[name] = value
            elif isinstance(value, bool):
                values[name] = str(value).lower()
            elif name in self._wanted:
                wrong = True
                what = f"`{name}` is {_describe(value)}, expected text"
                self._problems.add(what, place_of(number, line))
        if wrong:
            return None
        return as_row(number, line, values, selection.columns, self._problems)


def _values(text: TextIO, wanted: Collection[str]) -> Iterator[_Value]:
    """Yield what should be objects; an array and an object around an array are opened."""
    lines = enumerate(text, start=1)
    line, first = next((one for one in lines if one[1].strip()), (0, ""))
    start = first.lstrip()[:1]
    if start == "[":
        yield from _document(first + _rest(text), line)
        return
    read = [(line, first)]
    if start == "{" and not _is_json(first):
        # One object over several lines, unless the next line begins another.
        read += [*islice(lines, 1)]
        if len(read) == 2 and not read[1][1].startswith("{"):
            yield from _opened(_document(first + read[1][1] + _rest(text), line), wanted)
            return
    yield from _opened(_lines(chain(read, lines)), wanted)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return True  # and is refused as such later
    except ValueError as error:
        return not isinstance(error, json.JSONDecodeError)
    return True


def _rest(text: TextIO) -> str:
    rest = text.read(LONGEST)
    if len(rest) == LONGEST:
        raise Unreadable(
            f"a JSON array longer than {LONGEST:,} characters; write one object a line: "
            "jq -c '.[]' FILE > NEW.jsonl"
        )
    return rest


def _lines(lines: Iterable[tuple[int, str]]) -> Iterator[_Value]:
    decode = _decoder().decode
    for line, text in lines:
        if not text.strip():
            continue
        try:
            yield _Value(decode(text), line)
        except (ValueError, RecursionError) as error:
            yield _Value(None, line, _explain(error))


def _document(text: str, line: int) -> Iterator[_Value]:
    """Yield the objects of a text one after the other; those of arrays on the first level too.

    Args:
        text: All of it.
        line: The number of its first line.
    """
    decoder = _decoder()
    at, counted, inside, comma = 0, 0, False, False
    while True:
        while text[at : at + 1].isspace():
            at += 1
        line += text.count("\n", counted, at)
        counted = at
        char = text[at : at + 1]
        if not char:
            if inside:
                cut = "the array is never closed: the file was cut off"
                yield _Value(None, line, cut, last=True)
            return
        if not inside and char == "[":
            inside, comma, at = True, False, at + 1
        elif inside and char == "]":
            inside, at = False, at + 1
        elif comma and char == ",":
            comma, at = False, at + 1
        elif comma:
            yield _Value(None, line, "not JSON: a comma or ] was expected here", last=True)
            return
        else:
            try:
                value, at = decoder.raw_decode(text, at)
            except (ValueError, RecursionError) as error:
                yield _Value(None, line, _explain(error), last=True)
                return
            yield _Value(value, line)
            comma = inside


def _opened(values: Iterator[_Value], wanted: Collection[str]) -> Iterator[_Value]:
    """Yield the objects of the array in a lone object that has no wanted key, else the values."""
    first = [*islice(values, 2)]
    if len(first) == 1 and isinstance(first[0].value, _Pairs):
        pairs = first[0].value
        arrays = [value for _, value in pairs if _holds_objects(value)]
        selection = select_columns([key for key, _ in pairs], wanted, Problems())
        if len(arrays) == 1 and selection and not selection.kept:
            yield from (_Value(value, None) for value in arrays[0])
            return
    yield from chain(first, values)


def _holds_objects(value: object) -> bool:
    # An object is a list too: of pairs.
    return (
        isinstance(value, list)
        and not isinstance(value, _Pairs)
        and bool(value)
        and all(isinstance(one, _Pairs) for one in value)
    )


def _explain(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON at character {error.colno}: {error.msg}"
    return "nested too deeply" if isinstance(error, RecursionError) else f"not JSON: {error}"


def _describe(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, _Constant):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, _Pairs):
        return "an object"
    return "a list" if isinstance(value, list) else "text or a number"
