"""Tests archives, and files that hold no table."""

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.data.readers import Row

Read = Callable[..., tuple[list[Row], list[str]]]
Values = Callable[..., list[Any]]
Write = Callable[[str, str | bytes], Path]


CSV = "id,title\n1,é\n2,b\n"


JSON_LINES = '{"id": "1", "title": "é"}\n{"id": "2", "title": "b"}\n'


EXPECTED = [("1", "é"), ("2", "b")]


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, codec="zstd", asbytes=True)
    return packed


PACKERS = {".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize(("ending", "content"), [(".csv", CSV), (".jsonl", JSON_LINES)])
def test_compressed_text_is_read_whatever_its_ending_says(
    values: Values, write: Write, packing: str, ending: str, content: str
) -> None:
    packed = PACKERS[packing](content.encode())
    assert values(write(f"a{ending}{packing}", packed)) == EXPECTED
    assert values(write(f"a{ending}", packed)) == EXPECTED
    two = PACKERS[packing](content.encode()) + PACKERS[packing](b"\n")
    assert values(write(f"two{ending}{packing}", two)) == EXPECTED


@pytest.mark.parametrize("packing", PACKERS)
def test_cut_off_archive_is_one_problem(read: Read, write: Write, packing: str) -> None:
    rows = "".join(f"{os.urandom(20).hex()},{n}\n" for n in range(2000))
    packed = PACKERS[packing](f"id,title\n{rows}".encode())
    problems = read(write(f"a.csv{packing}", packed[: len(packed) // 2]))[1]
    assert len(problems) == 1
    assert "archive is cut off or damaged" in problems[0]


def test_line_of_a_decompression_bomb_is_bounded(read: Read, write: Write) -> None:
    _, problems = read(write("a.csv.gz", gzip.compress(b"id,title\n" + b"x" * 2**25)))
    assert problems == ["line 2: longer than 16,777,216 characters"]


def test_compressed_parquet_is_read(values: Values, tmp_path: Path, write: Write) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": ["1", "2"], "title": ["é", "b"]}), buffer)
    assert values(write("a.parquet.gz", gzip.compress(buffer.getvalue()))) == EXPECTED


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
        (b"\1\2\n\x80\x81", "byte 0x80 is not UTF-8"),
        (b" \n\t\n", "the file is empty"),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ""])
def test_what_is_no_table_gets_one_message_with_the_mend(
    read: Read, write: Write, content: bytes, expected: str, ending: str
) -> None:
    problems = read(write(f"a{ending}", content))[1]
    assert len(problems) == 1
    assert expected in problems[0]


def test_workbook_is_told_by_its_content_before_its_ending(read: Read, write: Write) -> None:
    problems = read(write("a.xlsx", b"PK\x03\x04....[Content_Types].xml"))[1]
    assert problems == [
        "this is a workbook (Excel, LibreOffice); save it as CSV (UTF-8) in the program that made "
        "it"
    ]
