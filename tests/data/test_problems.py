import pytest

from tagger.data.problems import KINDS, Problems, did_you_mean
from tagger.errors import UserError


def test_nothing_is_raised_without_problems() -> None:
    problems = Problems()
    problems.raise_if_any("wrong")
    assert not problems


def test_kinds_are_listed_up_to_the_cap_and_the_rest_is_counted() -> None:
    problems = Problems()
    for number in range(KINDS + 1200):
        problems.add(f"problem {number}")
    with pytest.raises(UserError, match="wrong") as caught:
        problems.raise_if_any("wrong", "mend it")
    assert caught.value.problems[0] == "problem 0"
    assert caught.value.problems[KINDS - 1 :] == (f"problem {KINDS - 1}", "... and 1,200 more")
    assert caught.value.hint == "mend it"


def test_equal_problems_are_one_line_with_the_first_places_and_a_count() -> None:
    problems = Problems()
    for number in range(1, 1208):
        problems.add("id is empty", f"row {number}")
    assert problems.first == ["row 1, row 2, row 3 and 1,204 more: id is empty"]
    assert problems.count == 1207


def test_a_place_stands_before_its_problem_and_a_repeated_one_without_place_is_counted() -> None:
    problems = Problems()
    problems.add("id is empty", "row 3 (line 4)")
    problems.add("no column 'tag'")
    problems.add("twice")
    problems.add("twice")
    assert problems.first == [
        "row 3 (line 4): id is empty",
        "no column 'tag'",
        "twice (2 times)",
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, "row 0: '0' is no tag"),
        (3, "row 0: '0' is no tag; likewise row 1, row 2"),
        (9, "row 0: '0' is no tag; likewise row 1, row 2 and 6 more"),
    ],
)
def test_one_kind_with_words_that_differ_shows_those_of_the_first(rows: int, expected: str) -> None:
    problems = Problems()
    for number in range(rows):
        problems.add(f"'{number}' is no tag", f"row {number}", kind="no tag")
    assert problems.first == [expected]


def test_nearest_name_ignores_case_and_is_left_out_when_none_is_near() -> None:
    assert did_you_mean("TITLE", ["id", "title"]) == " (did you mean 'title'?)"
    assert did_you_mean("title", ["id", "body"]) == ""
