import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tagger.errors import UserError
from tagger.files import csv_text
from tagger.prediction_output import check_output, header, id_type, publish

TAGS = ["fruit", "x"]
ROWS = [
    ["7", "fruit", "fruit", "0.750000", "", "0.750000", "0.250000", "a\r\nb", "1.50"],
    ["", "needs review", "", "", 'no "text"', "", "", "", ""],
]


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    path = tmp_path / "out.partial"
    names = header(TAGS, ["note", "price"])
    path.write_text(csv_text([names, *ROWS]), encoding="utf-8", newline="")
    return path


def test_tags_and_kept_columns_named_as_a_column_have_another_name() -> None:
    names = header(["id", "reason", "x"], ["tag", "x", "y"])
    assert len(set(names)) == len(names)
    assert names[5:] == [
        "probability of id",
        "probability of reason",
        "x",
        "tag (input)",
        "x (input)",
        "y",
    ]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.txt", "the format is chosen by the ending, one of .csv, .jsonl, .parquet"),
        ("out", "the format is chosen by the ending"),
        ("out.parquet.gz", "the format is chosen by the ending"),
        ("folder.csv", "is a folder"),
        ("in.csv", "are the same file"),
        ("link.csv", "are the same file"),
    ],
)
def test_an_output_that_cannot_be(tmp_path: Path, output: str, message: str) -> None:
    source = tmp_path / "in.csv"
    source.touch()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(source)
    with pytest.raises(UserError, match=message):
        check_output(source, tmp_path / output)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_numbers_are_numbers_and_kept_columns_stay_text(
    partial: Path, tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"out.{ending}"
    publish(partial, output, TAGS, pa.int64)
    if ending == "parquet":
        first, second = parquet.read_table(output).to_pylist()
    else:
        content = output.read_bytes()
        lines = gzip.decompress(content) if ending.endswith("gz") else content
        first, second = map(json.loads, lines.decode().splitlines())
    assert list(first) == header(TAGS, ["note", "price"])
    assert list(first.values()) == [
        7, "fruit", "fruit", 0.75, "", 0.75, 0.25, "a\r\nb", "1.50"
    ]  # fmt: skip
    # What is blank is no number, but a text of its own.
    assert list(second.values()) == [
        None, "needs review", "", None, 'no "text"', None, None, "", ""
    ]  # fmt: skip
    assert not partial.exists()


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    partial = tmp_path / "out.partial"
    partial.write_text(csv_text([header(TAGS, [])]))
    publish(partial, tmp_path / "out.parquet", TAGS, pa.string)
    table = parquet.read_table(tmp_path / "out.parquet")
    assert (table.num_rows, table.column_names) == (0, header(TAGS, []))


def test_a_csv_is_what_was_written_compressed_or_not(partial: Path, tmp_path: Path) -> None:
    written = partial.read_bytes()
    publish(partial, tmp_path / "out.csv", TAGS, pa.string)
    assert (tmp_path / "out.csv").read_bytes() == written
    partial.write_bytes(written)
    publish(partial, tmp_path / "out.csv.gz", TAGS, pa.string)
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == written


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl"])
def test_ids_have_the_type_that_they_came_with(tmp_path: Path, name: str) -> None:
    if name == "in.parquet":
        parquet.write_table(pa.table({"id": [20230000001], "name": ["a"]}), tmp_path / name)
    else:
        (tmp_path / name).write_text('{"id": 20230000001, "name": "a"}\n')
    assert pa.types.is_integer(id_type(tmp_path / name, "id"))
    assert pa.types.is_string(id_type(tmp_path / name, "name"))
    assert pa.types.is_string(id_type(tmp_path / name, None))
