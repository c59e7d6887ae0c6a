"""Turns rows of text into items, and reports everything that stands in the way."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tagger.data.items import FIELDS, Item
from tagger.data.problems import Problems, did_you_mean
from tagger.data.readers import Row

# Electronic publication is younger than this; an older date is a typing error or an empty one
# (1970-01-01, 1900-01-01) in disguise.
EARLIEST_YEAR = 1990
# Clocks and time zones differ: a moment up to this far ahead is not yet a mistake.
FUTURE_TOLERANCE = timedelta(days=1)
TEXT_FIELDS = ("title", "description")


def labelled_items(
    rows: Iterable[Row],
    columns: Mapping[str, str],
    tag_names: Sequence[str],
    problems: Problems,
    complete: bool = True,
) -> list[Item]:
    """Return tagged items; rows with a problem are left out and reported.

    Args:
        rows: What a reader yields.
        columns: The source's column by our field name, where the two differ.
        tag_names: The approved tags.
        problems: Where problems are added.
        complete: Whether all `FIELDS` must be there, with a date in each row. If not, a tag, an id
            and one of title and description will do.
    """
    checked = checked_rows(
        rows,
        columns,
        tag_names,
        problems,
        needed_columns=FIELDS if complete else (),
        needed_values=("id", "created_on", "tag") if complete else ("id", "tag"),
    )
    return [item for _, item in checked]


def checked_rows(
    rows: Iterable[Row],
    columns: Mapping[str, str],
    tag_names: Sequence[str],
    problems: Problems,
    *,
    needed_columns: Collection[str],
    needed_values: Collection[str],
) -> Iterator[tuple[Row, Item]]:
    """Yield each row with its item; rows with a problem are left out and reported.

    Args:
        rows: What a reader yields.
        columns: The source's column by our field name, where the two differ.
        tag_names: The approved tags.
        problems: Where problems are added.
        needed_columns: Fields that the file must have. One of title and description is needed in
            any case.
        needed_values: Fields that every row must fill.
    """
    latest = datetime.now(UTC).replace(tzinfo=None) + FUTURE_TOLERANCE
    checker = _Checker(
        {field: columns.get(field, field) for field in FIELDS},
        needed_columns=needed_columns,
        needed_values=needed_values,
        problems=problems,
        renaming="give its name: data.columns='{{{field}: NAME}}'",
    )
    first_place: dict[str, str] = {}
    for row in rows:
        before = problems.count
        values = checker.take(row)
        if values is None:
            continue
        identifier, tag = values["id"], values["tag"]
        first = first_place.setdefault(identifier, row.place)
        if first != row.place:
            problems.add(f"{row.place}: the id {identifier!r} is already that of {first}")
        if (tag or "tag" in needed_values) and tag not in tag_names:
            problems.add(
                f"{row.place}: {tag!r} is no approved tag{did_you_mean(tag, tag_names)}; "
                f"approved are {', '.join(tag_names)}"
            )
        created_on = None
        if values["created_on"]:
            try:
                created_on = parse_moment(values["created_on"], latest)
            except ValueError as error:
                problems.add(f"{row.place}: created_on {error}")
        if problems.count == before:
            yield (
                row,
                Item(identifier, values["title"], values["description"], created_on, tag or None),
            )
    checker.finish()


def unlabelled_items(rows: Iterable[Row], problems: Problems) -> Iterator[Item]:
    """Yield items to classify: an id, and a title or a description; nothing else is looked at."""
    checker = _Checker(
        {field: field for field in ("id", *TEXT_FIELDS)},
        needed_columns=(),
        needed_values=("id",),
        problems=problems,
        renaming="rename the one that holds it",
    )
    for row in rows:
        values = checker.take(row)
        if values is not None:
            yield Item(values["id"], values["title"], values["description"])
    checker.finish()


def parse_moment(text: str, latest: datetime) -> datetime:
    """Read an ISO 8601 date or moment; one with a zone is converted, one without is in UTC.

    Args:
        text: Such as 2020-02-20, 2020-02-20 06:43:18 or 2020-02-20T06:43:18+01:00.
        latest: In UTC, without a zone; what lies after it cannot have been published.

    Raises:
        ValueError: saying what was found and what was expected.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        reason = "" if "isoformat" in str(error) else f" ({error})"
        raise ValueError(
            f"is {text[:60]!r}, not a date{reason}; expected 2020-02-20 or 2020-02-20 06:43:18"
        ) from None
    if moment.year < EARLIEST_YEAR:
        raise ValueError(f"is {text!r}, expected {EARLIEST_YEAR} or later")
    if moment > latest:
        raise ValueError(f"is {text!r}, which lies in the future")
    return moment


class _Checker:
    """Takes our fields out of rows and sees to it that those which are needed are there.

    In JSON Lines any row may leave a key out. Only after the last row is it known whether rows
    lack a value or the file lacks a column, so such problems wait for `finish`.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        needed_columns: Collection[str],
        needed_values: Collection[str],
        problems: Problems,
        renaming: str,
    ) -> None:
        self._columns = columns
        self._needed_columns = needed_columns
        self._needed_values = needed_values
        self._problems = problems
        self._renaming = renaming
        self._seen: set[str] = set()
        self._found: Collection[str] | None = None
        self._absent: dict[str, Problems] = {field: Problems() for field in needed_values}
        self._textless = Problems()

    def take(self, row: Row) -> dict[str, str] | None:
        """Return the row's fields, stripped, "" for missing ones; None if a needed one is."""
        if self._found is None:
            self._found = row.columns
        values = {}
        for field, column in self._columns.items():
            if column in row.values:
                self._seen.add(field)
            values[field] = (row.values.get(column) or "").strip()
        usable = True
        for field in self._needed_values:
            if not values[field]:
                usable = False
                there = self._columns[field] in row.values
                where = self._problems if there else self._absent[field]
                where.add(f"{row.place}: {field} is {'empty' if there else 'missing'}")
        if not any(values[field] for field in TEXT_FIELDS):
            usable = False
            there = any(self._columns[field] in row.values for field in TEXT_FIELDS)
            where = self._problems if there else self._textless
            where.add(f"{row.place}: title and description are both blank")
        return values if usable else None

    def finish(self) -> None:
        """Report missing columns, and the values that were missing in some rows only."""
        if self._found is None:
            return
        for field, column in self._columns.items():
            if field in self._seen:
                self._problems.extend(self._absent.get(field, Problems()))
            elif field in self._needed_columns or field in self._needed_values:
                self._problems.add(self._describe_missing(field, column))
        if self._seen.isdisjoint(TEXT_FIELDS):
            if "title" not in self._needed_columns:  # else it is reported already
                self._problems.add(self._describe_missing("title", self._columns["title"]))
        else:
            self._problems.extend(self._textless)

    def _describe_missing(self, field: str, column: str) -> str:
        found = list(self._found or ())
        if len(found) == 1:
            for separator, name in ((";", "semicolons"), ("\t", "tabs")):
                if separator in found[0]:
                    return f"no column {column!r}: {name} divide the columns, commas were expected"
        names = ", ".join(repr(name)[:60] for name in found[:20]) or "none"
        return (
            f"no column {column!r}{did_you_mean(column, found)}: found {names}; "
            + self._renaming.format(field=field)
        )
