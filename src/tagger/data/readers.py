"""Reads CSV, JSON Lines and Parquet files row by row, strictly, in constant memory.

Strictly means: a value is handed on exactly as it is written (an id `007` stays `007`, a title `NA`
stays a title), and a file that is not what it should be is reported, row by row, never repaired by
a guess. Only a key that is absent, a JSON or Parquet null, counts as a missing value.
"""

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagger.data.problems import Problems, did_you_mean
from tagger.errors import UserError, describe_os_error

# The longest line and the longest field, in characters. Python's csv module stops at 131,072,
# which real descriptions exceed; without any limit, a quote that is never closed would pull the
# rest of the file into memory.
LONGEST = 2**24
BATCH_ROWS = 1024
PARQUET_BUFFER = 2**20

_OTHER_FORMATS = {
    b"\xff\xfe\x00\x00": "UTF-32 text",
    b"\x00\x00\xfe\xff": "UTF-32 text",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PK\x03\x04": "a zip archive (an Excel file?)",
    b"\x1f\x8b": "gzip-compressed",
    b"PAR1": "a Parquet file",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row as text.

    Args:
        number: 1 for the first item of the file.
        line: Where it begins in a text file, 1 for the first line; None for other sources.
        values: Value by wanted column; None for null. A column that is not there has no key.
        columns: Every column that the file (JSON Lines: this row) has.
    """

    number: int
    line: int | None
    values: Mapping[str, str | None]
    columns: Collection[str]

    @property
    def place(self) -> str:
        """Say where the row is: "row 3 (line 4)"."""
        return _place(self.number, self.line)


def read_rows(
    path: Path, wanted: Collection[str], problems: Problems, others: bool = False
) -> Iterator[Row]:
    """Yield the rows of a file; what is wrong with the file's structure goes to `problems`.

    A row with a problem is left out and reading goes on, if the file can still be followed from
    there. The caller decides when to raise what was collected.

    Args:
        path: A file that ends in .csv, .jsonl, .ndjson or .parquet.
        wanted: The columns to read.
        problems: Where structural problems are added.
        others: Whether to hand on the values of other columns too, where they are plain; by
            default they are passed over unread.

    Raises:
        UserError: when the file is missing, is a folder, has another ending, or is refused by the
            operating system.
    """
    try:
        yield from _reader_for(path)(path, frozenset(wanted), problems, others)
    except OSError as error:
        raise UserError(f"{path}: {describe_os_error(error)}") from None


def _reader_for(path: Path) -> "_Reader":
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _READERS)
        found = f"; it holds {', '.join(inside[:10])}" if inside else ""
        raise UserError(f"{path} is a folder, a file was expected{found}")
    if not path.exists():
        raise UserError(f"{path} does not exist{_nearest_file(path)}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        found = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
        raise UserError(f"{path} {found}, expected one of {', '.join(_READERS)}")
    return reader


def _nearest_file(path: Path) -> str:
    try:
        return did_you_mean(path.name, [file.name for file in path.parent.iterdir()])
    except OSError:
        return f": there is no folder {path.parent}"


def _read_csv(
    path: Path, wanted: frozenset[str], problems: Problems, others: bool
) -> Iterator[Row]:
    # The limit belongs to the process; raised only, so that nobody else's setting is cut.
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
    records = csv.reader(_text_lines(path, "", problems), strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        line = records.line_num + 1
        try:
            record = next(records)
        except StopIteration:
            break
        except csv.Error as error:
            number += header is not None
            where = _place(number, line) if header is not None else f"header (line {line})"
            problems.add(f"{where}: {_explain_csv(str(error))}")
            if "field limit" in str(error) or header is None:
                return
            continue
        if not record:
            continue
        if header is None:
            header = record
            if not _check_header(header, problems):
                return
            kept = [(at, name) for at, name in enumerate(header) if others or name in wanted]
            continue
        number += 1
        if len(record) != len(header):
            problems.add(
                f"{_place(number, line)}: {len(record)} fields, the header has {len(header)}"
                + (" (is a text with commas not in quotes?)" if len(record) > len(header) else "")
            )
            continue
        values = {name: record[at] for at, name in kept}
        if _check_values(values, number, line, problems):
            yield Row(number, line, values, header)
    if header is None and not problems:
        problems.add("the file is empty: a header line and rows were expected")
    elif number == 0 and not problems:
        problems.add("the file has a header and no rows")


def _explain_csv(error: str) -> str:
    if "unexpected end of data" in error:
        return "a quoted text that begins here is never closed"
    if "field limit" in error:
        return f"a field longer than {LONGEST:,} characters (a quote that is never closed?)"
    if "expected after" in error:
        return 'text after a closing quote; write a quote inside a text twice, as in "a ""b"""'
    return error


def _check_header(header: list[str], problems: Problems) -> bool:
    before = problems.count
    for name in sorted({name for name in header if header.count(name) > 1}):
        problems.add(f"header: the column {name!r} is there {header.count(name)} times")
    if any("\0" in name for name in header):
        problems.add("header: it holds a NUL byte; this is not a text file")
    return problems.count == before


def _read_jsonl(
    path: Path, wanted: frozenset[str], problems: Problems, others: bool
) -> Iterator[Row]:
    number = 0
    for line, text in enumerate(_text_lines(path, "\n", problems), start=1):
        if not text.strip():
            continue
        number += 1
        try:
            # Numbers stay as they are written: 007 is no JSON, but 1.50 and 10^400 are.
            pairs = json.loads(
                text,
                object_pairs_hook=_Pairs,
                parse_int=str,
                parse_float=str,
                parse_constant=_refuse_constant,
            )
        except RecursionError:
            problems.add(f"{_place(number, line)}: nested too deeply")
            continue
        except ValueError as error:
            what = str(error).split(": line ", maxsplit=1)[0]
            column = getattr(error, "colno", None)
            at = f" at character {column}" if column else ""
            problems.add(f"{_place(number, line)}: not JSON{at}: {what}")
            continue
        if not isinstance(pairs, _Pairs):
            problems.add(
                f"{_place(number, line)}: found {_describe_json(pairs)}, expected one object a line"
            )
            continue
        row = dict(pairs)
        if len(row) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            problems.add(f"{_place(number, line)}: the key {twice[0]!r} is there twice")
            continue
        values = {}
        wrong = False
        for name in row if others else wanted & row.keys():
            value = row[name]
            if value is None or isinstance(value, str):
                values[name] = value
            elif name in wanted:
                wrong = True
                problems.add(
                    f"{_place(number, line)}: `{name}` is {_describe_json(value)}, expected text"
                )
        if not wrong and _check_values(values, number, line, problems):
            yield Row(number, line, values, row.keys())
    if number == 0 and not problems:
        problems.add("the file is empty: one JSON object a line was expected")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written, so that a key given twice can be seen."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _describe_json(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, _Pairs):
        return "an object"
    return "a list" if isinstance(value, list) else "text or a number"


def _text_lines(path: Path, newline: str, problems: Problems) -> Iterator[str]:
    """Yield the lines of a UTF-8 file; stop, with a problem noted, where it cannot be read on."""
    with path.open("rb") as file:
        start = file.read(4)
    for magic, kind in _OTHER_FORMATS.items():
        if start.startswith(magic):
            problems.add(f"found {kind}, expected UTF-8 text; save it as UTF-8")
            return
    line = 0
    with path.open(encoding="utf-8-sig", newline=newline) as lines:
        while True:
            try:
                text = lines.readline(LONGEST)
            except UnicodeDecodeError:
                problems.add(_describe_bad_byte(path))
                return
            if not text:
                return
            line += 1
            if len(text) == LONGEST and not text.endswith(("\n", "\r")):
                problems.add(f"line {line}: longer than {LONGEST:,} characters")
                return
            yield text


def _describe_bad_byte(path: Path) -> str:
    # The decoder reads ahead and counts from its last block: find the place again, line by line.
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return (
                    f"line {number}: byte 0x{line[error.start]:02x} at offset "
                    f"{offset + error.start:,} is not UTF-8; save the file as UTF-8"
                )
            offset += len(line)
    return "the file is not UTF-8; save it as UTF-8"


def _read_parquet(
    path: Path, wanted: frozenset[str], problems: Problems, others: bool
) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without pre_buffer, pages are read as they are needed, not whole row groups.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=PARQUET_BUFFER) as file:
            schema = file.schema_arrow
            # Without any wanted column one other shows that there are rows, and what is missing.
            kept = [field.name for field in schema if others and _is_plain(field.type)]
            kept = kept or [name for name in schema.names if name in wanted] or schema.names[:1]
            batches = file.iter_batches(BATCH_ROWS, columns=kept)
            yield from arrow_rows(schema, batches, wanted, problems, others)
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        # pyarrow reports damage as OSError too, then without a number of the system.
        problems.add(f"not a readable Parquet file: {_first_line(error)}")


def arrow_rows(
    schema: Any,
    batches: Iterable[Any],
    wanted: frozenset[str],
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

    if not _check_schema(schema, wanted, problems):
        return
    kept = [f.name for f in schema if f.name in wanted or (others and _is_plain(f.type))]
    number = 0
    try:
        for batch in batches:
            columns = [_as_text(batch.column(name)) for name in kept]
            for at in range(batch.num_rows):
                number += 1
                values = dict(zip(kept, (column[at] for column in columns), strict=True))
                if _check_values(values, number, None, problems):
                    yield Row(number, None, values, schema.names)
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        problems.add(f"unreadable after row {number}: {_first_line(error)}")
        return
    if number == 0:
        problems.add("there are columns and no rows")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_schema(schema: Any, wanted: frozenset[str], problems: Problems) -> bool:
    before = problems.count
    names: list[str] = schema.names
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.add(f"the column {name!r} is there {names.count(name)} times")
    for field in schema:
        if field.name in wanted and not _is_plain(field.type):
            problems.add(f"the column {field.name!r} holds {field.type}, expected text")
    return problems.count == before


def _is_plain(kind: Any) -> bool:
    """Whether an Arrow type can be written as text without loss of meaning."""
    import pyarrow.types as pt

    return not (pt.is_nested(kind) or pt.is_boolean(kind))


def _as_text(column: Any) -> list[str | None]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        # pandas writes a missing number as NaN.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


def _check_values(
    values: Mapping[str, str | None], number: int, line: int | None, problems: Problems
) -> bool:
    """Refuse characters that no text has and that later steps cannot store."""
    for name, value in values.items():
        if value is None:
            continue
        if "\0" in value:
            problems.add(f"{_place(number, line)}: `{name}` holds a NUL byte")
            return False
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                problems.add(f"{_place(number, line)}: `{name}` holds half a surrogate pair")
                return False
    return True


def _place(number: int, line: int | None) -> str:
    return f"row {number}" if line is None else f"row {number} (line {line})"


_Reader = Callable[[Path, frozenset[str], Problems, bool], Iterator[Row]]
_READERS: dict[str, _Reader] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}

SUFFIXES = tuple(_READERS)
