"""Reads a file for an audit: its usable rows, and the problems of the others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.data.columns import TEXT, UNSAID, TableFormat
from tagger.data.items import Item
from tagger.data.problems import Problems
from tagger.data.sources import data_sha256, open_file
from tagger.data.tags import odd_tags
from tagger.data.validation import checked_rows
from tagger.errors import UserError


@dataclass(frozen=True)
class Table:
    """The usable rows of one file.

    Attributes:
        path: The file.
        items: Its items, in order; the tag of an unlabelled one is None.
        places: Where each stands: "row 3 (line 4)".
        columns: Values of the file's other columns, each as long as `items`, "" for missing ones.
        problems: What keeps the rest from being used.
        tags: The approved tags; those that its rows have, where none were given.
        fields: Its column by our field name.
        notes: What the user should know of it, a sentence each.
    """

    path: Path
    items: list[Item]
    places: list[str]
    columns: dict[str, list[str]]
    problems: Problems
    tags: list[str]
    fields: dict[str, str]
    notes: list[str]

    @property
    def version(self) -> str:
        """SHA-256 over the items: what a run states as its data, and what a decision changes."""
        return data_sha256(self.items)


def read_table(path: Path, tags: Sequence[str] | None, how: TableFormat = UNSAID) -> Table:
    """Read a table with whatever columns it has.

    A text is needed; ids, dates, tags and any other columns are used where they are.

    Args:
        path: Of the file.
        tags: The approved tags; None: those that its rows have.
        how: How to read it.

    Raises:
        UserError: when the file cannot be opened, or no row of it can be used.
    """
    problems = Problems()
    items: list[Item] = []
    places: list[str] = []
    values: list[dict[str, str]] = []
    source = open_file(path, how.delimiter)
    found, notes = source.find(how, (TEXT,))
    rows = source.rows([*found.values()], problems, others=True)
    for row, item in checked_rows(rows, found, tags, problems, tag_needed=False, how=how):
        items.append(item)
        places.append(row.place)
        own = {k: (v or "").strip() for k, v in row.values.items() if k not in found.values()}
        values.append(own)
    if not items:
        problems.raise_if_any(f"{path} has no row that can be audited:")
        raise UserError(f"{path} has no row that can be audited")
    others = dict.fromkeys(name for row_values in values for name in row_values)
    columns = {name: [row_values.get(name, "") for row_values in values] for name in others}
    counts = Counter(item.tag for item in items if item.tag is not None)
    names = sorted(counts) if tags is None else list(tags)
    return Table(
        path, items, places, columns, problems, names, found, notes + odd_tags(names, counts)
    )
