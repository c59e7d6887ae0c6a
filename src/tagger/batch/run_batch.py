"""Predicts the tags of many Parquet files: resumable, in order, the same bytes on any engine.

The output is a folder: `plan.json` says what is predicted with what; each row group of the input
has one file of predictions, which is there as soon as it is whole; `unanswered.csv` lists the rows
that could not be answered, with file and row; `manifest.json` is written last, when every unit was
found to be there with all of its rows.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt

from tagger.batch.engines import work_here, work_on_ray
from tagger.batch.plan import (
    PLAN,
    BatchPlan,
    Place,
    Unit,
    find_files,
    make_plan,
    open_parquet,
    open_place,
    units_of,
)
from tagger.batch.units import (
    UNANSWERED,
    UNANSWERED_COLUMNS,
    output_name,
    put,
    unanswered_name,
)
from tagger.data.columns import TableFormat
from tagger.documents import Document, Record
from tagger.errors import UserError
from tagger.files import csv_text
from tagger.progress import progress_bar
from tagger.runs import RunFolder

Engine = Literal["local", "ray"]

MANIFEST = "manifest.json"


class FinishedUnit(Record):
    """A file of predictions: its path in the output, and how many rows it has."""

    name: str
    rows: NonNegativeInt


class BatchManifest(Document):
    """The content of `manifest.json`: that the output is whole.

    Attributes:
        units: In the order of the input.
        rows: Of all units.
        unanswered: How many of them could not be answered.
    """

    WRITTEN_BY = "tagger predict --engine ..."

    units: list[FinishedUnit]
    rows: NonNegativeInt
    unanswered: NonNegativeInt


def predict_batch(
    run: RunFolder,
    source: str,
    output: str,
    how: TableFormat,
    *,
    engine: Engine,
    workers: int | None = None,
    keep_columns: bool = False,
) -> BatchManifest:
    """Predict all rows of all files.

    Args:
        run: A finished run.
        source: A folder or a pattern of Parquet files, as a path or an address of fsspec.
        output: A folder; one that holds the same work unfinished is gone on with.
        how: How to read the files.
        engine: Where to work.
        workers: Processes of a cluster that `ray` starts for this alone; None: see `work_on_ray`.
        keep_columns: Hand on the columns that are not read.

    Raises:
        UserError: for an input that cannot be read, or an output that holds other work.
    """
    place, names = find_files(source)
    target = open_place(output)
    if any(place.path(name).startswith(f"{target.root}/") for name in names):
        raise UserError(
            f"--output {output}: files of the input lie in it; expected a folder of its own"
        )
    plan = make_plan(run, place, names, how, keep_columns=keep_columns)
    _claim(target, plan)
    if target.files.exists(target.path(MANIFEST)):
        return BatchManifest.parse(_read(target, MANIFEST), Path(target.path(MANIFEST)))
    units = [*units_of(plan)]
    left = [one for one in units if not target.files.exists(target.path(output_name(one)))]
    total = sum(one.rows for one in units)
    ready = total - sum(one.rows for one in left)
    with progress_bar(total, "predict", "item", initial=ready) as bar:
        work = (
            work_here(run, plan, left, place, target)
            if engine == "local"
            else work_on_ray(run, plan, left, place, target, workers=workers)
        )
        for rows in work if left else ():
            bar.update(rows)
    return _finish(target, units)


def _claim(target: Place, plan: BatchPlan) -> None:
    """Take an empty folder for this work, or find the same work in it."""
    path = target.path(PLAN)
    if target.files.exists(path):
        found = BatchPlan.parse(_read(target, PLAN), Path(path))
        if found == plan:
            return
        parts = ("model", "decision", "columns", "kept", "files")
        other = [part for part in parts if getattr(found, part) != getattr(plan, part)]
        raise UserError(
            f"--output {target.url} holds predictions of other work; what differs: "
            f"{', '.join(other)}",
            hint="Give another folder, or remove that one.",
        )
    if target.files.exists(target.root) and target.files.ls(target.root):
        raise UserError(
            f"--output {target.url} holds files, and no {PLAN}; expected a new folder, or one that "
            "this command made"
        )
    put(target, PLAN, plan.model_dump_json(indent=2).encode())


def _finish(target: Place, units: Sequence[Unit]) -> BatchManifest:
    """Check that every unit is there with its rows, list what could not be answered, say so."""
    unanswered = [csv_text([UNANSWERED_COLUMNS]).encode()]
    for unit in units:
        with open_parquet(target, output_name(unit)) as file:
            found = file.metadata.num_rows
        if found != unit.rows:
            raise UserError(
                f"{target.path(output_name(unit))} has {found:,} rows, expected {unit.rows:,}",
                hint="It was changed after it was written: remove it and give the command again.",
            )
        if target.files.exists(part := target.path(unanswered_name(unit))):
            unanswered.append(target.files.cat_file(part))
    listed = b"".join(unanswered)
    put(target, f"{UNANSWERED}.csv", listed)
    manifest = BatchManifest(
        units=[FinishedUnit(name=output_name(unit), rows=unit.rows) for unit in units],
        rows=sum(unit.rows for unit in units),
        unanswered=sum(1 for _ in csv.reader(io.StringIO(listed.decode(), newline=""))) - 1,
    )
    put(target, MANIFEST, manifest.model_dump_json(indent=2).encode())
    if target.files.exists(target.path(UNANSWERED)):
        target.files.rm(target.path(UNANSWERED), recursive=True)
    return manifest


def _read(place: Place, name: str) -> object:
    try:
        return json.loads(place.files.cat_file(place.path(name)))
    except ValueError:
        return None
