"""Tests rows, those that cannot be read, and the selection of columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagger.data.problems import Problems
from tagger.data.readers import Row, read_rows

Read = Callable[..., tuple[list[Row], list[str]]]
Values = Callable[..., list[Any]]
Write = Callable[[str, str | bytes], Path]


@pytest.mark.parametrize(
    "header",
    ["ID,Title", " id , title ", "\ufeffid,\xa0title\xa0", "\ufeff\ufeffId,TITLE"],
)
def test_header_may_differ_in_case_and_spaces(read: Read, write: Write, header: str) -> None:
    rows, problems = read(write("a.csv", f"{header}\n1,a\n"))
    assert not problems
    assert rows[0].values == {"id": "1", "title": "a"}
    assert list(rows[0].columns) == ["id", "title"]


def test_header_may_differ_in_unicode_form(values: Values, write: Write) -> None:
    assert values(write("a.csv", "id,cafe\u0301\n1,a\n"), ("id", "caf\xe9")) == [("1", "a")]


def test_exact_header_is_taken_first_and_two_near_ones_are_named(
    read: Read, values: Values, write: Write
) -> None:
    assert values(write("a.csv", "ID,id,title\n1,2,a\n")) == [("2", "a")]
    _, problems = read(write("a.csv", "ID,Id,title\n1,2,a\n2,3,b\n"))
    assert problems == ["'ID' and 'Id' could both be the column 'id'; rename one"]
    _, problems = read(write("a.jsonl", '{"ID": 1, "Id": 2}\n' * 9))
    assert problems == [
        "row 1 (line 1), row 2 (line 2), row 3 (line 3) and 6 more: 'ID' and 'Id' could both be "
        "the column 'id'; rename one"
    ]


def test_unnamed_and_repeated_columns_matter_only_if_wanted(read: Read, write: Write) -> None:
    path = write("a.csv", "id,title,,note,note,\n1,a,b,c,d,e\n")
    rows, problems = read(path, others=True)
    assert not problems
    assert rows[0].values == {"id": "1", "title": "a"}
    _, problems = read(path, ("id", "note"))
    assert problems == ["the column 'note' is there 2 times; rename one"]


def test_broken_rows_are_rows_that_say_why(write: Write) -> None:
    path = write("a.csv", 'id,title\n1,a\n2\n\n3,b,c\n4,"d" e\n5,f\n')
    problems = Problems()
    rows = list(read_rows(path, ["id"], problems, broken=True))
    assert [(row.number, row.line, bool(row.problem)) for row in rows] == [
        (1, 2, False), (2, 3, True), (3, 5, True), (4, 6, True), (5, 7, False),
    ]  # fmt: skip
    assert rows[1].problem == "row 2 (line 3): 1 fields, the header has 2"
    assert not problems


def test_what_ends_the_reading_is_no_row(write: Write) -> None:
    problems = Problems()
    path = write("a.csv", 'id,title\n1,a\n2,"b\n3,c\n')
    assert len(list(read_rows(path, ["id"], problems, broken=True))) == 1
    assert problems.first == ["row 2 (line 3): a quoted text that begins here is never closed"]
