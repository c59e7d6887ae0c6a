"""Tests the reading of CSV and its relatives: delimiters, headers, blank rows."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagger.data.problems import Problems
from tagger.data.readers import Row, delimited, read_rows
from tagger.errors import UserError

Read = Callable[..., tuple[list[Row], list[str]]]
Values = Callable[..., list[Any]]
Write = Callable[[str, str | bytes], Path]
WANTED = ("id", "title")


def test_rows_know_their_number_line_and_columns(read: Read, write: Write) -> None:
    rows, _ = read(write("a.csv", 'id,title,more\n1,"two\nlines",x\n\n2,b,y\n'))
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 5)]
    assert list(rows[0].columns) == ["id", "title", "more"]
    assert rows[1].place == "row 2 (line 5)"
    assert rows[0].values == {"id": "1", "title": "two\nlines"}


def test_long_field_is_read(values: Values, write: Write) -> None:
    title = "x" * 1_000_000
    assert values(write("a.csv", f'id,title\n1,"{title}"')) == [("1", title)]


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
            "line 2: byte 0xe9 is not UTF-8; as CP1252 it reads 'café': iconv",
        ),
        ("id,title\n1,a".encode("utf-16-le"), "or UTF-16 without a byte order mark"),
        ("id,title\n1,a\n".encode("utf-16")[:-1], "begins as UTF-16-LE text and does not go on"),
        ("id,title\n1,é".encode()[:-1], "line 2: the file ends inside a character"),
    ],
)
def test_csv_problems(read: Read, write: Write, content: str | bytes, expected: str) -> None:
    _, problems = read(write("a.csv", content))
    assert len(problems) == 1
    assert expected in problems[0]


def test_unclosed_quote_in_a_long_file_is_bounded(
    read: Read, write: Write, monkeypatch: pytest.MonkeyPatch
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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt"])
def test_delimiter_is_found(
    values: Values, read: Read, write: Write, delimiter: str, name: str
) -> None:
    others = ",;\t|".replace(delimiter, "")
    table = [("id", "title"), ("1", '"all,;\t|"'), ("2", f"a{others}b"), ("3", '"two\nlines"')]
    rows, problems = read(write(name, "\n".join(map(delimiter.join, table))))
    assert not problems
    assert [tuple(row.values.values()) for row in rows] == [
        ("1", "all,;\t|"),
        ("2", f"a{others}b"),
        ("3", "two\nlines"),
    ]
    assert [row.line for row in rows] == [2, 3, 4]


def test_delimiter_in_doubt_is_the_one_that_finds_wanted_columns(
    values: Values, write: Write
) -> None:
    # As many semicolons as commas in each line.
    text = "id;title,extra;x,y\n1;a,b;c,d\n2;e,f;g,h\n"
    assert values(write("a.csv", text), ("id",)) == [("1",), ("2",)]
    assert values(write("a.csv", text), ("y",)) == [("d",), ("h",)]


def test_delimiter_of_unknown_columns_is_the_one_that_rows_agree_with(
    read: Read, write: Write
) -> None:
    text = "Nr, lfd.;Text;Art\n1;a, b, c;x\n2;d;y\n"
    rows, problems = read(write("a.csv", text), ())
    assert not problems
    assert list(rows[0].columns) == ["Nr, lfd.", "Text", "Art"]


def test_texts_below_a_single_column_are_not_divided(values: Values, write: Write) -> None:
    path = write("a.txt", "title\nfirst, second; third\n\nfourth | fifth\n")
    assert values(path, ("title",)) == [("first, second; third",), ("fourth | fifth",)]


@pytest.mark.parametrize("hint", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;"])
def test_first_line_of_excel_names_the_delimiter(read: Read, write: Write, hint: str) -> None:
    rows, problems = read(write("a.csv", f"{hint}\r\nid;title\r\n1;a, b\r\n"))
    assert not problems
    assert [(row.line, dict(row.values)) for row in rows] == [(3, {"id": "1", "title": "a, b"})]


def test_given_delimiter_is_used_or_refused_in_one_message(
    read: Read, values: Values, write: Write
) -> None:
    assert values(write("a.csv", "id~title\n1~a"), delimiter="~") == [("1", "a")]
    assert values(write("a.csv", "id\ttitle\n1\ta"), delimiter="\\t") == [("1", "a")]
    _, problems = read(write("a.csv", "id;title\n" + "1;a\n" * 50), delimiter="|")
    assert problems == [
        "the header 'id;title' has no '|', the delimiter that was given; it seems to be ';'"
    ]
    with pytest.raises(UserError, match="the delimiter ',,' cannot be used"):
        read(write("a.csv", "id,title\n1,a"), delimiter=",,")


def test_blank_rows_are_passed_over_and_counted(write: Write) -> None:
    text = "id,title,x\n,,\n1,a,b\n\n , ,\n2,c,d\n,,,,,\n"
    problems = Problems()
    rows = [*read_rows(write("a.csv", text), WANTED, problems)]
    assert [(row.number, row.line) for row in rows] == [(1, 3), (2, 6)]
    assert not problems
    assert problems.skipped == 4


def test_blanks_after_delimiters_are_passed_over_if_the_header_has_them(
    values: Values, write: Write
) -> None:
    assert values(write("a.csv", 'id, title\n1, "a, b"\n')) == [("1", "a, b")]
    assert values(write("a.csv", "id,title\n1, a\n")) == [("1", " a")]


def test_blanks_after_the_last_column_are_passed_over(values: Values, write: Write) -> None:
    assert values(write("a.csv", "id,title\n1,a,,\n2,b, \n")) == [("1", "a"), ("2", "b")]


def test_too_many_fields_are_told_once(read: Read, write: Write) -> None:
    _, problems = read(write("a.csv", "id,title\n" + "1,a,b\n2,a,b,c\n" * 604))
    assert problems == [
        "row 1 (line 2): 3 fields, the header has 2 (put texts that hold ',' in double quotes); "
        "likewise row 2 (line 3), row 3 (line 4) and 1,205 more"
    ]


def test_comments_above_the_header_are_passed_over_and_no_others(read: Read, write: Write) -> None:
    text = "# it's an \"export\n\n#second, line\nid,title\n#1,a\n"
    rows, problems = read(write("a.csv", text))
    assert not problems
    assert [(row.line, row.values["id"]) for row in rows] == [(5, "#1")]


def test_header_whose_first_column_is_a_hash_is_no_comment(values: Values, write: Write) -> None:
    assert values(write("a.csv", "#,id,title\n1,2,a\n")) == [("2", "a")]
