"""Predicts one unit of work, and puts its output in place whole or not at all."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from tagger.batch.plan import BatchPlan, Place, Unit, open_parquet
from tagger.data.problems import Problems
from tagger.data.readers import Row
from tagger.data.readers.arrow import BATCH_ROWS, arrow_number_type, arrow_rows
from tagger.data.readers.rows import noting
from tagger.decision.decider import Decider
from tagger.files import csv_text, replacing
from tagger.prediction import CHUNK, answer_rows, is_answered
from tagger.prediction_output import header, prediction_types

UNANSWERED = "unanswered"
"""Folder, and later file, of the rows that could not be answered."""

UNANSWERED_COLUMNS = ("file", "row", "id", "reason")


def output_name(unit: Unit) -> str:
    """Return the name of a unit's predictions, below the folder of the output."""
    return f"{unit.name}.parquet"


def unanswered_name(unit: Unit) -> str:
    """Return the name of the list of a unit's rows that could not be answered."""
    return f"{UNANSWERED}/{unit.name}.csv"


def answer_unit(plan: BatchPlan, unit: Unit, source: Place, target: Place, decider: Decider) -> int:
    """Predict a unit and write its output, whose bytes depend on nothing but the arguments.

    Memory is needed for the output of one unit. The list of rows that could not be answered is
    written first, so that a unit whose predictions are there is finished.

    Returns:
        How many rows it has.

    Raises:
        UserError: when the file cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    names = header(decider.tags, plan.kept)
    unanswered = []
    count = 0
    made = pa.BufferOutputStream()
    with open_parquet(source, unit.file) as file:
        schema = _schema(file, plan, names, decider)
        with parquet.ParquetWriter(made, schema) as writer:
            rows = _rows(file, plan, unit, source)
            for chunk in iter(lambda: list(islice(rows, CHUNK)), []):
                lines = [*answer_rows(chunk, plan.columns, plan.kept, decider)]
                writer.write_batch(pa.record_batch(_columns(lines, schema), schema=schema))
                unanswered += [
                    [unit.file, row.number, line[0], line[names.index("reason")]]
                    for row, line in zip(chunk, lines, strict=True)
                    if not is_answered(line)
                ]
                count += len(chunk)
    if unanswered:
        put(target, unanswered_name(unit), csv_text(unanswered).encode())
    put(target, output_name(unit), made.getvalue().to_pybytes())
    return count


def put(place: Place, name: str, content: bytes) -> None:
    """Write a file whole or not at all: a folder by renaming, an object store by itself."""
    from fsspec.implementations.local import LocalFileSystem

    path = place.path(name)
    if isinstance(place.files, LocalFileSystem):
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content)
    else:
        place.files.pipe_file(path, content)


def _rows(file: Any, plan: BatchPlan, unit: Unit, source: Place) -> Iterator[Row]:
    """Yield the rows of a unit, with their numbers in the file."""
    wanted = [*plan.columns.values(), *plan.kept]
    problems = Problems()
    batches = file.iter_batches(BATCH_ROWS, row_groups=[unit.group])
    with noting(problems):
        for row in arrow_rows(file.schema_arrow, batches, wanted):
            number = unit.first_row + row.number
            yield replace(row, number=number)
    problems.raise_if_any(f"{source.path(unit.file)} cannot be read:")


def _schema(file: Any, plan: BatchPlan, names: Sequence[str], decider: Decider) -> Any:
    """Return the `pyarrow.Schema` of a unit's predictions: numbers stay numbers in ids."""
    import pyarrow as pa

    column = plan.columns.get("id")
    numbers = arrow_number_type(file.schema_arrow, column) if column else None
    ids = numbers or pa.string()
    return pa.schema([*prediction_types(names, decider.tags, ids).items()])


def _columns(lines: Sequence[Sequence[str]], schema: Any) -> list[Any]:
    """Turn lines of text into Arrow columns: a blank is no number, but a text of its own."""
    import pyarrow as pa

    columns = []
    for field, values in zip(schema, zip(*lines, strict=True), strict=True):
        is_text = pa.types.is_string(field.type)
        texts = pa.array([value if value or is_text else None for value in values], pa.string())
        columns.append(texts.cast(field.type))
    return columns
