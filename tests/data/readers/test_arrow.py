"""Tests the reading of Parquet, Feather and Arrow files."""

import gzip
import io
import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from tagger.data.problems import Problems
from tagger.data.readers import Row, arrow, read_rows

Read = Callable[..., tuple[list[Row], list[str]]]
Values = Callable[..., list[Any]]
Write = Callable[[str, str | bytes], Path]
WANTED = ("id", "title")
EXPECTED = [("1", "é"), ("2", "b")]


def write_parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([7, None]), ["7", None]),
        (pa.array([7.5, float("nan")]), ["7.5", None]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array([b"a", None]), ["a", None]),
        (pa.array([date(2020, 2, 20), None]), ["2020-02-20", None]),
        (pa.array([datetime(2020, 2, 20, 6), None]), ["2020-02-20 06:00:00.000000", None]),
        (
            pa.array([datetime(2020, 2, 20, 6, tzinfo=UTC)], pa.timestamp("ms", "UTC")),
            ["2020-02-20 06:00:00.000Z"],
        ),
        (pa.nulls(2), [None, None]),
    ],
)
def test_parquet_types_become_text(
    values: Values, tmp_path: Path, column: pa.Array, expected: list[str | None]
) -> None:
    path = write_parquet(tmp_path / "a.parquet", id=column)
    assert values(path, ("id",)) == [(value,) for value in expected]


def test_parquet_problems(read: Read, tmp_path: Path, write: Write) -> None:
    nested = write_parquet(tmp_path / "a.parquet", id=[["1"]], title=[{"a": True}])
    assert [problem.split(",")[0] for problem in read(nested)[1]] == [
        "the column 'id' holds list<element: string>",
        "the column 'title' holds struct<a: bool>",
    ]
    empty = write_parquet(tmp_path / "b.parquet", id=pa.array([], pa.string()))
    assert read(empty) == ([], [])
    assert "not a readable Parquet file" in read(write("c.parquet", b"PAR1 and no more"))[1][0]
    assert "not a readable Parquet file" in read(write("d.parquet", b""))[1][0]
    twice = pa.table([pa.array(["1"]), pa.array(["2"])], names=["id", "id"])
    pq.write_table(twice, tmp_path / "e.parquet")
    assert read(tmp_path / "e.parquet")[1] == ["the column 'id' is there 2 times; rename one"]
    latin = pa.Array.from_buffers(
        pa.string(), 1, pa.array([b"\xe9"]).buffers()
    )  # a string column that holds no UTF-8
    broken = write_parquet(tmp_path / "f.parquet", id=latin)
    assert "unreadable after row 0" in read(broken)[1][0]


def test_cut_off_parquet_is_a_problem(read: Read, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", id=[str(n) for n in range(5000)])
    content = bytearray(path.read_bytes())
    content[200:2000] = b"\0" * 1800
    path.write_bytes(content)
    rows, problems = read(path)
    assert len(rows) < 5000
    assert len(problems) == 1


def test_parquet_row_groups_are_not_read_whole(tmp_path: Path) -> None:
    # tracemalloc does not see Arrow's own memory. Random text, so that it cannot be compressed.
    titles = [random.Random(n).randbytes(300).hex() for n in range(20_000)]
    path = write_parquet(tmp_path / "a.parquet", id=[str(n) for n in range(20_000)], title=titles)
    before = pa.total_allocated_bytes()
    highest = 0
    for _ in read_rows(path, WANTED, Problems()):
        highest = max(highest, pa.total_allocated_bytes() - before)
    assert pq.ParquetFile(path).num_row_groups == 1
    assert path.stat().st_size > 10_000_000
    assert highest < 8_000_000


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_files_of_both_formats_are_read(
    values: Values, read: Read, tmp_path: Path, new: Callable[..., Any]
) -> None:
    table = pa.table(
        {"id": pa.array(["1", "2"], pa.large_string()), "title": ["é", "b"], "x": [1, 2]}
    )
    path = tmp_path / "a.arrow"
    with new(path, table.schema) as writer:
        writer.write_table(table)
    assert values(path) == EXPECTED
    path.write_bytes(path.read_bytes()[:100])
    problems = read(path)[1]
    assert len(problems) == 1
    assert "not a readable Arrow file" in problems[0] or "unreadable after row" in problems[0]


def test_files_of_pandas_are_read(values: Values, tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1.0, 2.0], "title": ["é", "b"]})
    feather.write_feather(frame, tmp_path / "a.feather")
    assert values(tmp_path / "a.feather") == EXPECTED
    frame.to_parquet(tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == EXPECTED


def test_what_must_be_held_in_memory_is_bounded(
    read: Read, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": ["1"] * 100}), buffer)
    monkeypatch.setattr(arrow, "_LONGEST_HELD", 100)
    path = write("a.parquet.gz", gzip.compress(buffer.getvalue()))
    assert "more than 100 bytes" in read(path)[1][0]
