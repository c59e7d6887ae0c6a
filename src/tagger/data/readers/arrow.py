"""Reads Parquet, Feather and Arrow files, and whatever else comes in Arrow batches."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tagger.data.readers.opening import Opened
from tagger.data.readers.rows import Row, Unreadable, select_columns, text_row
from tagger.errors import first_line

BATCH_ROWS = 1024
PARQUET_BUFFER = 2**20
PARQUET_MAGIC = b"PAR1"
ARROW_FILE_MAGIC = b"ARROW1"
ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"

# What has to be read from its end, and comes from an archive, is held in memory.
_LONGEST_HELD = 2**30
# Floats beyond these have lost digits; they are written as floats.
_LARGEST_WHOLE = 1e17


def arrow_file_rows(opened: Opened, wanted: Collection[str], others: bool) -> Iterator[Row]:
    """Yield the rows of a Parquet or an Arrow file; see `read_rows`."""
    schema, read = _open(opened)
    kept, _ = select_columns(schema.names, wanted, others)
    # Without any wanted column one other shows that there are rows, and what is missing.
    names = [schema.field(at).name for at, _ in kept] or schema.names[:1]
    yield from arrow_rows(schema, read(names), wanted, others)


def arrow_schema(opened: Opened) -> Any:
    """Return the `pyarrow.Schema` of a Parquet or an Arrow file."""
    return _open(opened)[0]


def arrow_number_type(schema: Any, column: str) -> Any:
    """Return the `pyarrow.DataType` of a column of numbers; None for any other."""
    import pyarrow as pa

    found = schema.field(column).type
    return found if pa.types.is_integer(found) or pa.types.is_floating(found) else None


def arrow_rows(
    schema: Any,
    batches: Iterable[Any],
    wanted: Collection[str],
    others: bool = False,
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Row]:
    """Yield the rows of Arrow batches as text.

    Args:
        schema: The `pyarrow.Schema` of all columns.
        batches: Each a `pyarrow.RecordBatch` or `Table` that has the wanted ones among them.
        wanted: The columns to read.
        others: Whether to hand on other columns of plain values too.
        labels: The names that numbers stand for, by column; -1 stands for none.

    Raises:
        Unreadable: for a wanted column that holds lists or the like, or a batch that is damaged.
    """
    import pyarrow as pa

    selected, columns = select_columns(schema.names, wanted, others)
    kept = {}
    nested = []
    for at, name in selected:
        field = schema.field(at)
        kind = field.type
        if not pa.types.is_nested(kind.value_type if pa.types.is_dictionary(kind) else kind):
            kept[name] = field.name
        elif name in wanted:
            nested.append(f"the column {field.name!r} holds {kind}, expected text")
    if nested:
        raise Unreadable(*nested)
    number = 0
    with _told(lambda: f"unreadable after row {number}"):
        small = (
            batch.slice(start, BATCH_ROWS)
            for batch in batches
            for start in range(0, batch.num_rows, BATCH_ROWS)
        )
        for batch in small:
            texts = [
                _column_texts(batch.column(one), (labels or {}).get(one)) for one in kept.values()
            ]
            for at in range(batch.num_rows):
                number += 1
                values = dict(zip(kept, (column[at] for column in texts), strict=True))
                yield text_row(number, None, values, columns)


def float_text(value: float | None) -> str | None:
    """Return a float as text: a whole one as an integer, NaN as missing."""
    if value is None or math.isnan(value):
        return None
    if value.is_integer() and abs(value) < _LARGEST_WHOLE:
        return str(int(value))
    return repr(value)


def _open(opened: Opened) -> tuple[Any, Callable[[list[str]], Iterable[Any]]]:
    """Return the schema of a file, and a function that reads columns of it in batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    is_parquet = opened.head.startswith(PARQUET_MAGIC) or opened.name.lower().endswith(".parquet")
    with _told(lambda: f"not a readable {'Parquet' if is_parquet else 'Arrow'} file"):
        if opened.path:
            source = pa.OSFile(str(opened.path)) if is_parquet else pa.memory_map(str(opened.path))
        else:
            content = opened.stream.read(_LONGEST_HELD)
            if len(content) == _LONGEST_HELD:
                raise Unreadable(
                    f"more than {_LONGEST_HELD:,} bytes; unpack it as a file, and give that"
                )
            source = pa.BufferReader(content)
        if is_parquet:
            # Without pre_buffer, pages are read as they are needed, not whole row groups.
            table = pq.ParquetFile(source, pre_buffer=False, buffer_size=PARQUET_BUFFER)
            return table.schema_arrow, lambda names: table.iter_batches(BATCH_ROWS, columns=names)
        if opened.head.startswith(ARROW_FILE_MAGIC):
            file = pa.ipc.open_file(source)
            numbers = range(file.num_record_batches)
            return file.schema, lambda _: (file.get_batch(number) for number in numbers)
        stream = pa.ipc.open_stream(source)
        return stream.schema, lambda _: stream


def _column_texts(column: Any, labels: Sequence[str] | None = None) -> list[str | None]:
    """Return an Arrow column's values as text: whole floats as integers, NaN as missing."""
    import pyarrow as pa

    if labels is not None:
        numbers = column.to_pylist()
        return [None if one is None or one < 0 else labels[one] for one in numbers]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    if not pa.types.is_floating(column.type):
        return texts
    # pandas makes floats of integers, such as ids, where one of them is missing. Arrow writes
    # floats of less than 64 bits by their own digits.
    exact = not pa.types.is_float64(column.type)
    plain = map(float_text, column.to_pylist())
    return [
        text if exact and number is not None and "." in number else number
        for text, number in zip(texts, plain, strict=True)
    ]


@contextmanager
def _told(what: Callable[[], str]) -> Iterator[None]:
    """Tell of a damaged file in one way. pyarrow's OSError for it has no number of the system."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise Unreadable(f"{what()}: {first_line(error)}") from None
