"""Where items come from: a file, a dataset of the hub, or a pinned download.

Local files are read by `tagger.data.readers` and not by `datasets.load_dataset`, because the
latter infers types: an id `007` would turn into the number 7, a title `NA` into a missing value, a
short row into one padded with nothing, and a broken file into a message without a row number. Hub
datasets have a schema already and are read by `datasets`; `to_dataset` gives any items that form.
"""

import hashlib
import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tagger.config import DataConfig
from tagger.data.items import FIELDS, Item
from tagger.data.problems import Problems
from tagger.data.readers import BATCH_ROWS, SUFFIXES, Row, arrow_rows, read_rows
from tagger.data.validation import TEXT_FIELDS, labelled_items, unlabelled_items
from tagger.errors import UserError
from tagger.files import replacing, resolve_path, sha256_of

if TYPE_CHECKING:
    from datasets import Dataset

TIMEOUT_SECONDS = 30.0


def load_items(data: DataConfig, tag_names: Sequence[str]) -> list[Item]:
    """Read all items of a source, each with one of the approved tags.

    Raises:
        UserError: when the source cannot be reached, or listing everything that is wrong with it.
    """
    if data.source == "hub":
        return _load_hub(data, tag_names)
    path = _file_of(data)
    problems = Problems()
    wanted = {data.columns.get(field, field) for field in FIELDS}
    items = labelled_items(read_rows(path, wanted, problems), data.columns, tag_names, problems)
    problems.raise_if_any(f"{path} cannot be used as labelled data:")
    return items


def load_extra(data: DataConfig, tag_names: Sequence[str]) -> list[Item]:
    """Read the labelled files that are for training alone.

    Raises:
        UserError: listing everything that is wrong with the first file that can't be used.
    """
    items: list[Item] = []
    for path in map(resolve_path, data.extra):
        problems = Problems()
        items += labelled_items(
            read_rows(path, FIELDS, problems), {}, tag_names, problems, complete=False
        )
        problems.raise_if_any(f"{path} cannot be used as labelled data:")
    return items


def read_columns(data: DataConfig, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read further columns of a source's file.

    Returns:
        By column: the value of each row that has one, by the row's id.

    Raises:
        UserError: when the source is no file, or has no such column.
    """
    if data.source == "hub":
        raise UserError(f"further columns are read from files, and {data.name} is on the hub")
    path, problems = _file_of(data), Problems()
    key = data.columns.get("id", "id")
    values: dict[str, dict[str, str]] = {column: {} for column in columns}
    seen: set[str] = set()
    for row in read_rows(path, {key, *columns}, problems):
        seen.update(row.columns)
        for column in columns:
            value, row_id = (row.values.get(column) or "").strip(), row.values.get(key)
            if value and row_id is not None:
                values[column][row_id] = value
    problems.raise_if_any(f"{path} cannot be read:")
    if missing := [column for column in columns if column not in seen]:
        raise UserError(
            f"{path} has no column {', '.join(missing)}",
            hint=f"Its columns are {', '.join(sorted(seen))}.",
        )
    return values


def data_sha256(items: Sequence[Item]) -> str:
    """Return a SHA-256 (64 hexadecimal digits) over all fields of the items, in their order."""
    digest = hashlib.sha256()
    for item in items:
        moment = item.created_on.isoformat() if item.created_on else None
        fields = [item.id, moment, item.title, item.description, item.tag]
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()


def scan_unlabelled(path: Path) -> int:
    """Check a file to be classified, row by row, in constant memory; return its number of rows.

    Raises:
        UserError: listing everything that is wrong with the file.
    """
    problems = Problems()
    rows = read_rows(path, ("id", *TEXT_FIELDS), problems)
    count = sum(1 for _ in unlabelled_items(rows, problems))
    problems.raise_if_any(f"{path} cannot be classified:")
    return count


def iter_unlabelled(path: Path) -> Iterator[Item]:
    """Yield the items of a file to be classified, in constant memory and in the file's order.

    Only `id`, `title` and `description` are read. Ids may repeat: to tell would take memory that
    grows with the file.

    Raises:
        UserError: soon after the first problem. `scan_unlabelled` lists all of them beforehand.
    """
    problems = Problems()
    summary = f"{path} cannot be classified:"
    for item in unlabelled_items(read_rows(path, ("id", *TEXT_FIELDS), problems), problems):
        problems.raise_if_any(summary)
        yield item
    problems.raise_if_any(summary)


def to_dataset(items: Sequence[Item], tag_names: Sequence[str]) -> "Dataset":
    """Return the items as a typed `datasets.Dataset`; its labels are in the approved order."""
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features(
        {
            "id": Value("string"),
            "created_on": Value("timestamp[us]"),
            "title": Value("string"),
            "description": Value("string"),
            "tag": ClassLabel(names=list(tag_names)),
        }
    )
    columns = {field: [getattr(item, field) for item in items] for field in FIELDS}
    return Dataset.from_dict(columns, features=features)


def download(data: DataConfig) -> Path:
    """Return the local copy of a pinned file, fetched if there is none or it is damaged.

    The copy lies in $TAGGER_CACHE, or ~/.cache/tagger, under its hash. Nothing is kept that does
    not have the hash that the config asks for.

    Raises:
        UserError: when the file cannot be fetched, or is another one than was pinned.
    """
    assert data.url is not None and data.sha256 is not None  # the config's own check
    name = _file_name(data.url)
    cache = Path(os.environ.get("TAGGER_CACHE") or "~/.cache/tagger").expanduser()
    path = cache / data.sha256 / name
    if path.is_file() and sha256_of(path) == data.sha256:
        return path
    hint = f"If you have a copy of the file: data=file data.name={data.name} data.path=PATH/{name}"
    with replacing(path) as temporary:
        try:
            with (
                urllib.request.urlopen(data.url, timeout=TIMEOUT_SECONDS) as response,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(response, file)
        except urllib.error.HTTPError as error:
            raise UserError(
                f"{data.url} cannot be downloaded: the server answered {error.code} {error.reason}",
                hint=hint,
            ) from None
        # What the disk refuses is an OSError too, and is not the network's fault.
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
            UnicodeError,
        ) as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(
                f"{data.url} cannot be downloaded: {reason}. Is there a network?", hint=hint
            ) from None
        found = sha256_of(temporary)
        if found != data.sha256:
            raise UserError(
                f"{data.url} is not the file that was pinned; nothing was kept",
                [f"found    sha256 {found}", f"expected sha256 {data.sha256}"],
                f"It has changed, broke off, or something else answered. {hint}",
            )
    return path


def _file_of(data: DataConfig) -> Path:
    if data.source == "download":
        return download(data)
    assert data.path is not None  # the config's own check
    return resolve_path(data.path)


def _file_name(url: str) -> str:
    try:
        address = urlsplit(url)
        name = PurePosixPath(unquote(address.path)).name
    except ValueError as error:
        raise UserError(f"data.url={url} is no address: {error}") from None
    if address.scheme not in ("http", "https") or PurePosixPath(name).suffix not in SUFFIXES:
        raise UserError(
            f"data.url={url}: expected http:// or https:// and a file that ends in one of "
            + ", ".join(SUFFIXES)
        )
    return name


def _load_hub(data: DataConfig, tag_names: Sequence[str]) -> list[Item]:
    from datasets import load_dataset

    name = f"the dataset {data.hub_id} (split {data.hub_split})"
    try:
        dataset = load_dataset(data.hub_id, split=data.hub_split, revision=data.hub_revision)
    except Exception as error:  # it raises whatever the hub, a file format or the network raises
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{name} cannot be loaded: {type(error).__name__}: {reason}",
            hint="Check data.hub_id, data.hub_split, data.hub_revision and the network; or save it "
            "as a file and give data=file data.path=FILE.",
        ) from None
    problems = Problems()
    items = labelled_items(
        _hub_rows(dataset, data.columns, problems),
        data.columns,
        tag_names,
        problems,
        complete=False,
    )
    problems.raise_if_any(f"{name} cannot be used as labelled data:")
    return items


def _hub_rows(dataset: "Dataset", columns: Mapping[str, str], problems: Problems) -> Iterator[Row]:
    """Yield a hub dataset's rows: labels by name, and the row's number where there is no id."""
    from datasets import ClassLabel

    wanted = frozenset(columns.get(field, field) for field in FIELDS)
    id_column = columns.get("id", "id")
    label_names = {
        column: feature.names
        for column, feature in dataset.features.items()
        if isinstance(feature, ClassLabel)
    }
    batches = dataset.with_format("arrow").iter(BATCH_ROWS)
    for row in arrow_rows(dataset.features.arrow_schema, batches, wanted, problems):
        values = {id_column: str(row.number), **row.values}
        for column in values.keys() & label_names.keys():
            label = int(values[column] or -1)  # -1 is how hub datasets write "no label"
            values[column] = label_names[column][label] if label >= 0 else None
        yield replace(row, values=values)
