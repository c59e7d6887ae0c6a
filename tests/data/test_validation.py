from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.data.items import Item
from tagger.data.problems import Problems
from tagger.data.readers import Row
from tagger.data.validation import labelled_items, parse_moment, unlabelled_items

GOOD = {
    "id": "007",
    "created_on": "2020-02-20 06:43:18",
    "title": " A title ",
    "description": "A text.\n",
    "tag": "red",
}
LATEST = datetime(2026, 1, 1)


def make_rows(*changes: Mapping[str, str | None], line: int | None = None) -> list[Row]:
    rows = []
    for number, change in enumerate(changes, start=1):
        values = {"id": str(number), **{k: v for k, v in GOOD.items() if k != "id"}, **change}
        rows.append(Row(number, line and line + number, values, list(values)))
    return rows


def without(row: Row, *fields: str) -> Row:
    values = {name: value for name, value in row.values.items() if name not in fields}
    return Row(row.number, row.line, values, list(values))


def check(
    rows: Sequence[Row], tag_names: Sequence[str] = ("red", "green"), **options: Any
) -> tuple[list[Item], list[str]]:
    problems = Problems()
    items = labelled_items(rows, options.pop("columns", {}), tag_names, problems, **options)
    return items, problems.first


def test_good_row_becomes_an_item() -> None:
    items, problems = check([Row(1, 2, GOOD, list(GOOD))])
    assert problems == []
    assert items == [
        Item("007", "A title", "A text.", datetime(2020, 2, 20, 6, 43, 18), "red"),
    ]


def test_columns_are_renamed() -> None:
    row = Row(1, 2, {**GOOD, "tag": None, "label": "green"}, ["label"])
    items, problems = check([row], columns={"tag": "label"})
    assert problems == []
    assert items[0].tag == "green"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": " "}, "row 1 (line 2): id is empty"),
        ({"id": None}, "row 1 (line 2): id is empty"),
        ({"tag": ""}, "row 1 (line 2): tag is empty"),
        ({"created_on": ""}, "row 1 (line 2): created_on is empty"),
        ({"title": "", "description": " "}, "title and description are both blank"),
        ({"tag": "Green"}, "'Green' is no approved tag (did you mean 'green'?); approved are red"),
        ({"tag": "xyz"}, "'xyz' is no approved tag; approved are red, green"),
        ({"created_on": "2020-02-31"}, "created_on is '2020-02-31', not a date (day is out"),
        ({"created_on": "20/02/2020"}, "not a date; expected 2020-02-20 or"),
        ({"created_on": "9999-12-31T23:59:59-23:00"}, "not a date (date value out of range)"),
        ({"created_on": "1970-01-01"}, "expected 1990 or later"),
        ({"created_on": "2999-01-01"}, "lies in the future"),
    ],
)
def test_problem_of_a_row(change: dict[str, str | None], expected: str) -> None:
    items, problems = check(make_rows(change, {}, line=1))
    assert len(problems) == 1
    assert expected in problems[0]
    assert [item.id for item in items] == ["2"]


@pytest.mark.parametrize("blank", ["title", "description"])
def test_one_text_is_enough(blank: str) -> None:
    items, problems = check(make_rows({blank: None}))
    assert problems == []
    assert items[0].text


def test_all_problems_of_a_row_and_of_all_rows_are_listed() -> None:
    _, problems = check(make_rows({"tag": "x", "created_on": "x"}, {}, {"tag": "y"}))
    assert [problem.split(":")[0] for problem in problems] == ["row 1", "row 1", "row 3"]


def test_double_id_names_both_rows() -> None:
    _, problems = check(make_rows({"id": "a"}, {}, {"id": " a"}, line=1))
    assert problems == ["row 3 (line 4): the id 'a' is already that of row 1 (line 2)"]


def test_missing_column_is_reported_once_with_the_nearest_name() -> None:
    rows = [
        Row(n, None, {**without(r, "tag").values}, ["id", "Tags"])
        for n, r in enumerate(make_rows({}, {}, {}))
    ]
    _, problems = check(rows)
    assert problems == [
        "no column 'tag' (did you mean 'Tags'?): found 'id', 'Tags'; "
        "give its name: data.columns='{tag: NAME}'"
    ]


def test_all_missing_columns_are_reported() -> None:
    _, problems = check([without(make_rows({})[0], *GOOD)])
    assert [problem.split(":")[0] for problem in problems] == [
        f"no column '{field}'" for field in ("id", "created_on", "title", "description", "tag")
    ]


def test_wrong_separator_is_recognised() -> None:
    _, problems = check([Row(1, 2, {}, ["id;created_on;title;description;tag"])])
    assert "semicolons divide the columns, commas were expected" in problems[0]


def test_key_that_only_some_rows_lack_is_a_problem_of_those_rows() -> None:
    rows = make_rows({}, {}, {})
    rows[1] = without(rows[1], "tag")
    rows[2] = without(rows[2], "title", "description")
    items, problems = check(rows)
    assert problems == [
        "row 2: tag is missing",
        "row 3: title and description are both blank",
    ]
    assert [item.id for item in items] == ["1"]


def test_incomplete_sources_need_no_date_and_one_text() -> None:
    row = without(make_rows({})[0], "created_on", "title")
    items, problems = check([row], complete=False)
    assert problems == []
    assert items[0].created_on is None
    _, problems = check([without(row, "description")], complete=False)
    assert len(problems) == 1
    assert problems[0].startswith("no column 'title'")


def test_unlabelled_rows_need_an_id_and_a_text_only() -> None:
    rows = make_rows({"created_on": "x", "tag": "x"}, {"id": ""}, {"title": "", "description": ""})
    problems = Problems()
    items = list(unlabelled_items(rows, problems))
    assert items == [Item("1", "A title", "A text.")]
    assert problems.first == [
        "row 2: id is empty",
        "row 3: title and description are both blank",
    ]


def test_unlabelled_rows_without_the_columns() -> None:
    problems = Problems()
    assert list(unlabelled_items([Row(1, 2, {}, ["Id", "name"])], problems)) == []
    assert len(problems.first) == 2
    assert problems.first[0].startswith("no column 'id' (did you mean 'Id'?)")
    assert "data.columns" not in problems.first[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-02-20", datetime(2020, 2, 20)),
        ("2020-02-20T06:43:18", datetime(2020, 2, 20, 6, 43, 18)),
        ("2020-02-20 06:43:18+02:00", datetime(2020, 2, 20, 4, 43, 18)),
        ("2020-02-20 06:43:18.000000Z", datetime(2020, 2, 20, 6, 43, 18)),
        ("2020-02-20 23:00-05:00", datetime(2020, 2, 21, 4)),
    ],
)
def test_moments_are_read_into_utc(text: str, expected: datetime) -> None:
    assert parse_moment(text, LATEST) == expected


@given(st.text(max_size=30) | st.text("0123456789-:T +Z.W", max_size=30))
def test_any_text_is_a_moment_or_a_value_error(text: str) -> None:
    try:
        moment = parse_moment(text, LATEST)
    except ValueError:
        return
    assert moment.tzinfo is None
    assert 1990 <= moment.year <= LATEST.year
