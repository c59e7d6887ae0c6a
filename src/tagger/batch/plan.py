"""Divides Parquet files into units of work: one row group of one file each.

Files are named by fsspec: a folder, a pattern, or an address such as s3://BUCKET/FOLDER.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt

from tagger.data.columns import SAMPLE_ROWS, TableFormat
from tagger.data.readers.rows import select_columns
from tagger.data.sources import open_table
from tagger.decision.decider import decision_hash
from tagger.documents import Document, Record
from tagger.errors import UserError, describe_os_error, first_line
from tagger.runs import RunFolder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ENDING = ".parquet"
PLAN = "plan.json"
WILD = frozenset("*?[")


class PlannedFile(Record):
    """One file of the input.

    Attributes:
        name: Its path below the folder of the input.
        size: Bytes.
        groups: How many rows each of its row groups has.
    """

    name: str
    size: NonNegativeInt
    groups: list[NonNegativeInt]


class BatchPlan(Document):
    """The content of `plan.json`: everything that decides what the output will be.

    Attributes:
        model: SHA-256 of each file of the model.
        decision: SHA-256 of decision.json; "" where there is none.
        columns: The tables' column by our field name.
        kept: Columns that are handed on.
        files: The input, by name.
    """

    WRITTEN_BY = "tagger predict --engine ..."

    model: dict[str, str]
    decision: str
    columns: dict[str, str]
    kept: list[str]
    files: list[PlannedFile]


@dataclass(frozen=True)
class Unit:
    """A row group of a file.

    Attributes:
        file: The file's path below the folder of the input.
        group: Position of the row group in it.
        first_row: How many rows of the file come before.
        rows: How many it has.
    """

    file: str
    group: int
    first_row: int
    rows: int

    @property
    def name(self) -> str:
        """Of its output, without ending: in the order of names, rows are in the file's order."""
        return f"{self.file.removesuffix(ENDING)}-{self.group:05d}"


@dataclass(frozen=True)
class Place:
    """A folder on a file system of fsspec."""

    files: "AbstractFileSystem"
    root: str
    url: str

    def path(self, name: str) -> str:
        """Return the path of a file below it, as the file system wants it."""
        return f"{self.root}/{name}"


def open_place(url: str) -> Place:
    """Open a folder by its path or its address.

    Raises:
        UserError: when nothing is installed that reads such addresses.
    """
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{url} cannot be opened: {first_line(error)}",
            hint="Addresses are opened by fsspec; s3:// needs the package s3fs, gs:// gcsfs.",
        ) from None
    return Place(files, root.rstrip("/"), url)


def find_files(source: str) -> tuple[Place, list[str]]:
    """Return the folder of an input, and the sorted names of the Parquet files in it.

    Args:
        source: A file, a folder with all folders in it, or a pattern: FOLDER/2024-*.parquet.

    Raises:
        UserError: when there is none.
    """
    fixed: list[str] = []
    parts = source.split("/")
    for part in parts:
        if WILD & set(part) or part.endswith(ENDING):
            break
        fixed.append(part)
    place = open_place("/".join(fixed) or ("/" if source.startswith("/") else "."))
    pattern = "/".join(parts[len(fixed) :]) or f"**/*{ENDING}"
    try:
        found = place.files.glob(place.path(pattern))
    except OSError as error:
        raise UserError(f"--input {source}: {describe_os_error(error)}") from None
    names = sorted(path.removeprefix(f"{place.root}/") for path in found if path.endswith(ENDING))
    if not names:
        raise UserError(
            f"--input {source}: no file that ends in {ENDING} was found; expected a folder or a "
            "pattern of Parquet files",
            hint="Another kind of file is read without --engine, one at a time.",
        )
    return place, names


def make_plan(
    run: RunFolder, place: Place, names: list[str], how: TableFormat, *, keep_columns: bool
) -> BatchPlan:
    """Read the footers of all files, and decide what is read of them.

    Raises:
        UserError: for a file that is no Parquet, or has no columns that can be read, or others than
            the first one has.
    """
    columns: Mapping[str, str] = {}
    kept: list[str] = []
    planned: list[PlannedFile] = []
    for name in names:
        with open_parquet(place, name) as file:
            header = file.schema_arrow.names
            sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
            if not planned:
                sample = file.schema_arrow.empty_table()
                for batch in islice(file.iter_batches(SAMPLE_ROWS), 1):
                    sample = sample.from_batches([batch])
                columns = open_table(sample, place.path(name)).find_texts(how)
                used = set(columns.values())
                kept = [one for one in header if keep_columns and one not in used]
        wanted = [*columns.values(), *kept]
        found = {one for _, one in select_columns(header, wanted)[0]}
        if missing := [one for one in wanted if one not in found]:
            raise UserError(
                f"{name} has no column {missing[0]!r}, which {names[0]} has; found "
                f"{', '.join(header)}",
                hint="Files that are predicted together have the same columns: give others apart.",
            )
        planned.append(
            PlannedFile(name=name, size=place.files.size(place.path(name)), groups=sizes)
        )
    return BatchPlan(
        model=run.meta.model_files,
        decision=decision_hash(run.path),
        columns=dict(columns),
        kept=kept,
        files=planned,
    )


def units_of(plan: BatchPlan) -> Iterator[Unit]:
    """Yield all units, file by file."""
    for file in plan.files:
        first = 0
        for group, rows in enumerate(file.groups):
            yield Unit(file.name, group, first, rows)
            first += rows


def open_parquet(place: Place, name: str) -> Any:
    """Open a file, a `pyarrow.parquet.ParquetFile`.

    Raises:
        UserError: when it cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    path = place.path(name)
    try:
        return parquet.ParquetFile(path, filesystem=place.files)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file: {first_line(error)}") from None
