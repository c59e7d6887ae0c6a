"""Reads tables that are given from Python: data frames, datasets and lists of dictionaries."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, time
from decimal import Decimal
from itertools import islice
from typing import Any

from tagger.data.problems import Problems
from tagger.data.readers.arrow import BATCH_ROWS, arrow_rows, column_texts, float_text
from tagger.data.readers.rows import HEADER_ROWS, Row, as_row, place_of, select_columns
from tagger.errors import UserError


def table_rows(
    table: Any, wanted: Collection[str], problems: Problems, others: bool = False
) -> Iterator[Row]:
    """Yield the rows of a table in memory, with values as a file of it would give them.

    Args:
        table: A `pandas.DataFrame`, a `datasets.Dataset`, a `pyarrow.Table`, or dictionaries, one
            a row. Class labels of a dataset are given by name.
        wanted: The columns to read.
        problems: Where structural problems are added.
        others: Whether to hand on the values of other columns too, where they are plain.
    """
    package = type(table).__module__.partition(".")[0]
    if package == "pandas" and hasattr(table, "columns"):
        yield from _frame_rows(table, wanted, problems, others)
    elif package == "datasets" and hasattr(table, "features"):
        yield from _dataset_rows(table, wanted, problems, others)
    elif package == "pyarrow" and hasattr(table, "to_batches"):
        batches = table.to_batches(BATCH_ROWS)
        yield from arrow_rows(table.schema, batches, wanted, problems, others)
    elif isinstance(table, Iterable) and not isinstance(table, str | bytes | Mapping):
        yield from _mapping_rows(table, wanted, problems, others)
    else:
        raise UserError(
            f"rows cannot be read from a {type(table).__name__}; expected a pandas DataFrame, a "
            "datasets.Dataset, a pyarrow.Table or a list of dictionaries"
        )


def table_header(table: Any) -> list[str]:
    """Return the names of a table's columns; of dictionaries, the keys of the first ones."""
    if hasattr(table, "column_names"):  # of Arrow, and of `datasets`
        return list(table.column_names)
    if hasattr(table, "columns"):
        return [*map(str, table.columns)]
    rows = islice(table_rows(table, (), Problems()), HEADER_ROWS)
    return [*dict.fromkeys(name for row in rows for name in row.columns)]


def _mapping_rows(
    table: Iterable[Any], wanted: Collection[str], problems: Problems, others: bool
) -> Iterator[Row]:
    for number, one in enumerate(table, start=1):
        place = place_of(number, None)
        if not isinstance(one, Mapping):
            problems.add(f"found a {type(one).__name__}, expected a dictionary", place)
            continue
        selection = select_columns([*map(str, one)], wanted, problems, others, place)
        if selection is None:
            continue
        values = [*one.values()]
        given = {name: values[at] for at, name in selection.kept}
        if row := _text_row(number, given, wanted, selection.columns, problems):
            yield row


def _frame_rows(
    frame: Any, wanted: Collection[str], problems: Problems, others: bool
) -> Iterator[Row]:
    selection = select_columns([*map(str, frame.columns)], wanted, problems, others)
    if selection is None:
        return
    for start in range(0, len(frame), BATCH_ROWS):
        part = frame.iloc[start : start + BATCH_ROWS]
        columns = {name: _series_values(part.iloc[:, at]) for at, name in selection.kept}
        for at in range(len(part)):
            given = {name: values[at] for name, values in columns.items()}
            if row := _text_row(start + at + 1, given, wanted, selection.columns, problems):
                yield row


def _series_values(series: Any) -> list[Any]:
    """Return a pandas column's values: as text, but as they are where Arrow has no type."""
    import pyarrow as pa

    if series.dtype != object:  # a column of objects may mix types, which Arrow refuses
        with suppress(pa.ArrowException):
            return column_texts(pa.Array.from_pandas(series))
    return [
        None if missing else value for value, missing in zip(series, series.isna(), strict=True)
    ]


def _dataset_rows(
    dataset: Any, wanted: Collection[str], problems: Problems, others: bool
) -> Iterator[Row]:
    from datasets import ClassLabel

    labels = {
        name: feature.names
        for name, feature in dataset.features.items()
        if isinstance(feature, ClassLabel)
    }
    selection = select_columns(dataset.column_names, wanted, Problems(), others)
    names = {key: dataset.column_names[at] for at, key in selection.kept} if selection else {}
    batches = dataset.with_format("arrow").iter(BATCH_ROWS)
    for row in arrow_rows(dataset.features.arrow_schema, batches, wanted, problems, others):
        values = dict(row.values)
        for key, value in row.values.items():
            if names[key] in labels:
                number = int(value or -1)  # -1 is how datasets write "no label"
                values[key] = labels[names[key]][number] if number >= 0 else None
        yield replace(row, values=values)


def _text_row(
    number: int,
    given: Mapping[str, Any],
    wanted: Collection[str],
    columns: Collection[str],
    problems: Problems,
) -> Row | None:
    texts: dict[str, str | None] = {}
    wrong = False
    for name, value in given.items():
        try:
            texts[name] = _as_text(value)
        except TypeError:
            if name in wanted:
                wrong = True
                what = f"`{name}` is a {type(value).__name__}, expected text"
                problems.add(what, place_of(number, None))
    return None if wrong else as_row(number, None, texts, columns, problems)


def _as_text(value: Any) -> str | None:
    """Return a Python or NumPy value as text.

    Raises:
        TypeError: for a list, a dictionary and anything else that is no plain value.
    """
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # NumPy's own types
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, date | time):  # a datetime is a date too
        return None if str(value) == "NaT" else str(value)  # how pandas writes a missing one
    raise TypeError
