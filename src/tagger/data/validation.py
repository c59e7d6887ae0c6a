"""Turns rows of text into items, and reports every row that can't be used."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping

from tagger.data.columns import INCLUSION, TEXT_FIELDS, WEIGHT, TableFormat
from tagger.data.dates import UnclearOrder, parse_moment
from tagger.data.guards import unguard
from tagger.data.items import FIELDS, Item
from tagger.data.problems import Problems, did_you_mean
from tagger.data.readers import Row
from tagger.data.tags import list_tags, tag_name

# What a user gives to leave a field out.
NO_IDS = '{id: ""}'
NO_DATES = '{created_on: ""}'


def checked_rows(
    rows: Iterable[Row],
    columns: Mapping[str, str],
    tags: Collection[str] | None,
    problems: Problems,
    *,
    tag_needed: bool,
    how: TableFormat,
) -> Iterator[tuple[Row, Item]]:
    """Yield each row with its item; rows with a problem are left out and reported.

    Args:
        rows: What a reader yields.
        columns: The table's column by our field name, for the fields that it has. A row's number
            is its id where there is no column of ids.
        tags: The approved tags; None: any that can be a tag.
        problems: Where problems are added.
        tag_needed: Whether every row must have a tag.
        how: What the user said of the table, and how the command takes it.
    """
    first_place: dict[str, str] = {}
    numbering = how.mend("columns", NO_IDS, "numbers the rows instead")
    for row in rows:
        before = problems.count
        values = _values_of(row, columns)
        if not any(values[field] for field in TEXT_FIELDS):
            problems.add(f"no text: {describe_blank(columns)}", row.place)
        identifier = values["id"]
        first = first_place.setdefault(identifier, row.place)
        if not identifier:
            problems.add(f"the id is blank{numbering}", row.place)
        elif first != row.place:
            told = f"the id {identifier!r} is already that of {first}{numbering}"
            problems.add(told, row.place, kind="id twice")
        tag = None
        if values["tag"]:
            try:
                tag = tag_name(values["tag"])
            except ValueError as error:
                problems.add(f"the tag {values['tag'][:60]!r} {error}", row.place, kind="tag")
            if tag is not None and tags is not None and tag not in tags:
                problems.add(
                    f"{tag!r} is none of the {len(tags)} tags{did_you_mean(tag, tags)}: "
                    f"{list_tags(list(tags))}",
                    row.place,
                )
        elif tag_needed:
            problems.add(
                f"no tag: the column {columns['tag']!r} is blank; fill it in, or leave these rows "
                "out",
                row.place,
            )
        created_on = None
        if values["created_on"]:
            try:
                created_on = parse_moment(values["created_on"], how.dates)
            except ValueError as error:
                mend = how.mend("columns", NO_DATES, "leaves the dates out")
                if isinstance(error, UnclearOrder):
                    mend = (
                        how.mend("dates", "day-first", "reads 03/02/2020 as 3 February")
                        + how.mend("dates", "month-first", "as 2 March")
                        + mend
                    )
                problems.add(f"created_on {error}{mend}", row.place, kind=type(error).__name__)
        weight = 1.0
        if WEIGHT in columns:
            written = (row.values.get(columns[WEIGHT]) or "").strip()
            try:
                weight = float(written)
            except ValueError:
                weight = math.nan
            if not 0 < weight < math.inf:
                problems.add(
                    f"the weight {written[:60]!r} is no number above 0", row.place, kind="weight"
                )
        if problems.count == before:
            title, description = values["title"], values["description"]
            yield row, Item(identifier, title, description, created_on, tag, weight=weight)


def item_of(row: Row, columns: Mapping[str, str]) -> Item:
    """Return the id and the texts of a row; the id as it is written, or else the row's number."""
    values = _values_of(row, columns)
    written = row.values.get(columns["id"]) or "" if "id" in columns else values["id"]
    return Item(written, values["title"], values["description"])


def describe_blank(columns: Mapping[str, str]) -> str:
    """Say which columns are blank in a row without a text."""
    names = [repr(columns[field]) for field in TEXT_FIELDS if field in columns]
    verb = "is" if len(names) == 1 else "are"
    return f"{' and '.join(names)} {verb} blank"


def _values_of(row: Row, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the row's fields, stripped, "" for those that are missing."""
    guarded = INCLUSION in row.columns
    values = dict.fromkeys(FIELDS, "")
    for field in FIELDS:
        if field in columns and (value := row.values.get(columns[field])):
            values[field] = (unguard(value) if guarded else value).strip()
    if "id" not in columns:
        values["id"] = str(row.number)
    return values
