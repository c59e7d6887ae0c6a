"""Tests what rows can be read from: archives, pipes, other encodings, foreign files, memory."""

import bz2
import gzip
import io
import lzma
import os
import threading
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from tagger.data.problems import Problems
from tagger.data.readers import (
    arrow,
    json_text,
    number_type,
    read_header,
    read_rows,
    table_rows,
    with_broken,
)
from tagger.errors import UserError

Write = Callable[[str, str | bytes], Path]
WANTED = ("id", "title")
CSV = "id,title\n1,é\n2,b\n"
JSON_LINES = '{"id": "1", "title": "é"}\n{"id": "2", "title": "b"}\n'
EXPECTED = [("1", "é"), ("2", "b")]


def read(source: Path, **settings: Any) -> tuple[list[tuple[str | None, ...]], list[str]]:
    problems = Problems()
    rows = [*read_rows(source, WANTED, problems, **settings)]
    return [tuple(row.values.get(name) for name in WANTED) for row in rows], problems.first


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, codec="zstd", asbytes=True)
    return packed


PACKERS = {".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress, ".xz": lzma.compress}


# Archives


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize(("ending", "content"), [(".csv", CSV), (".jsonl", JSON_LINES)])
def test_compressed_text_is_read_whatever_its_ending_says(
    write: Write, packing: str, ending: str, content: str
) -> None:
    packed = PACKERS[packing](content.encode())
    assert read(write(f"a{ending}{packing}", packed)) == (EXPECTED, [])
    assert read(write(f"a{ending}", packed)) == (EXPECTED, [])
    two = PACKERS[packing](content.encode()) + PACKERS[packing](b"\n")
    assert read(write(f"two{ending}{packing}", two)) == (EXPECTED, [])


@pytest.mark.parametrize("packing", PACKERS)
def test_cut_off_archive_is_one_problem(write: Write, packing: str) -> None:
    rows = "".join(f"{os.urandom(20).hex()},{n}\n" for n in range(2000))
    packed = PACKERS[packing](f"id,title\n{rows}".encode())
    problems = read(write(f"a.csv{packing}", packed[: len(packed) // 2]))[1]
    assert len(problems) == 1
    assert "archive is cut off or damaged" in problems[0]


def test_line_of_a_decompression_bomb_is_bounded(write: Write) -> None:
    _, problems = read(write("a.csv.gz", gzip.compress(b"id,title\n" + b"x" * 2**25)))
    assert problems == ["line 2: longer than 16,777,216 bytes"]


def test_compressed_parquet_is_read(tmp_path: Path, write: Write) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": ["1", "2"], "title": ["é", "b"]}), buffer)
    assert read(write("a.parquet.gz", gzip.compress(buffer.getvalue()))) == (EXPECTED, [])


# Streams


def read_pipe(folder: Path, content: bytes) -> tuple[list[dict[str, str | None]], list[str]]:
    """Read bytes from a named pipe, which can be read once and has no ending."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes here")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    found = read(pipe)
    writer.join()
    return found


@pytest.mark.parametrize(
    "content",
    [CSV, CSV.replace(",", "\t"), JSON_LINES, "[" + JSON_LINES.replace("}\n{", "},{") + "]"],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_format_of_a_pipe_is_told_by_its_content(
    content: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    assert read_pipe(tmp_path, pack(content.encode())) == (EXPECTED, [])


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
@pytest.mark.parametrize("piped", [False, True])
def test_arrow_files_of_both_formats_are_read(
    tmp_path: Path, new: Callable[..., Any], piped: bool
) -> None:
    table = pa.table(
        {"id": pa.array(["1", "2"], pa.large_string()), "title": ["é", "b"], "x": [1, 2]}
    )
    path = tmp_path / "a.arrow"
    with new(path, table.schema) as writer:
        writer.write_table(table)
    found = read_pipe(tmp_path, path.read_bytes()) if piped else read(path)
    assert found == (EXPECTED, [])
    path.write_bytes(path.read_bytes()[:100])
    problems = read(path)[1]
    assert len(problems) == 1
    assert "not a readable Arrow file" in problems[0] or "unreadable after row" in problems[0]


def test_feather_and_piped_parquet_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1.0, 2.0], "title": ["é", "b"]})
    feather.write_feather(frame, tmp_path / "a.feather")
    assert read(tmp_path / "a.feather") == (EXPECTED, [])
    frame.to_parquet(tmp_path / "a.parquet")
    assert read_pipe(tmp_path, (tmp_path / "a.parquet").read_bytes()) == (EXPECTED, [])


def test_what_must_be_held_in_memory_is_bounded(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"id": ["1"] * 100}), tmp_path / "a.parquet")
    monkeypatch.setattr(arrow, "_LONGEST_HELD", 100)
    assert "more than 100 bytes" in read_pipe(tmp_path, (tmp_path / "a.parquet").read_bytes())[1][0]
    monkeypatch.setattr(json_text, "LONGEST", 1000)
    long = "[\n" + ",\n".join(['{"id": "1", "title": "a"}'] * 100) + "]"
    assert "a JSON array longer than 1,000 characters" in read(write("a.json", long))[1][0]


# Encodings and foreign files


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize(("ending", "content"), [(".csv", CSV), (".json", JSON_LINES)])
def test_encoding_is_taken_from_the_byte_order_mark(
    write: Write, encoding: str, ending: str, content: str
) -> None:
    long = content + "\n" * 70_001  # several blocks
    assert read(write(f"a{ending}", long.encode(encoding))) == (EXPECTED, [])


def test_place_of_a_wrong_byte_is_right_after_many_blocks(write: Write) -> None:
    good = "id,title\n" + "1,ééé\n" * 50_000
    problems = read(write("a.csv", good.encode() + b"2,Stra\xdfe\n"))[1]
    offset = len(good.encode()) + 6
    assert problems == [
        f"line 50002: byte 0xdf at offset {offset:,} is not UTF-8; as CP1252 it reads 'Straße': "
        "iconv -f CP1252 -t UTF-8 FILE > NEW"
    ]


def test_readings_of_text_in_other_scripts_are_shown(write: Write) -> None:
    problems = read(write("a.csv", "id,title\n1,房产信息\n".encode("gb18030")))[1]
    assert "as GB18030 it reads '房产信息'" in problems[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"PK\x03\x04....[Content_Types].xml", "workbook (Excel, LibreOffice); save it as CSV"),
        (b"PK\x03\x04rest", "zip archive; unpack it"),
        (b"\xd0\xcf\x11\xe0rest", "an old Excel workbook"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\x89PNG\r\n", "an image"),
        (b"SQLite format 3\0", "an SQLite database, not a table that can be read; export"),
        (b"\x80\x04\x95rest", "a pickle"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs/spec/v1\noid", "git lfs pull"),
        (b"\0\1\2\3\n1,2\n", "holds a NUL byte: this is not a text file"),
        (b"\1\2\n\x80\x81", "no UTF-8: this is not a text file"),
        (b" \n\t\n", "the file is empty"),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ""])
def test_what_is_no_table_gets_one_message_with_the_mend(
    write: Write, content: bytes, expected: str, ending: str
) -> None:
    problems = read(write(f"a{ending}", content))[1]
    assert len(problems) == 1
    assert expected in problems[0]


def test_workbook_is_told_by_its_content_before_its_ending(write: Write) -> None:
    problems = read(write("a.xlsx", b"PK\x03\x04....[Content_Types].xml"))[1]
    assert problems == [
        "this is a workbook (Excel, LibreOffice); save it as CSV (UTF-8) in the program that made "
        "it"
    ]


# Tables given from Python


def rows_of(table: Any, wanted: tuple[str, ...] = WANTED, others: bool = False) -> list[Any]:
    problems = Problems()
    rows = [*table_rows(table, wanted, problems, others)]
    assert problems.first == []
    return [dict(row.values) for row in rows]


def test_values_of_a_data_frame_are_those_of_its_files(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": [20230000001.0, None, 3.5],
            " Title ": ["a", None, "NA"],
            "tag": pd.Categorical(["x", "y", None]),
            "on": pd.to_datetime(["2020-02-20", None, "2020-02-21"]),
            "yes": [True, False, True],
        }
    )
    wanted = ("id", "title", "tag", "on", "yes")
    frame.to_parquet(tmp_path / "a.parquet")
    from_file = [dict(row.values) for row in read_rows(tmp_path / "a.parquet", wanted, Problems())]
    assert rows_of(frame, wanted) == from_file
    assert from_file[0] == {
        "id": "20230000001",
        "title": "a",
        "tag": "x",
        "on": from_file[0]["on"],
        "yes": "true",
    }
    assert str(from_file[0]["on"]).startswith("2020-02-20 00:00:00")
    assert from_file[1]["id"] is None
    assert from_file[2]["id"] == "3.5"


def test_mixed_column_of_a_data_frame_is_read_value_by_value() -> None:
    frame = pd.DataFrame({"id": [1, "b", 2.0, None, float("nan")], 0: [["nested"]] * 5})
    assert [row["id"] for row in rows_of(frame, ("id",))] == ["1", "b", "2", None, None]


def test_dictionaries_are_read() -> None:
    table = [
        {"id": 7, "title": "a", "on": date(2020, 2, 20), "x": ["nested"]},
        {"id": 2.0, "TITLE": None, "score": Decimal("1.50")},
    ]
    assert rows_of(table, others=True) == [
        {"id": "7", "title": "a", "on": "2020-02-20"},
        {"id": "2", "title": None, "score": "1.50"},
    ]
    problems = Problems()
    assert [*table_rows([{"id": ["x"]}, {"id": ["y"]}, 5], ["id"], problems)] == []
    assert problems.first == [
        "row 1, row 2: `id` is a list, expected text",
        "row 3: found a int, expected a dictionary",
    ]


def test_class_labels_of_a_dataset_are_given_by_name() -> None:
    features = datasets.Features(
        {"id": datasets.Value("int64"), "Title": datasets.ClassLabel(names=["x", "y"])}
    )
    dataset = datasets.Dataset.from_dict({"id": [1, 2, 3], "Title": [1, 0, -1]}, features=features)
    assert rows_of(dataset) == [
        {"id": "1", "title": "y"},
        {"id": "2", "title": "x"},
        {"id": "3", "title": None},
    ]


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(UserError, match="rows cannot be read from a dict; expected a pandas"):
        rows_of({"id": [1]})


def test_header_is_read_from_every_format(tmp_path: Path, write: Write) -> None:
    pq.write_table(pa.table({"id": ["1"], "Title": ["a"]}), tmp_path / "a.parquet")
    assert read_header(tmp_path / "a.parquet", Problems()) == ["id", "Title"]
    assert read_header(write("a.csv", "id;Title;\n1;a;\n"), Problems()) == ["id", "Title"]
    lines = '{"id": 1}\n{"id": 2, "title": "a"}\n'
    assert read_header(write("a.jsonl", lines), Problems()) == ["id", "title"]


def test_a_table_without_rows_has_its_columns(tmp_path: Path, write: Write) -> None:
    pq.write_table(pa.table({"id": pa.array([], pa.string())}), tmp_path / "a.parquet")
    for path, names in (
        (tmp_path / "a.parquet", ["id"]),
        (write("a.csv", "id,title\n"), ["id", "title"]),
        (write("a.json", "[]"), []),
    ):
        assert read(path) == ([], [])
        assert read_header(path, Problems()) == names


def test_broken_rows_are_rows_that_say_why(write: Write) -> None:
    path = write("a.csv", 'id,title\n1,a\n2\n\n3,b,c\n4,"d" e\n5,f\n')
    problems = Problems()
    rows = list(with_broken(lambda noted: read_rows(path, ["id"], noted), problems))
    assert [(row.number, row.line, bool(row.problem)) for row in rows] == [
        (1, 2, False), (2, 3, True), (3, 5, True), (4, 6, True), (5, 7, False),
    ]  # fmt: skip
    assert rows[1].problem == "row 2 (line 3): 1 fields, the header has 2"
    assert not problems


def test_what_ends_the_reading_is_no_row(write: Write) -> None:
    problems = Problems()
    path = write("a.csv", 'id,title\n1,a\n2,"b\n3,c\n')
    assert len(list(with_broken(lambda noted: read_rows(path, ["id"], noted), problems))) == 1
    assert problems.first == ["row 2 (line 3): a quoted text that begins here is never closed"]


def test_columns_of_numbers_are_told(tmp_path: Path, write: Write) -> None:
    pq.write_table(pa.table({"id": [1.0], "n": [1], "s": ["1"]}), tmp_path / "a.parquet")
    types = [number_type(tmp_path / "a.parquet", name) for name in ("id", "n", "s")]
    assert types == [pa.float64(), pa.int64(), None]
    lines = write("a.jsonl", '{"id": 1, "s": "1", "f": 1.5}\n{"s": "2"}\n')
    assert [number_type(lines, name) for name in ("id", "s", "f")] == [pa.int64(), None, None]
    assert number_type(write("a.csv", "id\n1\n"), "id") is None
