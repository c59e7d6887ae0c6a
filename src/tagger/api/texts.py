"""Reads the texts that a program gives: strings, pairs, tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tagger.data.columns import UNSAID, TableFormat
from tagger.data.items import Item
from tagger.data.problems import Problems
from tagger.data.sources import open_table
from tagger.data.validation import item_of

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import pyarrow as pa

Texts: TypeAlias = (
    "Sequence[str] | Sequence[tuple[str, str]] | Sequence[Mapping[str, Any]] | NDArray[Any] "
    "| pd.Series | pd.DataFrame | datasets.Dataset | pa.Table"
)
"""Strings, (title, description) pairs, an array of either (one column or two), or a table."""

EXPECTED = (
    "expected a list of texts, of (title, description) pairs or of dictionaries, an array of one "
    "or two columns, a pandas DataFrame or a datasets.Dataset"
)


@dataclass(frozen=True)
class TextTable:
    """What was given.

    Attributes:
        items: In their order, numbered from 1; one without a text has an empty one.
        columns: The table's column by our field name.
    """

    items: list[Item]
    columns: dict[str, str]


def read_texts(texts: Texts, how: TableFormat = UNSAID) -> TextTable:
    """Read texts as a file of them would be read. None, NaN and NA are texts that are missing.

    Args:
        texts: To read.
        how: What is known of the columns of tables.

    Raises:
        TypeError: for what is no text, with its position.
        ValueError: for an array that has no or too many columns.
        UserError: for a table without a column of texts, or with rows that cannot be read.
    """
    if not _is_table(texts):
        texts, how = _as_table(texts), UNSAID
    table, problems = open_table(texts, "the table"), Problems()
    if not table.header and not len(texts):
        return TextTable([], {})
    columns = {field: name for field, name in table.find_texts(how).items() if field != "id"}
    items = [item_of(row, columns) for row in table.rows([*columns.values()], problems)]
    problems.raise_if_any("the texts cannot be read:")
    return TextTable(items, columns)


def _is_table(texts: Any) -> bool:
    if isinstance(texts, list | tuple):
        return bool(texts) and isinstance(texts[0], Mapping)
    return any(hasattr(texts, name) for name in ("columns", "with_format", "to_batches"))


def _as_table(texts: Any) -> list[dict[str, str | None]]:
    """Return a row for each text or pair, with the columns `text` or `title` and `description`."""
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"found one {type(texts).__name__}, {EXPECTED}; a single text is [text]")
    if isinstance(texts, np.ndarray):
        if texts.ndim not in (1, 2) or (texts.ndim == 2 and texts.shape[1] not in (1, 2)):
            raise ValueError(f"found an array of the shape {texts.shape}, {EXPECTED}")
        texts = texts[:, 0] if texts.ndim == 2 and texts.shape[1] == 1 else texts
    # Its own conversion: elements of NumPy's arrays are no plain values otherwise.
    rows = texts.tolist() if hasattr(texts, "tolist") else list(texts)
    pairs = bool(rows) and isinstance(rows[0], list | tuple)
    names = ("title", "description") if pairs else ("text",)
    table = []
    for at, row in enumerate(rows):
        values = row if pairs else (row,)
        if not isinstance(values, list | tuple) or len(values) != len(names):
            raise TypeError(f"number {at} is {row!r:.80}, expected a pair as the first one is")
        found = [None if _is_missing(value) else value for value in values]
        if wrong := [one for one in found if not isinstance(one, str | None)]:
            raise TypeError(f"number {at} is of type {type(wrong[0]).__name__}, expected a text")
        table.append(dict(zip(names, found, strict=True)))
    return table


def _is_missing(value: object) -> bool:
    """Whether a value stands for none: None, NaN (which differs from itself) or pandas' NA."""
    return value is None or type(value).__name__ == "NAType" or (value != value) is True  # noqa: PLR0124
