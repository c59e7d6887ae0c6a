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

from tagger.data.columns import (
    SAMPLE_ROWS,
    TEXT,
    UNSAID,
    WEIGHT,
    TableFormat,
    find_columns,
    spell_columns,
)
from tagger.data.items import Item
from tagger.data.problems import Problems, did_you_mean
from tagger.data.readers import Row, read_header, read_rows, table_header, table_rows
from tagger.data.tags import load_tags, odd_tags
from tagger.data.validation import checked_rows, describe_blank, item_of
from tagger.errors import UserError, first_line
from tagger.files import plain_name, resolve_path, sha256_of

if TYPE_CHECKING:
    from datasets import Dataset

    from tagger.config.schema import DataConfig

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
        items: In the order of the source, file by file; those of a test file come last.
        tags: The approved tags, in the order of the list; of `auto` the data's own, sorted.
        parts: Which part each item is in, where the source says so; else None.
        columns: The table's column by our field name; those of further files may be others.
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
        source: What its items are said to come from; "" where it is the only one.
    """

    name: str
    header: Sequence[str]
    rows: Callable[..., Iterator[Row]]
    source: str = ""

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
        unread = {"tag": "", "created_on": "", WEIGHT: ""}
        return self.find(replace(how, columns={**how.columns, **unread}), (TEXT,))[0]


def load_labelled(
    data: "DataConfig",
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
    tables, test = _open_source(data)
    if tags is None and data.tags != AUTO:
        tags = [tag.name for tag in load_tags(resolve_path(data.tags))]
    return read_labelled(tables, how, tags, split_column=data.split.column, test=test)


def read_labelled(
    tables: Sequence[Table],
    how: TableFormat,
    tags: Sequence[str] | None,
    split_column: str | None = None,
    test: Table | None = None,
) -> Labelled:
    """Read the items of one table or of several.

    Args:
        tables: One or more. Columns that were given are those of the first; the others may have
            them too.
        how: How to read them.
        tags: The approved tags; None: those that the rows have.
        split_column: The column that says which part a row is in.
        test: Another table, whose rows are the test.

    Raises:
        UserError: listing everything that is wrong with the first table that can't be used.
    """
    items: list[Item] = []
    parts: list[str] = []
    notes: list[str] = []
    first: dict[str, str] = {}
    known_ids: set[str] = set()
    for table in [*tables, *([] if test is None else [test])]:
        its_own = replace(how, known={**how.known, **first})
        if further := table is not test and table is not tables[0]:
            its_own = replace(its_own, columns={}, takes="nothing")
        columns, guessed = table.find(its_own, (TEXT, "tag"))
        first = first if further else columns
        problems = Problems()
        wanted = [*columns.values()]
        if split_column is not None:
            if split_column not in table.header:
                near = did_you_mean(split_column, table.header)
                raise UserError(f"{table.name}: no column {split_column!r}{near} to split by")
            wanted.append(split_column)
        rows = table.rows(wanted, problems)
        found: list[Item] = []
        for row, item in checked_rows(rows, columns, tags, problems, tag_needed=True, how=how):
            found.append(item)
            part = TEST if table is test else TRAIN
            parts.append(part if split_column is None else _part_of(row, split_column, problems))
        if not found and not problems:
            problems.add("there are columns and no rows")
        problems.raise_if_any(f"{table.name} cannot be used as labelled data:")
        notes += guessed
        if problems.skipped:
            notes.append(f"{table.name}: blank rows that were skipped: {problems.skipped:,}")
        ids = [item.id for item in found]
        ids = _told_apart(ids, known_ids, TEST if table is test else table.source)
        items += [
            replace(item, id=own_id, source=table.source)
            for item, own_id in zip(found, ids, strict=True)
        ]
    counts = Counter(str(item.tag) for item in items)
    names = sorted(counts) if tags is None else list(tags)
    given = test is not None or split_column is not None
    if given and TEST not in parts:
        raise UserError(
            f"{tables[0].name}: the column {split_column!r} puts no row into the test part",
            hint="Leave out data.split.column, and test rows are drawn (data.split.test).",
        )
    return Labelled(items, names, parts if given else None, first, notes + odd_tags(names, counts))


def load_extra(data: "DataConfig", tags: Sequence[str]) -> list[Item]:
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


def read_columns(data: "DataConfig", columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read further columns of a source.

    Returns:
        By column: the value of each row that has one, by the row's id.

    Raises:
        UserError: when the source has no such column.
    """
    values: dict[str, dict[str, str]] = {column: {} for column in columns}
    tables, test = _open_source(data)
    known_ids: set[str] = set()
    for table in [*tables, *([] if test is None else [test])]:
        if missing := [column for column in columns if column not in table.header]:
            raise UserError(
                f"{table.name} has no column {', '.join(missing)}",
                hint=f"Its columns are {', '.join(sorted(table.header))}.",
            )
        problems = Problems()
        own = table is test or table is tables[0]
        how = TableFormat(data.columns) if own else TableFormat(known=data.columns)
        key = table.find(how, ())[0].get("id")
        rows = [*table.rows([*columns, *([key] if key else [])], problems)]
        problems.raise_if_any(f"{table.name} cannot be read:")
        written = [
            str(row.number) if key is None else (row.values.get(key) or "").strip() for row in rows
        ]
        ids = _told_apart(written, known_ids, TEST if table is test else table.source)
        for row, row_id in zip(rows, ids, strict=True):
            for column in columns:
                if value := (row.values.get(column) or "").strip():
                    values[column].setdefault(row_id, value)
    return values


def data_sha256(items: Sequence[Item]) -> str:
    """Return a SHA-256 (64 hexadecimal digits) over all fields of the items, in their order."""
    digest = hashlib.sha256()
    for item in items:
        moment = item.created_on.isoformat() if item.created_on else None
        fields = [item.id, moment, item.title, item.description, item.tag]
        weight = [] if item.weight == 1 else [item.weight]
        digest.update(json.dumps([*fields, *weight]).encode() + b"\n")
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


def _open_source(data: "DataConfig") -> tuple[list[Table], Table | None]:
    """Open the tables of a source, and the one of its test rows if that is another."""
    _check_given_once(data)
    if data.source == "hub":
        first, test = data.hub_split, data.hub_test_split
        tables = [_load_hub(data, split) for split in (first, test) if split]
    elif data.source == "download":
        from tagger.data.download import download  # a tenth of a second that others can spare

        tables = [open_file(download(data), data.delimiter)]
    else:
        given = (data.path, data.test_path)
        tables = [open_file(resolve_path(path), data.delimiter) for path in given if path]
    if data.more:
        tables = [replace(table, source=data.name) for table in tables]
    names = [data.name]
    further = []
    for path in map(resolve_path, data.more):
        name = plain_name(path)
        taken = sum(one.partition("~")[0] == name for one in names)
        names.append(f"{name}~{taken + 1}" if taken else name)
        further.append(replace(open_file(path), source=names[-1]))
    return [tables[0], *further], tables[1] if len(tables) > 1 else None


def _check_given_once(data: "DataConfig") -> None:
    """Refuse a file of `data.more` whose rows are in another file of the run too.

    Raises:
        UserError: naming each such file, and what else it is.
    """
    if not data.more:
        return
    known: dict[str | None, str] = {}
    own = {"data.path": data.path, "data.test_path": data.test_path}
    given = [(key, path) for key, path in own.items() if path and data.source == "file"]
    if data.source == "download":
        known[data.sha256] = "data.url"
    given += [("data.more", path) for path in data.more]
    given += [("data.extra", path) for path in data.extra]
    problems = []
    for key, name in given:
        path = resolve_path(name)
        content = sha256_of(path) if path.is_file() else str(path.resolve())
        if content in known:
            problems.append(f"{key}: {name} holds what {known[content]} holds")
        known.setdefault(content, f"{key} ({name})")
    if problems:
        raise UserError(
            "files of labelled items are given twice:",
            problems,
            "Name each file once: under data.more if its rows are to be tested like the first "
            "file's, under data.extra if they are for training alone.",
        )


def _told_apart(ids: list[str], known: set[str], prefix: str) -> list[str]:
    """Return the ids of a table, with a prefix if others have them too: two may count from 1.

    Args:
        ids: As they are written in the table.
        known: Those of the tables before it; its own are added.
        prefix: What tells them apart.
    """
    if not known.isdisjoint(ids):
        ids = [f"{prefix}:{one}" for one in ids]
    known.update(ids)
    return ids


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


def _load_hub(data: "DataConfig", split: str) -> Table:
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
