"""Defines the rows that all readers yield, and selects the columns of a table."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tagger.data.problems import Problems

HEADER_ROWS = 100
"""So many rows tell the columns of a table whose rows may differ in them."""


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
        problem: Why it could not be read; "" for all rows but those of `with_broken`.
    """

    number: int
    line: int | None
    values: Mapping[str, str | None]
    columns: Collection[str]
    problem: str = ""

    @property
    def place(self) -> str:
        """Say where the row is: "row 3 (line 4)"."""
        return place_of(self.number, self.line)


_PLACE = re.compile(r"row (\d+)(?: \(line (\d+)\))?")
"""What `place_of` returns."""


def place_of(number: int, line: int | None) -> str:
    """Say where a row is: "row 3 (line 4)"."""
    return f"row {number}" if line is None else f"row {number} (line {line})"


def with_broken(read: Callable[[Problems], Iterator[Row]], problems: Problems) -> Iterator[Row]:
    """Yield all rows of a table, those too that cannot be read but can be passed over.

    Args:
        read: Reads the table; called with where to add problems.
        problems: Where those are added that end the reading. What is wrong with a single row is
            its `problem`; such a row has no values.
    """
    noted = _RowProblems(problems)
    for row in read(noted):
        yield from noted.take()
        yield row
    yield from noted.take()
    problems.skipped += noted.skipped


class _RowProblems(Problems):
    """Keeps problems of rows until they are taken, and hands on all others."""

    def __init__(self, others: Problems) -> None:
        super().__init__()
        self._others = others
        self._rows: dict[str, str] = {}

    def add(self, problem: str, place: str = "", kind: str = "") -> None:
        """Note a problem; those of one row become one."""
        self.count += 1
        if _PLACE.fullmatch(place):
            before = self._rows.get(place)
            self._rows[place] = f"{before}; {problem}" if before else problem
        else:
            self._others.add(problem, place, kind)

    def take(self) -> Iterator[Row]:
        """Yield the rows with a problem since the last call."""
        for place, problem in self._rows.items():
            found = _PLACE.fullmatch(place)
            assert found is not None  # as `add` saw to it
            line = int(found[2]) if found[2] else None
            yield Row(int(found[1]), line, {}, (), f"{place}: {problem}")
        self._rows.clear()


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
    plain = unicodedata.normalize("NFKC", name.replace("\ufeff", "").replace("\u200b", ""))
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
