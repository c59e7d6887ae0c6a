"""Defines what all readers hand on, and which columns of a table they take."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tagger.data.problems import Problems


class Unreadable(Exception):
    """Says in words for its user why a table cannot be read, or not be read on."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as text.

    Args:
        number: 1 for the first row of the table that is not blank.
        line: Where it begins in a text file, 1 for the first line; None for other sources.
        values: Value by wanted column; None for null. A column that is not there has no key.
        columns: Every named column that the file (JSON: this row) has. One that was taken for a
            wanted column has the name that was wanted.
    """

    number: int
    line: int | None
    values: Mapping[str, str | None]
    columns: Collection[str]

    @property
    def place(self) -> str:
        """Say where the row is: "row 3 (line 4)"."""
        return place_of(self.number, self.line)


def place_of(number: int, line: int | None) -> str:
    """Say where a row is: "row 3 (line 4)"."""
    return f"row {number}" if line is None else f"row {number} (line {line})"


@dataclass(frozen=True)
class Selection:
    """The columns that are read: position in the table and name by which a row has the value."""

    kept: tuple[tuple[int, str], ...]
    columns: tuple[str, ...]


def select_columns(
    names: Sequence[str],
    wanted: Collection[str],
    problems: Problems,
    others: bool = False,
    place: str = "",
) -> Selection | None:
    """Find the wanted columns among a table's names.

    A wanted name is matched exactly; else the one column is taken that differs in case, in Unicode
    form or in spaces alone. Columns without a name, and repeated ones that nobody wants, are passed
    over.

    Args:
        names: All column names, in order.
        wanted: The names to find.
        problems: Where it is noted that two columns could be meant.
        others: Whether to select the other columns too.
        place: Where the names stand.

    Returns:
        None where a wanted column is ambiguous.
    """
    before = problems.count
    positions: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        positions.setdefault(name, []).append(at)
    taken: dict[int, str] = {}
    for name in sorted(wanted):
        if len(exact := positions.get(name, [])) > 1:
            problems.add(f"the column {name!r} is there {len(exact)} times; rename one", place)
        elif exact:
            taken[exact[0]] = name
    missing = sorted(set(wanted) - positions.keys())
    if missing:
        loose: dict[str, list[int]] = {}
        for at, name in enumerate(names):
            if name not in wanted:
                loose.setdefault(normalized(name), []).append(at)
        for name in missing:
            alike = loose.get(normalized(name), [])
            if len(alike) > 1:
                both = " and ".join(repr(names[at]) for at in alike)
                problems.add(f"{both} could both be the column {name!r}; rename one", place)
            elif alike:
                taken.setdefault(alike[0], name)
    if problems.count > before:
        return None
    kept = dict(taken)
    if others:
        used = set(taken.values())
        for name, found in positions.items():
            if len(found) == 1 and name.strip() and name not in used:
                kept.setdefault(found[0], name)
    columns = dict.fromkeys(taken.get(at, name) for at, name in enumerate(names))
    return Selection(tuple(sorted(kept.items())), tuple(name for name in columns if name.strip()))


def normalized(name: str) -> str:
    """Return what a column's name is without regard to case, spaces and Unicode form."""
    plain = unicodedata.normalize("NFC", name.replace("\ufeff", "").replace("\u200b", ""))
    return " ".join(plain.split()).casefold()


def as_row(
    number: int,
    line: int | None,
    values: Mapping[str, str | None],
    columns: Collection[str],
    problems: Problems,
) -> Row | None:
    """Return a row, or None, with a problem noted, if a value holds what no text may hold.

    Later steps cannot store a NUL byte or half a surrogate pair.
    """
    for name, value in values.items():
        if value is None:
            continue
        if "\0" in value:
            problems.add(f"`{name}` holds a NUL byte", place_of(number, line))
            return None
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                problems.add(f"`{name}` holds half a surrogate pair", place_of(number, line))
                return None
    return Row(number, line, values, columns)
