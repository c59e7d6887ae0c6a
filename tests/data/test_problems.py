import pytest

from tagger.data.problems import SHOWN, Problems, did_you_mean
from tagger.errors import UserError


def test_nothing_is_raised_without_problems() -> None:
    problems = Problems()
    problems.raise_if_any("wrong")
    assert not problems


def test_all_problems_are_listed_up_to_the_cap_and_the_rest_is_counted() -> None:
    problems = Problems()
    for number in range(SHOWN + 1200):
        problems.add(f"problem {number}")
    with pytest.raises(UserError, match="wrong") as caught:
        problems.raise_if_any("wrong", "mend it")
    assert caught.value.problems[0] == "problem 0"
    assert caught.value.problems[SHOWN - 1 :] == (f"problem {SHOWN - 1}", "... and 1,200 more")
    assert caught.value.hint == "mend it"


def test_extending_keeps_the_cap_and_the_count() -> None:
    problems, more = Problems(), Problems()
    for number in range(SHOWN - 1):
        problems.add(f"first {number}")
    for number in range(3):
        more.add(f"second {number}")
    problems.extend(more)
    assert problems.count == SHOWN + 2
    assert problems.first[-1] == "second 0"
    assert len(problems.first) == SHOWN


def test_nearest_name_ignores_case_and_is_left_out_when_none_is_near() -> None:
    assert did_you_mean("TITLE", ["id", "title"]) == " (did you mean 'title'?)"
    assert did_you_mean("title", ["id", "body"]) == ""
