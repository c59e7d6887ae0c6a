"""Defines the rows that all readers yield, and selects the columns of a table."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tagger.data.problems import Problems

HEADER_ROWS = 100
"""So many rows tell the columns of a table whose rows may differ in them."""


class Unreadable(Exception):
    """Says for the user why a table cannot be read on; each argument is a reason."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as text.

    Args:
        number: 1 for the first row of the table that is not blank.
        line: Where it begins in a text file, 1 for the first line; None for other sources.
        values: Value by wanted column; None for null. A column that is not there has no key.
        columns: Every named column that the file (JSON: this row) has. One that was taken for a
            wanted column has the name that was wanted.
        problem: Why it could not be read; "" for a row that could.
        kind: What such problems have in common that are told together; see `Problems.add`.
    """

    number: int
    line: int | None
    values: Mapping[str, str | None]
    columns: Collection[str]
    problem: str = ""
    kind: str = ""

    @property
    def place(self) -> str:
        """Say where the row is: "row 3 (line 4)"."""
        return place_of(self.number, self.line)


def place_of(number: int, line: int | None) -> str:
    """Say where a row is: "row 3 (line 4)"."""
    return f"row {number}" if line is None else f"row {number} (line {line})"


def broken_row(number: int, line: int | None, problem: str, kind: str = "") -> Row:
    """Return a row that could not be read."""
    return Row(number, line, {}, (), problem, kind)


def text_row(
    number: int, line: int | None, values: Mapping[str, str | None], columns: Collection[str]
) -> Row:
    """Return a row; a broken one if a value holds what later steps cannot store."""
    for name, value in values.items():
        if value is None:
            continue
        if "\0" in value:
            return broken_row(number, line, f"`{name}` holds a NUL byte")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return broken_row(number, line, f"`{name}` holds half a surrogate pair")
    return Row(number, line, values, columns)


@contextmanager
def noting(problems: Problems) -> Iterator[None]:
    """Add to the problems why a table cannot be read, or not be read on."""
    try:
        yield
    except Unreadable as error:
        for reason in error.args:
            problems.add(reason)


def readable_rows(rows: Iterable[Row], problems: Problems, broken: bool) -> Iterator[Row]:
    """Yield the rows that could be read.

    Args:
        rows: What a reader yields.
        problems: Where the others are reported.
        broken: Whether to yield the others too, with their place in their `problem`, and not to
            report them.
    """
    for row in rows:
        if not row.problem:
            yield row
        elif broken:
            yield replace(row, problem=f"{row.place}: {row.problem}")
        else:
            problems.add(row.problem, row.place, row.kind)


def select_columns(
    names: Sequence[str], wanted: Collection[str], others: bool = False
) -> tuple[list[tuple[int, str]], list[str]]:
    """Find the wanted columns among a table's names.

    A wanted name is matched exactly; else the one column is taken that differs in case, in Unicode
    form or in spaces alone. Columns without a name, and repeated ones that nobody wants, are passed
    over.

    Args:
        names: All column names, in order.
        wanted: The names to find.
        others: Whether to select the other columns too.

    Returns:
        The columns to read, by position in the table and name by which a row has the value; and
        the names of all columns.

    Raises:
        Unreadable: where two columns could be meant.
    """
    exact: dict[str, list[int]] = defaultdict(list)
    alike: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(names):
        exact[name].append(at)
        if name not in wanted:
            alike[normalized(name)].append(at)
    taken: dict[int, str] = {}
    unclear = []
    for name in sorted(wanted):
        found = exact.get(name) or alike.get(normalized(name), [])
        if len(found) == 1:
            taken.setdefault(found[0], name)
        elif name in exact:
            unclear.append(f"the column {name!r} is there {len(found)} times; rename one")
        elif found:
            both = " and ".join(repr(names[at]) for at in found)
            unclear.append(f"{both} could both be the column {name!r}; rename one")
    if unclear:
        raise Unreadable(*unclear)
    kept = dict(taken)
    if others:
        for name, found in exact.items():
            if len(found) == 1 and name.strip() and name not in taken.values():
                kept.setdefault(found[0], name)
    columns = dict.fromkeys(taken.get(at, name) for at, name in enumerate(names))
    return sorted(kept.items()), [name for name in columns if name.strip()]


def object_rows(
    objects: Iterable[tuple[Any, int | None]],
    wanted: Collection[str],
    others: bool,
    as_text: Callable[[Any], str | None],
) -> Iterator[Row]:
    """Yield the rows of objects, whose keys may differ.

    Args:
        objects: For each its pairs of key and value, or words for what is there instead of an
            object; and its line.
        wanted: The columns to read.
        others: Whether to hand on other plain values too.
        as_text: Returns a value as text; raises a TypeError that names what cannot be text.
    """
    last = None  # most have the keys of the one before
    for number, (pairs, line) in enumerate(objects, start=1):
        if isinstance(pairs, str):
            yield broken_row(number, line, pairs, "no object")
            continue
        keys = [str(key) for key, _ in pairs]
        if keys != last:
            try:
                kept, columns = select_columns(keys, wanted, others)
            except Unreadable as error:
                yield broken_row(number, line, "; ".join(error.args))
                continue
            last = keys
        values = {}
        wrong = []
        for at, name in kept:
            try:
                values[name] = as_text(pairs[at][1])
            except TypeError as error:
                if name in wanted:
                    wrong.append(f"`{name}` is {error}, expected text")
        if wrong:
            yield broken_row(number, line, "; ".join(wrong))
        else:
            yield text_row(number, line, values, columns)


def normalized(name: str) -> str:
    """Return what a column's name is without regard to case, spaces and Unicode form."""
    plain = unicodedata.normalize("NFKC", name.replace("\ufeff", "").replace("\u200b", ""))
    return " ".join(plain.split()).casefold()
