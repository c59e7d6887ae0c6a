"""Reads tables that are given from Python: data frames, datasets and lists of dictionaries."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from itertools import islice
from typing import Any

from tagger.data.problems import Problems
from tagger.data.readers.arrow import BATCH_ROWS, arrow_rows, float_text
from tagger.data.readers.rows import HEADER_ROWS, Row, noting, object_rows, readable_rows
from tagger.errors import UserError


def table_rows(
    table: Any,
    wanted: Collection[str],
    problems: Problems,
    others: bool = False,
    broken: bool = False,
) -> Iterator[Row]:
    """Yield the rows of a table in memory, with values as a file of it would give them.

    Args:
        table: A `pandas.DataFrame`, a `datasets.Dataset`, a `pyarrow.Table`, or dictionaries, one
            a row. Class labels of a dataset are given by name.
        wanted: The columns to read.
        problems: Where problems are added.
        others: Whether to hand on the values of other columns too, where they are plain.
        broken: Whether to yield rows that cannot be read too; see `readable_rows`.
    """
    package = type(table).__module__.partition(".")[0]
    if package == "pandas" and hasattr(table, "columns"):
        rows = _dictionary_rows(_frame_records(table), wanted, others)
    elif package == "datasets" and hasattr(table, "features"):
        batches = table.with_format("arrow").iter(BATCH_ROWS)
        features = table.features.items()
        labels = {name: one.names for name, one in features if hasattr(one, "names")}
        rows = arrow_rows(table.features.arrow_schema, batches, wanted, others, labels)
    elif package == "pyarrow" and hasattr(table, "to_batches"):
        rows = arrow_rows(table.schema, table.to_batches(), wanted, others)
    elif isinstance(table, Iterable) and not isinstance(table, str | bytes | Mapping):
        rows = _dictionary_rows(table, wanted, others)
    else:
        raise UserError(
            f"rows cannot be read from a {type(table).__name__}; expected a pandas DataFrame, a "
            "datasets.Dataset, a pyarrow.Table or a list of dictionaries"
        )
    with noting(problems):
        yield from readable_rows(rows, problems, broken)


def table_header(table: Any) -> list[str]:
    """Return the names of a table's columns; of dictionaries, the keys of the first ones."""
    if hasattr(table, "column_names"):  # of Arrow, and of `datasets`
        return list(table.column_names)
    if hasattr(table, "columns"):
        return [*map(str, table.columns)]
    rows = islice(table_rows(table, (), Problems()), HEADER_ROWS)
    return [*dict.fromkeys(name for row in rows for name in row.columns)]


def _frame_records(frame: Any) -> Iterator[Any]:
    """Yield the rows of a pandas data frame as dictionaries, None for what is missing."""
    for start in range(0, len(frame), BATCH_ROWS):
        part = frame.iloc[start : start + BATCH_ROWS].astype(object)
        yield from part.where(part.notna(), None).to_dict("records")


def _dictionary_rows(table: Iterable[Any], wanted: Collection[str], others: bool) -> Iterator[Row]:
    objects = (
        [*one.items()]
        if isinstance(one, Mapping)
        else f"found a {type(one).__name__}, expected a dictionary"
        for one in table
    )
    return object_rows(((one, None) for one in objects), wanted, others, _as_text)


def _as_text(value: Any) -> str | None:
    """Return a Python or NumPy value as text.

    Raises:
        TypeError: for a list, a dictionary and anything else that is no plain value.
    """
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # NumPy's own types
        value = value.item()
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, int | Decimal | date | time):  # a datetime is a date too
        return str(value)
    raise TypeError(f"a {type(value).__name__}")
