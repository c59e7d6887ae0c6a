"""Tests what holds for tables of every format."""

import csv
import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagger.data.problems import Problems
from tagger.data.readers import Row, number_type, read_header, read_rows
from tagger.errors import UserError

Read = Callable[..., tuple[list[Row], list[str]]]
Values = Callable[..., list[Any]]
Write = Callable[[str, str | bytes], Path]
WANTED = ("id", "title")


def write_parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


AS_WRITTEN = [("007", "NA"), ("1.50", "null"), ("1e5", " spaced "), ("nan", ""), ("0x1", "True")]


def test_values_come_back_as_written(values: Values, write: Write, tmp_path: Path) -> None:
    csv_lines = [f"{a},{b}" for a, b in AS_WRITTEN]
    json_lines = [json.dumps({"id": a, "title": b}) for a, b in AS_WRITTEN]
    ids, titles = zip(*AS_WRITTEN, strict=True)
    assert values(write("a.csv", "\n".join(["id,title", *csv_lines]))) == AS_WRITTEN
    assert values(write("a.jsonl", "\n".join(json_lines))) == AS_WRITTEN
    assert values(write_parquet(tmp_path / "a.parquet", id=ids, title=titles)) == AS_WRITTEN


def test_null_is_missing_and_an_absent_key_has_no_value(
    read: Read, values: Values, write: Write, tmp_path: Path
) -> None:
    rows, problems = read(write("a.jsonl", '{"id": null}\n'))
    assert not problems
    assert rows[0].values == {"id": None}
    path = write_parquet(tmp_path / "a.parquet", id=pa.array([None, "2"]), title=["a", "b"])
    assert values(path) == [(None, "a"), ("2", "b")]


def test_suffix_is_recognised_in_capitals(values: Values, write: Write) -> None:
    assert values(write("A.CSV", "id,title\n1,a")) == [("1", "a")]


def test_good_rows_after_a_bad_one_are_still_checked(read: Read, write: Write) -> None:
    rows, problems = read(write("a.csv", "id,title\n1\n2,b\n3,c,d\n4,e\n"))
    assert [row.number for row in rows] == [2, 4]
    assert len(problems) == 2


def test_missing_file_names_the_nearest(read: Read, write: Write) -> None:
    path = write("items.csv", "id,title\n1,a")
    with pytest.raises(
        UserError, match=r"item\.csv does not exist \(did you mean 'items\.csv'\?\)"
    ):
        read(path.with_name("item.csv"))
    with pytest.raises(UserError, match="there is no folder"):
        read(path.parent / "none" / "items.csv")


def test_folder_names_what_it_holds(read: Read, write: Write) -> None:
    path = write("items.csv", "id,title\n1,a")
    with pytest.raises(UserError, match=r"is a folder.*it holds items\.csv"):
        read(path.parent)


@pytest.mark.parametrize("name", ["items.xlsx", "items.dat", "items.dat.gz"])
def test_unknown_suffix_names_the_known(read: Read, write: Write, name: str) -> None:
    expected = r"expected one of \.csv, .* \.parquet, .* or these with \.gz"
    with pytest.raises(UserError, match=expected):
        read(write(name, "id"))


def test_what_the_system_refuses_is_a_user_error(
    read: Read, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "items.csv")

    path = write("items.csv", "id,title\n1,a")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="permission denied"):
        read(path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}{suffix}"
        title = "a title that takes some space " * 4
        if suffix == ".csv":
            path.write_text("id,title\n" + "".join(f"{n},{title}\n" for n in range(rows)))
        elif suffix == ".jsonl":
            line = '{{"id": "{}", "title": "{}"}}\n'
            path.write_text("".join(line.format(n, title) for n in range(rows)))
        else:
            write_parquet(path, id=[str(n) for n in range(rows)], title=[title] * rows)
        problems = Problems()
        tracemalloc.start()
        count = sum(1 for _ in read_rows(path, WANTED, problems))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == rows
        return highest

    peak(2_000)  # imports and caches
    assert peak(20_000) < 1.5 * peak(2_000) + 200_000


def test_header_is_read_from_every_format(tmp_path: Path, write: Write) -> None:
    pq.write_table(pa.table({"id": ["1"], "Title": ["a"]}), tmp_path / "a.parquet")
    assert read_header(tmp_path / "a.parquet", Problems()) == ["id", "Title"]
    assert read_header(write("a.csv", "id;Title;\n1;a;\n"), Problems()) == ["id", "Title"]
    lines = '{"id": 1}\n{"id": 2, "title": "a"}\n'
    assert read_header(write("a.jsonl", lines), Problems()) == ["id", "title"]


def test_a_table_without_rows_has_its_columns(read: Read, tmp_path: Path, write: Write) -> None:
    pq.write_table(pa.table({"id": pa.array([], pa.string())}), tmp_path / "a.parquet")
    for path, names in (
        (tmp_path / "a.parquet", ["id"]),
        (write("a.csv", "id,title\n"), ["id", "title"]),
        (write("a.json", "[]"), []),
    ):
        assert read(path) == ([], [])
        assert read_header(path, Problems()) == names


def test_columns_of_numbers_are_told(tmp_path: Path, write: Write) -> None:
    pq.write_table(pa.table({"id": [1.0], "n": [1], "s": ["1"]}), tmp_path / "a.parquet")
    types = [number_type(tmp_path / "a.parquet", name) for name in ("id", "n", "s")]
    assert types == [pa.float64(), pa.int64(), None]
    lines = write("a.jsonl", '{"id": 1, "s": "1", "f": 1.5}\n{"s": "2"}\n')
    assert [number_type(lines, name) for name in ("id", "s", "f")] == [pa.int64(), None, None]
    assert number_type(write("a.csv", "id\n1\n"), "id") is None


@pytest.mark.parametrize("packing", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "content", ["id,title\n1,é\n", "id\ttitle\n1\té\n", '{"id": 1, "title": "é"}']
)
def test_format_of_a_file_without_an_ending_is_told_by_its_content(
    values: Values, write: Write, content: str, packing: Callable[[bytes], bytes]
) -> None:
    """Such as the copy that is made of a pipe."""
    assert values(write("standard input", packing(content.encode()))) == [("1", "é")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused(read: Read, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a pipe, and a table is read twice"):
        read(tmp_path / "pipe")


SHARED = Path(__file__).parents[4] / "shared" / "cases"


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/cases is not there")
@pytest.mark.parametrize(
    ("name", "count", "skipped"),
    [
        ("02-semicolon.csv", 4, 0),
        ("14-array-pretty.jsonl", 3, 0),
        ("19-dup-unused.csv", 4, 0),
        ("29-blank-commas.csv", 4, 2),
        ("33-comment-line.csv", 4, 0),
        ("35-nan-unused.jsonl", 3, 0),
        ("v1v2.csv", 160, 0),
    ],
)
def test_shared_cases(name: str, count: int, skipped: int) -> None:
    columns = ("id", "created_on", "title", "description", "tag")
    wanted = ("v1", "v2") if name == "v1v2.csv" else columns
    problems = Problems()
    rows = [*read_rows(SHARED / name, wanted, problems)]
    assert not problems
    assert problems.skipped == skipped
    assert len(rows) == count
    assert all(set(row.values) == set(wanted) for row in rows)


FUZZ = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def check_outcome(read: Read, path: Path) -> None:
    """Reading ends with rows of text, or with problems, and with no other error than ours."""
    rows, problems = read(path)
    noted = Problems()
    header = read_header(path, noted)
    assert noted or set(header) >= {name for row in rows for name in row.values}
    assert problems or not noted  # what ends the reading at the header ends it in both
    for row in rows:
        assert set(row.values) <= set(WANTED)
        for value in row.values.values():
            assert value is None or value.encode() is not None


@FUZZ
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".jsonl", ".parquet"]))
def test_random_bytes(read: Read, tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(content)
    check_outcome(read, path)


@FUZZ
@given(content=st.text('id,title"\n\r\0é;\t 1', max_size=80))
def test_random_csv(read: Read, tmp_path: Path, content: str) -> None:
    path = tmp_path / "fuzz.csv"
    path.write_bytes(b"id,title\n" + content.encode())
    check_outcome(read, path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "title", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.slow
@FUZZ
@given(lines=st.lists(st.one_of(JSON.map(json.dumps), st.text('{}[]":,id1\\u', max_size=15))))
def test_random_jsonl(read: Read, tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    check_outcome(read, path)


@FUZZ
@given(data=st.data())
def test_damaged_parquet(read: Read, tmp_path: Path, data: st.DataObject) -> None:
    path = write_parquet(tmp_path / "fuzz.parquet", id=["1", "2"], title=["a", None], x=[1, 2])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] or content)
    check_outcome(read, path)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


NOT_BLANK = TEXT.filter(str.strip)  # a blank row is passed over


@pytest.mark.slow
@FUZZ
@given(table=st.lists(st.tuples(NOT_BLANK, TEXT), min_size=1, max_size=5))
def test_written_tables_come_back_in_every_format(
    values: Values, tmp_path: Path, table: list[tuple[str, str]]
) -> None:
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(WANTED)
        writer.writerows(table)
    lines = [json.dumps(dict(zip(WANTED, row, strict=True)), ensure_ascii=False) for row in table]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8", newline="\n")
    ids, titles = zip(*table, strict=True)
    write_parquet(tmp_path / "a.parquet", id=ids, title=titles)
    for suffix in ("csv", "jsonl", "parquet"):
        assert values(tmp_path / f"a.{suffix}") == table
