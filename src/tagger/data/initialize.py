"""Guesses how a table is to be read, and writes the config for it (`tagger init`)."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from tagger.config.composition import CONFIG_DIR
from tagger.config.paths import portable_path
from tagger.config.schema import FOLDER_NAME
from tagger.data.columns import TEXT, TableFormat, find_columns, guess_columns
from tagger.data.dates import DateOrder, parse_moment
from tagger.data.sources import Labelled, open_file, read_labelled
from tagger.errors import UserError
from tagger.files import INSTALLED, REPO_ROOT, plain_name, write_text

WRITTEN = "# Written by `tagger init`"
SHOWN_TAGS = 20
ORDERS: tuple[DateOrder, ...] = ("day-first", "month-first")
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Initialized:
    """What was found in a table, and where it was written down.

    Attributes:
        labelled: The items.
        config: The new choice of `data=`.
        tags: The new list of tags.
        guessed: Columns by field that were told by their values alone.
    """

    labelled: Labelled
    config: Path
    tags: Path
    guessed: dict[str, str]


def initialize(path: Path, name: str | None, how: TableFormat, *, replacing: bool) -> Initialized:
    """Guess what a table's columns hold, read it so, and write `configs/data/NAME.yaml` for it.

    Args:
        path: The table.
        name: Of the config; None: the file's.
        how: What the user says of it.
        replacing: Whether files that an earlier call wrote may be written anew.

    Raises:
        UserError: when the table cannot be read, no text or no tag is found in it, or a config of
            that name is there; and where there is no repository.
    """
    if INSTALLED:
        raise UserError(
            "tagger init writes into the repository's configs, and this is an installed package",
            hint="Say it with each command: data=file data.path=FILE data.tags=auto",
        )
    name = plain_name(path) if name is None else name
    if not re.fullmatch(FOLDER_NAME, name):
        raise UserError(
            f"--name {name}: expected letters, digits, dots, dashes and underlines, 100 at most"
        )
    config = CONFIG_DIR / "data" / f"{name}.yaml"
    tags = REPO_ROOT / "data" / f"{name}.tags.yaml"
    for file in (config, tags):
        _check_free(file, replacing)
    table = open_file(path, how.delimiter)
    sample = table.sample()
    found = find_columns(table.header, how, (TEXT, "tag"), sample)
    guessed = guess_columns(table.header, sample, found.columns)
    columns = {**found.columns, **guessed, **{k: v for k, v in how.columns.items() if not v}}
    how = replace(how, columns=columns, dates=_order_of_dates(sample, columns, how))
    labelled = read_labelled([table], how, None)
    write_text(tags, _tags_text(labelled, path))
    write_text(config, _config_text(name, path, tags, how))
    return Initialized(labelled, config, tags, {**found.guessed, **guessed})


def describe(made: Initialized, path: Path) -> str:
    """Tell what was found, what was written, and what to do next."""
    labelled = made.labelled
    first = labelled.items[0]
    lines = [f"{path}: {len(labelled.items):,} rows, {len(labelled.tags)} tags", ""]
    # A table without titles has one text, and nobody would call that a description.
    shown = {} if "title" in labelled.columns else {"description": TEXT}
    for field, column in labelled.columns.items():
        example = " ".join(str(getattr(first, field) or "(blank)").split())
        if len(example) > SHOWN_CHARACTERS:
            example = f"{example[:SHOWN_CHARACTERS]}..."
        mark = " (a guess)" if field in made.guessed else ""
        lines.append(f"  {shown.get(field, field):<12} from column {column!r}{mark}: {example}")
    absent = [field for field in ("id", "created_on") if field not in labelled.columns]
    means = {"id": "rows are numbered", "created_on": "there are no dates"}
    lines += [f"  {field:<12} no column: {means[field]}" for field in absent]
    lines += [f"note: {note}" for note in labelled.notes]
    for file in (made.tags, made.config):
        content = file.read_text(encoding="utf-8").splitlines()
        lines += ["", f"{file}:", *(f"  {line}" for line in content[: SHOWN_TAGS + 4])]
        if len(content) > SHOWN_TAGS + 4:
            lines.append(f"  ... and {len(content) - SHOWN_TAGS - 4} more lines")
    lines += ["", f"next: python train.py data={made.config.stem} model=linear"]
    return "\n".join(lines)


def _check_free(file: Path, replacing: bool) -> None:
    if not file.exists():
        return
    ours = file.read_text(encoding="utf-8", errors="replace").startswith(WRITTEN)
    if not (ours and replacing):
        raise UserError(
            f"{file} is there already",
            hint="Choose another --name" + (", or write it anew: --replace" if ours else "."),
        )


def _order_of_dates(
    sample: Sequence[Mapping[str, str | None]], columns: Mapping[str, str], how: TableFormat
) -> DateOrder:
    """Return the one order in which all dates of a sample can be read; `iso` where it is open."""
    values = [value for row in sample if (value := row.get(columns.get("created_on", "")))]

    def fits(order: DateOrder) -> bool:
        try:
            return all(parse_moment(value, order) for value in values)
        except ValueError:
            return False

    if how.dates != "iso" or fits("iso"):
        return how.dates
    orders = [order for order in ORDERS if fits(order)]
    return orders[0] if len(orders) == 1 else "iso"


def _config_text(name: str, path: Path, tags: Path, how: TableFormat) -> str:
    values: dict[str, object] = {
        "defaults": ["file", "_self_"],
        "name": name,
        "path": portable_path(path),
        "columns": {
            (TEXT if field == "description" and "title" not in how.columns else field): column
            for field, column in how.columns.items()
        },
    }
    if how.delimiter is not None:
        values["delimiter"] = how.delimiter
    if how.dates != "iso":
        values["dates"] = how.dates
    values["tags"] = portable_path(tags)
    head = f"{WRITTEN}; what each key means: src/tagger/config/schema.py, DataConfig.\n"
    return head + str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _tags_text(labelled: Labelled, path: Path) -> str:
    counts = Counter(item.tag for item in labelled.items)
    lines = []
    for tag in labelled.tags:
        name = yaml.safe_dump({"name": tag}, allow_unicode=True, width=1000).rstrip("\n")
        lines.append(f"  - {name}  # {counts[tag]:,} rows")
    head = f"{WRITTEN}: the tags of {path.name}. `definition` and `examples` help who labels.\n"
    return head + "tags:\n" + "\n".join(lines) + "\n"
