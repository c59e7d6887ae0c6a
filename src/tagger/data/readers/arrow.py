"""Reads Parquet, Feather and Arrow files, and whatever else comes in Arrow batches."""

import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tagger.data.problems import Problems
from tagger.data.readers.opening import Opened
from tagger.data.readers.rows import Row, Unreadable, as_row, select_columns
from tagger.errors import first_line

BATCH_ROWS = 1024
PARQUET_BUFFER = 2**20
PARQUET_MAGIC = b"PAR1"
ARROW_FILE_MAGIC = b"ARROW1"
ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"

# What has to be read from its end, and comes from a pipe or an archive, is held in memory.
_LONGEST_HELD = 2**30
# Floats beyond these have lost digits; they are written as floats.
_LARGEST_WHOLE = 1e17


def parquet_rows(
    opened: Opened, wanted: Collection[str], problems: Problems, others: bool
) -> Iterator[Row]:
    """Yield the rows of a Parquet file; see `read_rows`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _told("Parquet"):
        # Without pre_buffer, pages are read as they are needed, not whole row groups.
        source = opened.path or pa.BufferReader(_held(opened))
        with pq.ParquetFile(source, pre_buffer=False, buffer_size=PARQUET_BUFFER) as file:
            schema = file.schema_arrow
            selection = select_columns(schema.names, wanted, problems, others)
            if selection is None:
                return
            kept = [schema.field(at).name for at, _ in selection.kept]
            # Without any wanted column one other shows that there are rows, and what is missing.
            batches = file.iter_batches(BATCH_ROWS, columns=kept or schema.names[:1])
            yield from arrow_rows(schema, batches, wanted, problems, others)


def arrow_file_rows(
    opened: Opened, wanted: Collection[str], problems: Problems, others: bool
) -> Iterator[Row]:
    """Yield the rows of an Arrow file, in the file format (Feather) or that of streams."""
    import pyarrow as pa

    with _told("Arrow"):
        if opened.head.startswith(ARROW_FILE_MAGIC):
            whole = pa.memory_map(str(opened.path)) if opened.path else _held(opened)
            file = pa.ipc.open_file(whole)
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
            schema = file.schema
        else:
            batches = pa.ipc.open_stream(pa.PythonFile(opened.stream, mode="r"))
            schema = batches.schema
        small = (
            batch.slice(start, BATCH_ROWS)
            for batch in batches
            for start in range(0, batch.num_rows, BATCH_ROWS)
        )
        yield from arrow_rows(schema, small, wanted, problems, others)


def arrow_schema(opened: Opened) -> Any:
    """Return the `pyarrow.Schema` of a Parquet or an Arrow file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if opened.head.startswith(PARQUET_MAGIC) or opened.name.lower().endswith(".parquet"):
        with _told("Parquet"):
            return pq.read_schema(opened.path or pa.BufferReader(_held(opened)))
    with _told("Arrow"):
        if opened.head.startswith(ARROW_FILE_MAGIC):
            return pa.ipc.open_file(opened.path or pa.BufferReader(_held(opened))).schema
        return pa.ipc.open_stream(pa.PythonFile(opened.stream, mode="r")).schema


def arrow_rows(
    schema: Any,
    batches: Iterable[Any],
    wanted: Collection[str],
    problems: Problems,
    others: bool = False,
) -> Iterator[Row]:
    """Yield the rows of Arrow batches as text; problems as in `read_rows`.

    Args:
        schema: The `pyarrow.Schema` of all columns.
        batches: Each a `pyarrow.RecordBatch` or `Table` that has the wanted ones among them.
        wanted: The columns to read.
        problems: Where structural problems are added.
        others: Whether to hand on other columns of plain values too.
    """
    import pyarrow as pa

    before = problems.count
    selection = select_columns(schema.names, wanted, problems, others)
    if selection is None:
        return
    kept = []
    for at, name in selection.kept:
        field = schema.field(at)
        if _is_plain(field.type):
            kept.append((field.name, name))
        elif name in wanted:
            problems.add(f"the column {field.name!r} holds {field.type}, expected text")
    if problems.count > before:
        return
    names = [name for _, name in kept]
    number = 0
    try:
        for batch in batches:
            columns = [column_texts(batch.column(found)) for found, _ in kept]
            for at in range(batch.num_rows):
                number += 1
                values = dict(zip(names, (column[at] for column in columns), strict=True))
                row = as_row(number, None, values, selection.columns, problems)
                if row:
                    yield row
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        problems.add(f"unreadable after row {number}: {first_line(error)}")


def column_texts(column: Any) -> list[str | None]:
    """Return an Arrow column's values as text: whole floats as integers, NaN as missing."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_floating(column.type):
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
        return texts
    # pandas makes floats of integers, such as ids, where one of them is missing.
    exact = not pa.types.is_float64(column.type)
    written = column.cast(pa.string()).to_pylist() if exact else None
    return [
        text if text is None or written is None or "." not in text else written[at]
        for at, text in enumerate(map(float_text, column.to_pylist()))
    ]


def float_text(value: float | None) -> str | None:
    """Return a float as text: a whole one as an integer, NaN as missing."""
    if value is None or math.isnan(value):
        return None
    if value.is_integer() and abs(value) < _LARGEST_WHOLE:
        return str(int(value))
    return repr(value)


def _is_plain(kind: Any) -> bool:
    """Whether an Arrow type can be written as text without loss of meaning."""
    import pyarrow.types as pt

    return not pt.is_nested(kind.value_type if pt.is_dictionary(kind) else kind)


def _held(opened: Opened) -> bytes:
    content = opened.stream.read(_LONGEST_HELD)
    if len(content) == _LONGEST_HELD:
        raise Unreadable(
            f"more than {_LONGEST_HELD:,} bytes; unpack or save it as a file, and give that"
        )
    return content


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Tell of a damaged file in one way. pyarrow's OSError for it has no number of the system."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise Unreadable(f"not a readable {name} file: {first_line(error)}") from None
