"""A file as an audit sees it: the rows that can be used, and what is wrong with the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagger.data.items import FIELDS, Item
from tagger.data.problems import Problems
from tagger.data.readers import read_rows
from tagger.data.sources import data_sha256
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
    """

    path: Path
    items: list[Item]
    places: list[str]
    columns: dict[str, list[str]]
    problems: Problems

    @property
    def version(self) -> str:
        """SHA-256 over the items: what a run states as its data, and what a decision changes."""
        return data_sha256(self.items)


def read_table(path: Path, tag_names: Sequence[str]) -> Table:
    """Read a CSV, JSON Lines or Parquet file with whatever columns it has.

    Needed are `id` and one of `title` and `description`; `created_on`, `tag` and any others are
    used where they are.

    Raises:
        UserError: when the file cannot be opened, or no row of it can be used.
    """
    problems = Problems()
    items: list[Item] = []
    places: list[str] = []
    values: list[dict[str, str]] = []
    rows = read_rows(path, FIELDS, problems, others=True)
    checked = checked_rows(
        rows, {}, tag_names, problems, needed_columns=("id",), needed_values=("id",)
    )
    for row, item in checked:
        items.append(item)
        places.append(row.place)
        values.append({k: (v or "").strip() for k, v in row.values.items() if k not in FIELDS})
    if not items:
        problems.raise_if_any(f"{path} has no row that can be audited:")
        raise UserError(f"{path} has no row that can be audited")
    names = dict.fromkeys(name for row_values in values for name in row_values)
    columns = {name: [row_values.get(name, "") for row_values in values] for name in names}
    return Table(path, items, places, columns, problems)
