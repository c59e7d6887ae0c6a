"""Tests the reading of JSON: lines, arrays, and objects around arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagger.data.problems import Problems
from tagger.data.readers import Row, json_text, read_header

Read = Callable[..., tuple[list[Row], list[str]]]
Values = Callable[..., list[Any]]
Write = Callable[[str, str | bytes], Path]


def test_json_numbers_become_the_text_they_are_written_as(values: Values, write: Write) -> None:
    big = "9" * 5000
    lines = ['{"id": 7, "title": 1.50}', f'{{"id": {big}, "title": 1e999}}']
    assert values(write("a.ndjson", "\n".join(lines))) == [("7", "1.50"), (big, "1e999")]


def test_jsonl_with_byte_order_mark_blank_lines_and_line_separators_inside(
    values: Values, write: Write
) -> None:
    content = '\ufeff{"id": "1", "title": "a\u2028b"}\r\n\n{"id": "2", "title": "c"}'
    assert values(write("a.jsonl", content)) == [("1", "a\u2028b"), ("2", "c")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"id": 1}\n{"id": 2\n', "row 2 (line 2): not JSON at character"),
        ('\n{"id": 1, "title": NaN}', "row 1 (line 2): `title` is NaN or infinite, expected text"),
        ("[[1]]", "row 1 (line 1): found a list, expected an object"),
        ("12", "found text or a number, expected an object"),
        ("null", "found null, expected an object"),
        ('{"id": 1, "id": 2}', "row 1 (line 1): the column 'id' is there 2 times; rename one"),
        ('{"id": {"a": 1}}', "`id` is an object, expected text"),
        ('{"title": ["a"]}', "`title` is a list, expected text"),
        ('{"title": "\\u0000"}', "`title` holds a NUL byte"),
        ('{"title": "\\ud800"}', "`title` holds half a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        (b'{"title": "\xff"}', "line 1: byte 0xff is not UTF-8"),
        (b"\xfe\xff\x00{", "not JSON at character 2"),
    ],
)
def test_jsonl_problems(read: Read, write: Write, content: str | bytes, expected: str) -> None:
    _, problems = read(write("a.jsonl", content))
    assert len(problems) == 1
    assert expected in problems[0]


def test_nested_values_of_other_fields_do_not_matter(values: Values, write: Write) -> None:
    assert values(write("a.jsonl", '{"id": "1", "title": "a", "meta": {"x": [1, {}]}}')) == [
        ("1", "a")
    ]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('[{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]', [1, 1]),
        ('\n[\n  {"id": 1,\n   "title": "a"},\n  {"id": 2, "title": "b"}\n]\n', [3, 5]),
        ('{"id": 1, "title": "a"}\n\n{"id": 2, "title": "b"}', [1, 3]),
        ('{\n"id": 1,\n"title": "a"\n}\n{\n"id": 2,\n"title": "b"\n}', [1, 5]),
    ],
)
def test_objects_are_read_however_they_are_laid_out(
    read: Read, write: Write, name: str, text: str, lines: list[int | None]
) -> None:
    rows, problems = read(write(name, text))
    assert problems == []
    assert [dict(row.values) for row in rows] == [
        {"id": "1", "title": "a"},
        {"id": "2", "title": "b"},
    ]
    assert [row.line for row in rows] == lines


def test_lone_row_with_a_list_of_objects_stays_a_row(values: Values, write: Write) -> None:
    path = write("a.json", '{"id": 1, "title": "a", "authors": [{"name": "b"}]}')
    assert read_header(path, Problems()) == ["id", "title", "authors"]
    assert values(path) == [("1", "a")]


@pytest.mark.parametrize(
    ("text", "read_before", "expected"),
    [
        ('[\n{"id": 1},\n{"id": 2\n', 1, "line 3: not JSON at character"),
        (
            '[\n{"id": 1},\n{"id": 2}\n',
            2,
            "line 3: a comma or ] was expected after this value; the file may",
        ),
        ('[\n{"id": 1}\n{"id": 2}]', 1, "line 2: a comma or ] was expected"),
    ],
)
def test_broken_array_is_one_problem_with_its_place(
    read: Read, write: Write, text: str, read_before: int, expected: str
) -> None:
    rows, problems = read(write("a.json", text))
    assert len(rows) == read_before
    assert len(problems) == 1
    assert problems[0].startswith(expected)


def test_many_broken_lines_are_told_once(read: Read, write: Write) -> None:
    _, problems = read(write("a.jsonl", "id,title\n1,a\n2,b\n3,c\n4,d\n"))
    assert len(problems) == 1
    assert problems[0].endswith("likewise row 2 (line 2), row 3 (line 3) and 2 more")


def test_unused_fields_of_json_may_hold_anything(values: Values, write: Write) -> None:
    line = '{"id": 1, "title": true, "score": NaN, "x": -Infinity, "y": 1, "y": {"id": [1]}}'
    assert values(write("a.jsonl", line)) == [("1", "true")]


def test_what_must_be_held_in_memory_is_bounded(
    read: Read, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "LONGEST", 1000)
    long = "[\n" + ",\n".join(['{"id": "1", "title": "a"}'] * 100) + "]"
    assert "a JSON array longer than 1,000 characters" in read(write("a.json", long))[1][0]
