"""Tests layouts of text tables: delimiters, headers, blank rows, arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagger.data.problems import Problems
from tagger.data.readers import Row, read_rows
from tagger.errors import UserError

Write = Callable[[str, str | bytes], Path]
WANTED = ("id", "title")
SHARED = Path(__file__).parents[3] / "shared" / "cases"


def read(
    path: Path, wanted: tuple[str, ...] = WANTED, **settings: Any
) -> tuple[list[Row], Problems]:
    problems = Problems()
    return [*read_rows(path, wanted, problems, **settings)], problems


def values(path: Path, wanted: tuple[str, ...] = WANTED, **settings: Any) -> list[tuple[Any, ...]]:
    rows, problems = read(path, wanted, **settings)
    assert problems.first == []
    return [tuple(row.values.get(name) for name in wanted) for row in rows]


# Delimiters


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt"])
def test_delimiter_is_found(write: Write, delimiter: str, name: str) -> None:
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


def test_delimiter_in_doubt_is_the_one_that_finds_wanted_columns(write: Write) -> None:
    # As many semicolons as commas in each line.
    text = "id;title,extra;x,y\n1;a,b;c,d\n2;e,f;g,h\n"
    assert values(write("a.csv", text), ("id",)) == [("1",), ("2",)]
    assert values(write("a.csv", text), ("y",)) == [("d",), ("h",)]


def test_delimiter_of_unknown_columns_is_the_one_that_rows_agree_with(write: Write) -> None:
    text = "Nr, lfd.;Text;Art\n1;a, b, c;x\n2;d;y\n"
    rows, problems = read(write("a.csv", text), ())
    assert not problems
    assert list(rows[0].columns) == ["Nr, lfd.", "Text", "Art"]


def test_texts_below_a_single_column_are_not_divided(write: Write) -> None:
    path = write("a.txt", "title\nfirst, second; third\n\nfourth | fifth\n")
    assert values(path, ("title",)) == [("first, second; third",), ("fourth | fifth",)]


@pytest.mark.parametrize("hint", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;"])
def test_first_line_of_excel_names_the_delimiter(write: Write, hint: str) -> None:
    rows, problems = read(write("a.csv", f"{hint}\r\nid;title\r\n1;a, b\r\n"))
    assert not problems
    assert [(row.line, dict(row.values)) for row in rows] == [(3, {"id": "1", "title": "a, b"})]


def test_given_delimiter_is_used_or_refused_in_one_message(write: Write) -> None:
    assert values(write("a.csv", "id~title\n1~a"), delimiter="~") == [("1", "a")]
    assert values(write("a.csv", "id\ttitle\n1\ta"), delimiter="\\t") == [("1", "a")]
    _, problems = read(write("a.csv", "id;title\n" + "1;a\n" * 50), delimiter="|")
    assert problems.first == [
        "the header 'id;title' has no '|', the delimiter that was given; it seems to be ';'"
    ]
    with pytest.raises(UserError, match="the delimiter ',,' cannot be used"):
        read(write("a.csv", "id,title\n1,a"), delimiter=",,")


# Rows and headers


def test_blank_rows_are_passed_over_and_counted(write: Write) -> None:
    text = "id,title,x\n,,\n1,a,b\n\n , ,\n2,c,d\n,,,,,\n"
    rows, problems = read(write("a.csv", text))
    assert [(row.number, row.line) for row in rows] == [(1, 3), (2, 6)]
    assert problems.first == []
    assert problems.skipped == 4


def test_blanks_after_delimiters_are_passed_over_if_the_header_has_them(write: Write) -> None:
    assert values(write("a.csv", 'id, title\n1, "a, b"\n')) == [("1", "a, b")]
    assert values(write("a.csv", "id,title\n1, a\n")) == [("1", " a")]


def test_blanks_after_the_last_column_are_passed_over(write: Write) -> None:
    assert values(write("a.csv", "id,title\n1,a,,\n2,b, \n")) == [("1", "a"), ("2", "b")]


def test_too_many_fields_are_told_once(write: Write) -> None:
    _, problems = read(write("a.csv", "id,title\n" + "1,a,b\n2,a,b,c\n" * 604))
    assert problems.first == [
        "row 1 (line 2): 3 fields, the header has 2 (put texts that hold ',' in double quotes); "
        "likewise row 2 (line 3), row 3 (line 4) and 1,205 more"
    ]


def test_comments_above_the_header_are_passed_over_and_no_others(write: Write) -> None:
    text = "# it's an \"export\n\n#second, line\nid,title\n#1,a\n"
    rows, problems = read(write("a.csv", text))
    assert not problems
    assert [(row.line, row.values["id"]) for row in rows] == [(5, "#1")]


def test_header_whose_first_column_is_a_hash_is_no_comment(write: Write) -> None:
    assert values(write("a.csv", "#,id,title\n1,2,a\n")) == [("2", "a")]


@pytest.mark.parametrize(
    "header",
    ["ID,Title", " id , title ", "\ufeffid,\xa0title\xa0", "\ufeff\ufeffId,TITLE"],
)
def test_header_may_differ_in_case_and_spaces(write: Write, header: str) -> None:
    rows, problems = read(write("a.csv", f"{header}\n1,a\n"))
    assert not problems
    assert rows[0].values == {"id": "1", "title": "a"}
    assert list(rows[0].columns) == ["id", "title"]


def test_header_may_differ_in_unicode_form(write: Write) -> None:
    assert values(write("a.csv", "id,cafe\u0301\n1,a\n"), ("id", "caf\xe9")) == [("1", "a")]


def test_exact_header_is_taken_first_and_two_near_ones_are_named(write: Write) -> None:
    assert values(write("a.csv", "ID,id,title\n1,2,a\n")) == [("2", "a")]
    _, problems = read(write("a.csv", "ID,Id,title\n1,2,a\n2,3,b\n"))
    assert problems.first == ["header: 'ID' and 'Id' could both be the column 'id'; rename one"]
    _, problems = read(write("a.jsonl", '{"ID": 1, "Id": 2}\n' * 9))
    assert problems.first == [
        "row 1 (line 1), row 2 (line 2), row 3 (line 3) and 6 more: 'ID' and 'Id' could both be "
        "the column 'id'; rename one"
    ]


def test_unnamed_and_repeated_columns_matter_only_if_wanted(write: Write) -> None:
    path = write("a.csv", "id,title,,note,note,\n1,a,b,c,d,e\n")
    rows, problems = read(path, others=True)
    assert not problems
    assert rows[0].values == {"id": "1", "title": "a"}
    _, problems = read(path, ("id", "note"))
    assert problems.first == ["header: the column 'note' is there 2 times; rename one"]


# JSON


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('[{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]', [1, 1]),
        ('\n[\n  {"id": 1,\n   "title": "a"},\n  {"id": 2, "title": "b"}\n]\n', [3, 5]),
        ('{"id": 1, "title": "a"}\n\n{"id": 2, "title": "b"}', [1, 3]),
        ('{\n"id": 1,\n"title": "a"\n}\n{\n"id": 2,\n"title": "b"\n}', [1, 5]),
        ('{"n": 2, "data": [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]}', [None, None]),
        (
            '{\n  "data": [\n{"id": 1, "title": "a"}, {"id": 2, "title": "b"}], "x": [1]\n}',
            [None, None],
        ),
    ],
)
def test_objects_are_read_however_they_are_laid_out(
    write: Write, name: str, text: str, lines: list[int | None]
) -> None:
    rows, problems = read(write(name, text))
    assert problems.first == []
    assert [dict(row.values) for row in rows] == [
        {"id": "1", "title": "a"},
        {"id": "2", "title": "b"},
    ]
    assert [row.line for row in rows] == lines


def test_lone_row_with_a_list_of_objects_stays_a_row(write: Write) -> None:
    path = write("a.json", '{"id": 1, "title": "a", "authors": [{"name": "b"}]}')
    assert values(path) == [("1", "a")]


@pytest.mark.parametrize(
    ("text", "read_before", "expected"),
    [
        ('[\n{"id": 1},\n{"id": 2\n', 1, "row 2 (line 3): not JSON at character"),
        ('[\n{"id": 1},\n{"id": 2}\n', 2, "row 3 (line 4): the array is never closed"),
        ('[\n{"id": 1}\n{"id": 2}]', 1, "row 2 (line 3): not JSON: a comma or ] was expected"),
    ],
)
def test_broken_array_is_one_problem_with_its_place(
    write: Write, text: str, read_before: int, expected: str
) -> None:
    rows, problems = read(write("a.json", text))
    assert len(rows) == read_before
    assert len(problems.first) == 1
    assert problems.first[0].startswith(expected)


def test_many_broken_lines_are_told_once(write: Write) -> None:
    _, problems = read(write("a.jsonl", "id,title\n1,a\n2,b\n3,c\n4,d\n"))
    assert len(problems.first) == 1
    assert problems.first[0].endswith("likewise row 2 (line 2), row 3 (line 3) and 2 more")


def test_unused_fields_of_json_may_hold_anything(write: Write) -> None:
    line = '{"id": 1, "title": true, "score": NaN, "x": -Infinity, "y": 1, "y": {"id": [1]}}'
    assert values(write("a.jsonl", line)) == [("1", "true")]


# What people bring


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
    rows, problems = read(SHARED / name, wanted)
    assert problems.first == []
    assert problems.skipped == skipped
    assert len(rows) == count
    assert all(set(row.values) == set(wanted) for row in rows)
