from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest

from tagger.data.columns import TableFormat
from tagger.data.items import FIELDS, Item
from tagger.data.problems import Problems
from tagger.data.readers import Row
from tagger.data.validation import checked_rows, item_of

GOOD = {
    "id": "007",
    "created_on": "2020-02-20 06:43:18",
    "title": " A title ",
    "description": "A text.\n",
    "tag": "red",
}
COLUMNS = {field: field for field in FIELDS}


def make_rows(*changes: Mapping[str, str | None], line: int | None = None) -> list[Row]:
    rows = []
    for number, change in enumerate(changes, start=1):
        values = {"id": str(number), **{k: v for k, v in GOOD.items() if k != "id"}, **change}
        rows.append(Row(number, line and line + number, values, list(values)))
    return rows


def check(
    rows: Sequence[Row],
    columns: Mapping[str, str] = COLUMNS,
    tags: Collection[str] | None = ("red", "green"),
    tag_needed: bool = True,
    **how: Any,
) -> tuple[list[Item], list[str]]:
    problems = Problems()
    how = {"takes": "keys", **how}
    checked = checked_rows(
        rows, columns, tags, problems, tag_needed=tag_needed, how=TableFormat(**how)
    )
    return [item for _, item in checked], problems.first


def test_good_row_becomes_an_item() -> None:
    items, problems = check([Row(1, 2, GOOD, list(GOOD))])
    assert problems == []
    assert items == [
        Item("007", "A title", "A text.", datetime(2020, 2, 20, 6, 43, 18), "red"),
    ]


def test_a_text_and_a_tag_are_enough() -> None:
    rows = [Row(n, None, {"body": f"text {n}", "label": "x"}, ["body", "label"]) for n in (1, 2)]
    items, problems = check(rows, {"description": "body", "tag": "label"}, tags=None)
    assert problems == []
    assert items == [Item("1", "", "text 1", None, "x"), Item("2", "", "text 2", None, "x")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": " "}, "row 1 (line 2): the id is blank; data.columns='{id: \"\"}' numbers"),
        ({"id": None}, "row 1 (line 2): the id is blank"),
        ({"tag": ""}, "row 1 (line 2): no tag: the column 'tag' is blank"),
        ({"title": "", "description": " "}, "no text: 'title' and 'description' are blank"),
        ({"tag": "Green"}, "'Green' is none of the 2 tags (did you mean 'green'?): red, green"),
        ({"tag": "re\nd"}, "the tag 're\\nd' has a line break"),
        ({"tag": "x" * 101}, "has 101 characters"),
        ({"tag": "Needs Review"}, "says that a person is asked"),
        ({"created_on": "2020-02-31"}, "created_on is '2020-02-31', not a date (day is out"),
        ({"created_on": "20/02/2020"}, "data.dates=day-first reads 03/02/2020 as 3 February"),
        ({"created_on": "x"}, "data.columns='{created_on: \"\"}' leaves the dates out"),
    ],
)
def test_problem_of_a_row(change: dict[str, str | None], expected: str) -> None:
    items, problems = check(make_rows(change, {}, line=1))
    assert len(problems) == 1
    assert expected in problems[0]
    assert [item.id for item in items] == ["2"]


def test_hints_are_what_the_command_takes() -> None:
    _, problems = check(make_rows({"created_on": "20/02/2020"}), takes="options")
    assert "--dates day-first" in problems[0]
    assert "--columns '{created_on: \"\"}'" in problems[0]
    assert "data." not in problems[0]


def test_dates_are_optional_and_of_any_year() -> None:
    items, problems = check(make_rows({"created_on": ""}, {"created_on": "1987-02-26"}))
    assert problems == []
    assert [item.created_on for item in items] == [None, datetime(1987, 2, 26)]


@pytest.mark.parametrize("blank", ["title", "description"])
def test_one_text_is_enough(blank: str) -> None:
    items, problems = check(make_rows({blank: None}))
    assert problems == []
    assert items[0].text


def test_one_mistake_in_many_rows_is_told_in_one_line() -> None:
    _, problems = check(make_rows(*[{"tag": ""}] * 500, *[{"created_on": "x"}] * 500))
    assert len(problems) == 2
    assert problems[0].startswith("row 1, row 2, row 3 and 497 more: no tag")


def test_double_id_names_both_rows() -> None:
    _, problems = check(make_rows({"id": "a"}, {}, {"id": " a"}, line=1))
    assert len(problems) == 1
    assert problems[0].startswith("row 3 (line 4): the id 'a' is already that of row 1 (line 2)")


def test_unicode_forms_of_a_tag_are_one() -> None:
    items, problems = check(make_rows({"tag": "Caf\u00e9"}, {"tag": "Cafe\u0301"}), tags=None)
    assert problems == []
    assert {item.tag for item in items} == {"Caf\u00e9"}


def test_a_message_with_300_tags_fits_a_screen() -> None:
    tags = [f"tag {n:03}" for n in range(300)]
    _, problems = check(make_rows({"tag": "x"}), tags=tags)
    assert "and 280 more" in problems[0]
    assert len(problems[0]) < 400


def test_rows_without_tags_can_be_taken() -> None:
    items, problems = check(make_rows({"tag": ""}), tag_needed=False)
    assert problems == []
    assert items[0].tag is None


def test_the_id_of_a_row_stays_as_it_is_written() -> None:
    row = Row(5, None, {"id": " 007 ", "title": " x "}, ["id", "title"])
    assert item_of(row, {"id": "id", "title": "title"}) == Item(" 007 ", "x", "")
    assert item_of(row, {"title": "title"}) == Item("5", "x", "")


@pytest.mark.parametrize(("written", "weight"), [("1", 1.0), (" 0.25 ", 0.25), ("3e2", 300.0)])
def test_a_weight_is_a_number(written: str, weight: float) -> None:
    items, problems = check(make_rows({"weight": written}), {**COLUMNS, "weight": "weight"})
    assert problems == []
    assert [item.weight for item in items] == [weight]


@pytest.mark.parametrize("written", ["0", "-1", "nan", "inf", "heavy", "", None])
def test_what_is_no_weight_is_refused(written: str | None) -> None:
    items, problems = check(make_rows({"weight": written}), {**COLUMNS, "weight": "weight"})
    assert items == []
    assert problems == [f"row 1: the weight {written or ''!r} is no number above 0"]
