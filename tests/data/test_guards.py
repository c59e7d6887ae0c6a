import pytest

from tagger.data.columns import INCLUSION, UNSAID
from tagger.data.guards import guard, unguard
from tagger.data.problems import Problems
from tagger.data.readers import Row
from tagger.data.validation import checked_rows

FORMULAS = ["=1+1", "+1", "-1", "@sum", "\tx", "\rx", "'=1", "''@x"]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_could_be_a_formula_is_guarded(text: str) -> None:
    assert guard(text) == f"'{text}"
    assert unguard(guard(text)) == text


@pytest.mark.parametrize("text", ["", "a = b", "'quoted'", "'", "don't", "ä-b", " =1"])
def test_other_texts_are_left_alone(text: str) -> None:
    assert guard(text) == unguard(text) == text


@pytest.mark.parametrize(("extra", "expected"), [((INCLUSION,), "=1"), ((), "'=1")])
def test_only_tables_that_were_guarded_are_read_without_the_guard(
    extra: tuple[str, ...], expected: str
) -> None:
    columns = {"title": "title", "tag": "tag"}
    values = {"title": "'=1", "tag": "a"}
    row = Row(1, 2, values, ["title", "tag", *extra])
    found = checked_rows([row], columns, None, Problems(), tag_needed=True, how=UNSAID)
    assert [item.title for _, item in found] == [expected]
