import csv
import json
import random
import tracemalloc
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagger.data.problems import Problems
from tagger.data.readers import Row, delimited, json_text, read_header, read_rows
from tagger.errors import UserError

Write = Callable[[str, str | bytes], Path]
WANTED = ("id", "title")


def read(path: Path, wanted: tuple[str, ...] = WANTED) -> tuple[list[Row], list[str]]:
    problems = Problems()
    rows = list(read_rows(path, wanted, problems))
    return rows, problems.first


def values(path: Path, wanted: tuple[str, ...] = WANTED) -> list[tuple[str | None, ...]]:
    rows, problems = read(path, wanted)
    assert problems == []
    return [tuple(row.values.get(name) for name in wanted) for row in rows]


def write_parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


# What is written is what is read


AS_WRITTEN = [("007", "NA"), ("1.50", "null"), ("1e5", " spaced "), ("nan", ""), ("0x1", "True")]


def test_csv_values_come_back_as_written(write: Write) -> None:
    lines = [f"{a},{b}" for a, b in AS_WRITTEN]
    assert values(write("a.csv", "\n".join(["id,title", *lines]))) == AS_WRITTEN


def test_jsonl_values_come_back_as_written(write: Write) -> None:
    lines = [json.dumps({"id": a, "title": b}) for a, b in AS_WRITTEN]
    assert values(write("a.jsonl", "\n".join(lines))) == AS_WRITTEN


def test_parquet_values_come_back_as_written(tmp_path: Path) -> None:
    ids, titles = zip(*AS_WRITTEN, strict=True)
    assert values(write_parquet(tmp_path / "a.parquet", id=ids, title=titles)) == AS_WRITTEN


def test_json_numbers_become_the_text_they_are_written_as(write: Write) -> None:
    big = "9" * 5000
    lines = ['{"id": 7, "title": 1.50}', f'{{"id": {big}, "title": 1e999}}']
    assert values(write("a.ndjson", "\n".join(lines))) == [("7", "1.50"), (big, "1e999")]


def test_null_is_missing_and_an_absent_key_has_no_value(write: Write, tmp_path: Path) -> None:
    rows, problems = read(write("a.jsonl", '{"id": null}\n'))
    assert not problems
    assert rows[0].values == {"id": None}
    path = write_parquet(tmp_path / "a.parquet", id=pa.array([None, "2"]), title=["a", "b"])
    assert values(path) == [(None, "a"), ("2", "b")]


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
    tmp_path: Path, column: pa.Array, expected: list[str | None]
) -> None:
    path = write_parquet(tmp_path / "a.parquet", id=column)
    assert values(path, ("id",)) == [(value,) for value in expected]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_make_no_difference(
    write: Write, newline: str, bom: str
) -> None:
    path = write("a.csv", bom + newline.join(["id,title", "1,é", "", "2,b", ""]))
    assert values(path) == [("1", "é"), ("2", "b")]


def test_jsonl_with_byte_order_mark_blank_lines_and_line_separators_inside(write: Write) -> None:
    content = '\ufeff{"id": "1", "title": "a\u2028b"}\r\n\n{"id": "2", "title": "c"}'
    assert values(write("a.jsonl", content)) == [("1", "a\u2028b"), ("2", "c")]


def test_rows_know_their_number_line_and_columns(write: Write) -> None:
    rows, _ = read(write("a.csv", 'id,title,more\n1,"two\nlines",x\n\n2,b,y\n'))
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 5)]
    assert list(rows[0].columns) == ["id", "title", "more"]
    assert rows[1].place == "row 2 (line 5)"
    assert rows[0].values == {"id": "1", "title": "two\nlines"}


def test_suffix_is_recognised_in_capitals(write: Write) -> None:
    assert values(write("A.CSV", "id,title\n1,a")) == [("1", "a")]


def test_long_field_is_read(write: Write) -> None:
    title = "x" * 1_000_000
    assert values(write("a.csv", f'id,title\n1,"{title}"')) == [("1", title)]


# What is wrong is named


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("id,title,id\n1,a,b\n", "the column 'id' is there 2 times"),
        ("id,title\n1,a,b\n", "row 1 (line 2): 3 fields, the header has 2"),
        ("id,title\n1,a\n2\n", "row 2 (line 3): 1 fields, the header has 2"),
        ('id,title\n1,a\n2,"b\n3,c\n', "row 2 (line 3): a quoted text that begins here is never"),
        ('id,title\n1,"a" b\n', "row 1 (line 2): text after a closing quote"),
        ('"id,title\n', "header (line 1): a quoted text"),
        ("id,title\n1,a\0b\n", "row 1 (line 2): `title` holds a NUL byte"),
        ("id,ti\0tle\n1,a\n", "its first line holds a NUL byte: this is not a text file"),
        (
            b"id,title\n1,caf\xe9\n",
            "line 2: byte 0xe9 at offset 14 is not UTF-8; as CP1252 it reads 'café': iconv",
        ),
        ("id,title\n1,a".encode("utf-16-le"), "UTF-16LE text without a byte order mark"),
        ("id,title\n1,a\n".encode("utf-16")[:-1], "begins as UTF-16-LE text and does not go on"),
        ("id,title\n1,é".encode()[:-1], "the file ends inside a character, at offset 11"),
    ],
)
def test_csv_problems(write: Write, content: str | bytes, expected: str) -> None:
    _, problems = read(write("a.csv", content))
    assert len(problems) == 1
    assert expected in problems[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"id": 1}\n{"id": 2\n', "row 2 (line 2): not JSON at character"),
        ('\n{"id": 1, "title": NaN}', "row 1 (line 2): `title` is NaN, expected text"),
        ("[[1]]", "row 1 (line 1): found a list, expected an object"),
        ("12", "found text or a number, expected an object"),
        ("null", "found null, expected an object"),
        ('{"id": 1, "id": 2}', "row 1 (line 1): the column 'id' is there 2 times; rename one"),
        ('{"id": {"a": 1}}', "`id` is an object, expected text"),
        ('{"title": ["a"]}', "`title` is a list, expected text"),
        ('{"title": "\\u0000"}', "`title` holds a NUL byte"),
        ('{"title": "\\ud800"}', "`title` holds half a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        (b'{"title": "\xff"}', "line 1: byte 0xff at offset 11"),
        (b"\xfe\xff\x00{", "not JSON at character 2"),
    ],
)
def test_jsonl_problems(write: Write, content: str | bytes, expected: str) -> None:
    _, problems = read(write("a.jsonl", content))
    assert len(problems) == 1
    assert expected in problems[0]


def test_nested_values_of_other_fields_do_not_matter(write: Write) -> None:
    assert values(write("a.jsonl", '{"id": "1", "title": "a", "meta": {"x": [1, {}]}}')) == [
        ("1", "a")
    ]


def test_parquet_problems(tmp_path: Path, write: Write) -> None:
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


def test_cut_off_parquet_is_a_problem(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", id=[str(n) for n in range(5000)])
    content = bytearray(path.read_bytes())
    content[200:2000] = b"\0" * 1800
    path.write_bytes(content)
    rows, problems = read(path)
    assert len(rows) < 5000
    assert len(problems) == 1


def test_good_rows_after_a_bad_one_are_still_checked(write: Write) -> None:
    rows, problems = read(write("a.csv", "id,title\n1\n2,b\n3,c,d\n4,e\n"))
    assert [row.number for row in rows] == [2, 4]
    assert len(problems) == 2


def test_unclosed_quote_in_a_long_file_is_bounded(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "LONGEST", 200_000)
    path = write("a.csv", 'id,title\n1,"open\n' + "x,y\n" * 100_000)
    limit = csv.field_size_limit(200_000)
    try:
        _, problems = read(path)
    finally:
        csv.field_size_limit(limit)
    assert problems == [
        "row 1 (line 2): a field longer than 200,000 characters (a quote that is never closed?)"
    ]


def test_endless_line_is_bounded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((delimited, "a.csv"), (json_text, "a.jsonl")):
        monkeypatch.setattr(module, "LONGEST", 100_000)
        problems = read(write(name, "\n" + "x" * 200_000))[1]
        assert problems == ["line 2: longer than 100,000 bytes"]


# What is no file


def test_missing_file_names_the_nearest(write: Write) -> None:
    path = write("items.csv", "id,title\n1,a")
    with pytest.raises(
        UserError, match=r"item\.csv does not exist \(did you mean 'items\.csv'\?\)"
    ):
        read(path.with_name("item.csv"))
    with pytest.raises(UserError, match="there is no folder"):
        read(path.parent / "none" / "items.csv")


def test_folder_names_what_it_holds(write: Write) -> None:
    path = write("items.csv", "id,title\n1,a")
    with pytest.raises(UserError, match=r"is a folder.*it holds items\.csv"):
        read(path.parent)


@pytest.mark.parametrize("name", ["items.xlsx", "items.dat", "items.dat.gz"])
def test_unknown_suffix_names_the_known(write: Write, name: str) -> None:
    expected = r"expected one of \.csv, .* \.parquet, .* or these with \.gz"
    with pytest.raises(UserError, match=expected):
        read(write(name, "id"))


def test_what_the_system_refuses_is_a_user_error(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "items.csv")

    path = write("items.csv", "id,title\n1,a")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="permission denied"):
        read(path)


# Size


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


# Anything at all


FUZZ = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def check_outcome(path: Path) -> None:
    """Reading ends with rows of text, or with problems, and with no other error than ours."""
    rows, problems = read(path)
    noted = Problems()
    header = read_header(path, noted)
    assert set(header) >= {name for row in rows for name in row.values}
    assert problems or not noted  # what ends the reading at the header ends it in both
    for row in rows:
        assert set(row.values) <= set(WANTED)
        for value in row.values.values():
            assert value is None or value.encode() is not None


@FUZZ
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".jsonl", ".parquet"]))
def test_random_bytes(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(content)
    check_outcome(path)


@FUZZ
@given(content=st.text('id,title"\n\r\0é;\t 1', max_size=80))
def test_random_csv(tmp_path: Path, content: str) -> None:
    path = tmp_path / "fuzz.csv"
    path.write_bytes(b"id,title\n" + content.encode())
    check_outcome(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "title", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@FUZZ
@given(lines=st.lists(st.one_of(JSON.map(json.dumps), st.text('{}[]":,id1\\u', max_size=15))))
def test_random_jsonl(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    check_outcome(path)


@FUZZ
@given(data=st.data())
def test_damaged_parquet(tmp_path: Path, data: st.DataObject) -> None:
    path = write_parquet(tmp_path / "fuzz.parquet", id=["1", "2"], title=["a", None], x=[1, 2])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] or content)
    check_outcome(path)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NOT_BLANK = TEXT.filter(str.strip)  # a blank row is passed over


@FUZZ
@given(table=st.lists(st.tuples(NOT_BLANK, TEXT), min_size=1, max_size=5))
def test_written_tables_come_back_in_every_format(
    tmp_path: Path, table: list[tuple[str, str]]
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
