"""Loads labelled items from a file, a folder of `datasets`, the hub, a download, or Python.

Local files are read by `tagger.data.readers` and not by `datasets.load_dataset`, because the
latter infers types: an id `007` would turn into the number 7, a title `NA` into a missing value, a
short row into one padded with nothing, and a broken file into a message without a row number. Hub
datasets have a schema already and are read by `datasets`.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.config.schema import DataConfig
from tagger.data.columns import (
    SAMPLE_ROWS,
    TEXT,
    UNSAID,
    TableFormat,
    find_columns,
    spell_columns,
)
from tagger.data.download import download
from tagger.data.items import Item
from tagger.data.problems import Problems, did_you_mean
from tagger.data.readers import Row, read_header, read_rows, table_header, table_rows
from tagger.data.tags import load_tags, odd_tags
from tagger.data.validation import checked_rows, describe_blank, item_of
from tagger.errors import UserError, first_line
from tagger.files import resolve_path

if TYPE_CHECKING:
    from datasets import Dataset

AUTO = "auto"

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PART_NAMES = {
    "train": TRAIN, "training": TRAIN,
    "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
"""What people call the parts of a data set, in small letters."""


@dataclass(frozen=True)
class Labelled:
    """Items that people gave a tag, with what is known of the table they are from.

    Attributes:
        items: In the order of the source; those of a test file come last.
        tags: The approved tags, in the order of the list; of `auto` the data's own, sorted.
        parts: Which part each item is in, where the source says so; else None.
        columns: The table's column by our field name.
        notes: What the user should know, a sentence each: columns that were guessed, rows that
            were skipped, tags that look like slips.
    """

    items: list[Item]
    tags: list[str]
    parts: list[str] | None
    columns: dict[str, str]
    notes: list[str]


@dataclass(frozen=True)
class Table:
    """A table that can be read more than once, wherever it is.

    Attributes:
        name: What messages call it.
        header: The names of its columns.
        rows: `tagger.data.readers.read_rows` of this table.
    """

    name: str
    header: Sequence[str]
    rows: Callable[..., Iterator[Row]]

    def find(self, how: TableFormat, needed: Collection[str]) -> tuple[dict[str, str], list[str]]:
        """Find out which column holds what.

        Returns:
            The columns by field name, and a note for the user if some were guessed.

        Raises:
            UserError: when what is needed is not there, with columns to give instead.
        """
        if not self.header:
            raise UserError(f"{self.name} is empty: rows with a text were expected")
        found = find_columns(self.header, how, needed)
        if found.problems or found.guessed:
            found = find_columns(self.header, how, needed, self.sample())
        if found.problems:
            proposal = found.proposal or {
                **{one: "NAME" for one in needed if one not in found.columns}, **found.columns,
            }  # fmt: skip
            effect = "would do" if found.proposal else "says which column holds what"
            mend = how.mend("columns", spell_columns(proposal), effect).removeprefix("; ")
            raise UserError(
                f"{self.name} cannot be read as it is:",
                found.problems,
                mend or "Call its columns title, description (or text), id, tag.",
            )
        if not found.guessed:
            return found.columns, []
        told = ", ".join(f"{field} from {one!r}" for field, one in found.guessed.items())
        return found.columns, [
            f"{self.name}: read {told.replace('description', TEXT)}"
            + how.mend("columns", "{text: NAME, tag: NAME}", "names others")
        ]

    def sample(self) -> list[Mapping[str, str | None]]:
        """Return the values of the first rows, by column, to tell by them what a column holds."""
        rows = self.rows((), Problems(), others=True)
        return [row.values for row in itertools.islice(rows, SAMPLE_ROWS)]

    def find_texts(self, how: TableFormat) -> dict[str, str]:
        """Find the columns of ids and texts: tags and dates, not asked for, can't be in the way.

        Raises:
            UserError: as `find` does.
        """
        unread = {"tag": "", "created_on": ""}
        return self.find(replace(how, columns={**how.columns, **unread}), (TEXT,))[0]


def load_labelled(
    data: DataConfig,
    tags: Sequence[str] | None = None,
    known: Mapping[str, str] | None = None,
) -> Labelled:
    """Read all items of a source, each with one tag.

    Args:
        data: Which source, and how to read it.
        tags: The approved tags; None: those of `data.tags`.
        known: Columns that a run was made with, used where the source has them.

    Raises:
        UserError: when the source cannot be reached, or listing everything that is wrong with it.
    """
    how = TableFormat(data.columns, known or {}, data.delimiter, data.dates, "keys")
    tables = _open_source(data)
    if tags is None and data.tags != AUTO:
        tags = [tag.name for tag in load_tags(resolve_path(data.tags))]
    return read_labelled(tables, how, tags, split_column=data.split.column)


def read_labelled(
    tables: Sequence[Table],
    how: TableFormat,
    tags: Sequence[str] | None,
    split_column: str | None = None,
) -> Labelled:
    """Read the items of one table, or of one for training and one for testing.

    Args:
        tables: One or two.
        how: How to read them.
        tags: The approved tags; None: those that the rows have.
        split_column: The column that says which part a row is in.

    Raises:
        UserError: listing everything that is wrong with the first table that can't be used.
    """
    items: list[Item] = []
    parts: list[str] = []
    notes: list[str] = []
    columns: dict[str, str] = {}
    for part, table in zip((TRAIN, TEST), tables, strict=False):
        columns, guessed = table.find(replace(how, known={**how.known, **columns}), (TEXT, "tag"))
        problems = Problems()
        wanted = [*columns.values()]
        if split_column is not None:
            if split_column not in table.header:
                near = did_you_mean(split_column, table.header)
                raise UserError(f"{table.name}: no column {split_column!r}{near} to split by")
            wanted.append(split_column)
        rows = table.rows(wanted, problems)
        before = len(items)
        for row, item in checked_rows(rows, columns, tags, problems, tag_needed=True, how=how):
            items.append(item)
            parts.append(part if split_column is None else _part_of(row, split_column, problems))
        if len(items) == before and not problems:
            problems.add("there are columns and no rows")
        problems.raise_if_any(f"{table.name} cannot be used as labelled data:")
        notes += guessed
        if problems.skipped:
            notes.append(f"{table.name}: blank rows that were skipped: {problems.skipped:,}")
        if before and {item.id for item in items[:before]} & {item.id for item in items[before:]}:
            # Two files may both count from 1.
            items[before:] = [replace(item, id=f"{TEST}:{item.id}") for item in items[before:]]
    counts = Counter(str(item.tag) for item in items)
    names = sorted(counts) if tags is None else list(tags)
    given = len(tables) > 1 or split_column is not None
    if given and TEST not in parts:
        raise UserError(
            f"{tables[0].name}: the column {split_column!r} puts no row into the test part",
            hint="Leave out data.split.column, and test rows are drawn (data.split.test).",
        )
    return Labelled(
        items, names, parts if given else None, columns, notes + odd_tags(names, counts)
    )


def load_extra(data: DataConfig, tags: Sequence[str]) -> list[Item]:
    """Read the labelled files that are for training alone.

    Raises:
        UserError: listing everything that is wrong with the first file that can't be used.
    """
    how = TableFormat(known=data.columns, dates=data.dates)
    return [
        item
        for path in map(resolve_path, data.extra)
        for item in read_labelled([open_file(path)], how, tags).items
    ]


def read_columns(data: DataConfig, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read further columns of a source.

    Returns:
        By column: the value of each row that has one, by the row's id.

    Raises:
        UserError: when the source has no such column.
    """
    values: dict[str, dict[str, str]] = {column: {} for column in columns}
    for part, table in zip((TRAIN, TEST), _open_source(data), strict=False):
        if missing := [column for column in columns if column not in table.header]:
            raise UserError(
                f"{table.name} has no column {', '.join(missing)}",
                hint=f"Its columns are {', '.join(sorted(table.header))}.",
            )
        problems = Problems()
        key = table.find(TableFormat(data.columns), ())[0].get("id")
        for row in table.rows([*columns, *([key] if key else [])], problems):
            row_id = str(row.number) if key is None else (row.values.get(key) or "").strip()
            for column in columns:
                if value := (row.values.get(column) or "").strip():
                    values[column].setdefault(row_id, value)
                    if part == TEST:  # as `read_labelled` calls ids that both tables have
                        values[column][f"{TEST}:{row_id}"] = value
        problems.raise_if_any(f"{table.name} cannot be read:")
    return values


def data_sha256(items: Sequence[Item]) -> str:
    """Return a SHA-256 (64 hexadecimal digits) over all fields of the items, in their order."""
    digest = hashlib.sha256()
    for item in items:
        moment = item.created_on.isoformat() if item.created_on else None
        fields = [item.id, moment, item.title, item.description, item.tag]
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()


def iter_unlabelled(path: Path, how: TableFormat = UNSAID) -> Iterator[Item]:
    """Yield the items of a file of texts, in constant memory and in the file's order.

    Only ids and texts are read; a row's number is its id where there is none. Ids may be blank and
    may repeat: to tell would take memory that grows with the table.

    Raises:
        UserError: when no column holds a text, or, after the last item, listing every row that
            has none.
    """
    table, problems = open_file(path, how.delimiter), Problems()
    columns = table.find_texts(how)
    for row in table.rows([*columns.values()], problems):
        item = item_of(row, columns)
        if item.text:
            yield item
        else:
            problems.add(f"no text: {describe_blank(columns)}", row.place)
    problems.raise_if_any(f"{path} cannot be used:")


def scan_unlabelled(path: Path, how: TableFormat = UNSAID) -> int:
    """Read a file of texts to its end, and return how many items it has.

    Raises:
        UserError: as `iter_unlabelled` does.
    """
    return sum(1 for _ in iter_unlabelled(path, how))


def open_file(path: Path, delimiter: str | None = None) -> Table:
    """Open a file, or a folder that `datasets.Dataset.save_to_disk` wrote.

    Raises:
        UserError: when it cannot be opened, or is none that can be read.
    """
    if path.is_dir():
        return open_table(_load_from_disk(path), str(path))
    problems = Problems()
    header = read_header(path, problems, delimiter)
    problems.raise_if_any(f"{path} cannot be read:")
    return Table(str(path), header, partial(read_rows, path, delimiter=delimiter))


def open_table(table: Any, name: str) -> Table:
    """Open a pandas DataFrame, a `datasets.Dataset`, or a list of dictionaries."""
    return Table(name, table_header(table), partial(table_rows, table))


def _open_source(data: DataConfig) -> list[Table]:
    """Open the table of a source, and the one of its test rows if that is another."""
    if data.source == "hub":
        return [_load_hub(data, split) for split in (data.hub_split, data.hub_test_split) if split]
    if data.source == "download":
        return [open_file(download(data), data.delimiter)]
    return [
        open_file(resolve_path(path), data.delimiter)
        for path in (data.path, data.test_path)
        if path is not None
    ]


def _part_of(row: Row, column: str, problems: Problems) -> str:
    value = (row.values.get(column) or "").strip()
    if value.casefold() not in PART_NAMES:
        problems.add(
            f"{column} is {value[:60]!r}, expected one of {', '.join(PART_NAMES)}",
            row.place,
            kind=f"part {value}",
        )
    return PART_NAMES.get(value.casefold(), TRAIN)


def _load_from_disk(path: Path) -> "Dataset":
    inside = sorted(file.name for file in path.iterdir())
    if "dataset_dict.json" in inside:
        parts = [f"{path / name}" for name in inside if (path / name).is_dir()]
        raise UserError(
            f"{path} holds several parts, each a folder of its own: {', '.join(parts)}",
            hint="Give one (data.path=FOLDER/train), and test rows as data.test_path=FOLDER/test.",
        )
    if "dataset_info.json" not in inside:
        listed = f"; it holds {', '.join(inside[:10])}" if inside else ""
        raise UserError(f"{path} is a folder, a file was expected{listed}")
    from datasets import load_from_disk

    try:
        return load_from_disk(str(path))
    except Exception as error:  # it raises whatever a file format raises
        raise UserError(f"{path} cannot be loaded by `datasets`: {first_line(error)}") from None


def _load_hub(data: DataConfig, split: str) -> Table:
    from datasets import load_dataset

    name = f"the dataset {data.hub_id} (split {split})"
    try:
        dataset = load_dataset(
            data.hub_id, data.hub_subset, split=split, revision=data.hub_revision
        )
    except Exception as error:  # it raises whatever the hub, a file format or the network raises
        raise UserError(
            f"{name} cannot be loaded: {type(error).__name__}: {first_line(error)}",
            hint="Check data.hub_id, data.hub_subset, data.hub_split, data.hub_revision and the "
            "network; or save it as a file and give data=file data.path=FILE.",
        ) from None
    return open_table(dataset, name)
