"""Writes files of predictions: CSV, JSON Lines or Parquet, compressed or not."""

import csv
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.errors import UserError
from tagger.files import replace_file, replacing

if TYPE_CHECKING:
    import pyarrow

CHUNK = 1024
COLUMNS = ("id", "decision", "tag", "probability", "reason")
TEXTS = ("id", "decision", "tag", "reason")
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


def publish(partial: Path, output: Path, tags: Sequence[str], id_type: "pyarrow.DataType") -> None:
    """Turn finished rows into the output; it appears whole, and the rows disappear.

    Args:
        partial: CSV, as `header` and `tagger.prediction` make it.
        output: The ending says the format.
        tags: Whose probabilities are in it.
        id_type: Of the input's ids: they come back as they came.
    """
    suffix, compression = _format_of(output)
    if suffix == ".csv" and compression is None:
        replace_file(partial, output)
        return
    with replacing(output) as temporary:
        if suffix == ".parquet":
            _csv_to_parquet(partial, temporary, len(tags), id_type)
        else:
            import pyarrow as pa

            with pa.output_stream(str(temporary), compression=compression) as out:
                if suffix == ".csv":
                    with partial.open("rb") as lines:
                        shutil.copyfileobj(lines, out)
                else:
                    _csv_to_jsonl(partial, out, len(tags), id_type)
    partial.unlink()


def id_type(source: Path, column: str | None) -> "pyarrow.DataType":
    """Return the type of a table's ids: a number stays one where the output has types."""
    import pyarrow as pa

    from tagger.data.readers import number_type

    return (None if column is None else number_type(source, column)) or pa.string()


def _csv_to_jsonl(
    source: Path, out: "pyarrow.NativeFile", n_tags: int, id_type: "pyarrow.DataType"
) -> None:
    import pyarrow as pa

    with source.open(encoding="utf-8", newline="") as rows:
        reader = csv.reader(rows)
        names = next(reader)
        numbers = _numbers(names, n_tags)
        for row in reader:
            values: list[object] = [
                (float(value) if value else None) if is_number else value
                for value, is_number in zip(row, numbers, strict=True)
            ]
            if not pa.types.is_string(id_type):
                values[0] = pa.scalar(row[0], pa.string()).cast(id_type).as_py() if row[0] else None
            line = json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False)
            out.write(f"{line}\n".encode())


def _csv_to_parquet(source: Path, target: Path, n_tags: int, id_type: "pyarrow.DataType") -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with source.open(encoding="utf-8", newline="") as rows:
        reader = csv.reader(rows)
        names = next(reader)
        kinds = [pa.float64() if number else pa.string() for number in _numbers(names, n_tags)]
        schema = pa.schema([(names[0], id_type), *zip(names[1:], kinds[1:], strict=True)])
        with parquet.ParquetWriter(target, schema) as writer:
            for chunk in iter(lambda: list(itertools.islice(reader, CHUNK)), []):
                columns = [
                    # A blank is a text of its own, and no number.
                    pa.array(
                        [
                            None if value == "" and kind != pa.string() else value
                            for value in column
                        ],
                        pa.string(),
                    ).cast(kind)
                    for column, kind in zip(zip(*chunk, strict=True), schema.types, strict=True)
                ]
                writer.write_table(pa.table(columns, schema=schema))


def _numbers(names: Sequence[str], n_tags: int) -> list[bool]:
    """Say for each column whether it holds numbers: kept ones are handed on as text."""
    return [
        name not in TEXTS if at < len(COLUMNS) else at < len(COLUMNS) + n_tags
        for at, name in enumerate(names)
    ]


def _format_of(path: Path) -> tuple[str, str | None]:
    """Return the ending that says the format, and the compression around it."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    return (path.with_suffix("") if compression else path).suffix.lower(), compression
