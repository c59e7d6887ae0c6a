"""Writes files of predictions: CSV, JSON Lines or Parquet, compressed or not."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.errors import UserError
from tagger.files import replace_file, replacing

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.csv

BLOCK = 2**26
"""Bytes that are read at once; no row may be longer."""

COLUMNS = ("id", "decision", "tag", "probability", "reason")
SUFFIXES = (".csv", ".jsonl", ".parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def header(tags: Sequence[str], kept: Sequence[str]) -> list[str]:
    """Return the column names of predictions, all different.

    Args:
        tags: Each has a column with its probability.
        kept: Columns of the input that are handed on.
    """
    names = [*COLUMNS, *(f"probability of {tag}" if tag in COLUMNS else tag for tag in tags)]
    for name in kept:
        while name in names:
            name += " (input)"  # noqa: PLW2901
        names.append(name)
    return names


def check_output(source: Path, output: Path) -> None:
    """Refuse an output that could not be written at the end of the work.

    Raises:
        UserError: for an ending that says no format, a folder, or the input itself.
    """
    suffix, compression = _format_of(output)
    if suffix not in SUFFIXES or (compression and suffix == ".parquet"):
        raise UserError(
            f"--output {output}: the format is chosen by the ending, one of "
            f"{', '.join(SUFFIXES)}, .csv.gz, .csv.zst, .jsonl.gz, .jsonl.zst"
        )
    if output.is_dir():
        raise UserError(f"--output {output} is a folder, a file was expected")
    if source.exists() and output.exists() and source.samefile(output):
        raise UserError(f"--input and --output are the same file, {output}")


def publish(
    partial: Path, output: Path, tags: Sequence[str], id_type: Callable[[], "pyarrow.DataType"]
) -> None:
    """Turn finished rows into the output; it appears whole, and the rows disappear.

    Args:
        partial: CSV, as `header` and `tagger.prediction` make it.
        output: The ending says the format.
        tags: Whose probabilities are in it.
        id_type: Returns the type of the input's ids, which come back as they came. CSV has no
            types: it is written without pyarrow.
    """
    suffix, compression = _format_of(output)
    if suffix == ".csv" and compression is None:
        replace_file(partial, output)
        return
    import pyarrow as pa
    from pyarrow import parquet

    with replacing(output) as temporary:
        if suffix == ".parquet":
            with (
                _typed_rows(partial, tags, id_type()) as rows,
                parquet.ParquetWriter(temporary, rows.schema) as table,
            ):
                for batch in rows:
                    table.write_batch(batch)
        else:
            with pa.output_stream(str(temporary), compression=compression) as out:
                if suffix == ".csv":
                    with partial.open("rb") as lines:
                        shutil.copyfileobj(lines, out)
                else:
                    with _typed_rows(partial, tags, id_type()) as rows:
                        for batch in rows:
                            for row in batch.to_pylist():
                                out.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())
    partial.unlink()


def prediction_types(
    names: Sequence[str], tags: Sequence[str], ids: "pyarrow.DataType"
) -> "dict[str, pyarrow.DataType]":
    """Return the type of each column: numbers for probabilities, text for all others but ids."""
    import pyarrow as pa

    numbers = ["probability", *header(tags, [])[len(COLUMNS) :]]
    texts = dict.fromkeys(names, pa.string())
    return texts | dict.fromkeys(numbers, pa.float64()) | {"id": ids}


def id_type(source: Path, column: str | None) -> "pyarrow.DataType":
    """Return the type of a table's ids: a number stays one where the output has types."""
    import pyarrow as pa

    from tagger.data.readers import number_type

    return (None if column is None else number_type(source, column)) or pa.string()


def _typed_rows(
    partial: Path, tags: Sequence[str], id_type: "pyarrow.DataType"
) -> "pyarrow.csv.CSVStreamingReader":
    """Read finished rows with their types: a blank is no number, but a text of its own."""
    from pyarrow import csv as typed

    with partial.open(encoding="utf-8", newline="") as rows:
        names = next(csv.reader(rows))
    return typed.open_csv(
        partial,
        typed.ReadOptions(block_size=BLOCK),
        typed.ParseOptions(newlines_in_values=True),
        typed.ConvertOptions(column_types=prediction_types(names, tags, id_type), null_values=[""]),
    )


def _format_of(path: Path) -> tuple[str, str | None]:
    """Return the ending that says the format, and the compression around it."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    return (path.with_suffix("") if compression else path).suffix.lower(), compression
