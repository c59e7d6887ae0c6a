from dataclasses import replace

import pytest

from tagger.audit.review_log import (
    ReviewDecision,
    append_decisions,
    decisions_path,
    read_decisions,
    settled_rows,
)
from tagger.audit.table import read_table
from tagger.errors import UserError


@pytest.fixture
def data(toy_rows, write_rows, tmp_path):
    return write_rows(tmp_path / "items.csv", toy_rows)


@pytest.fixture
def keep(data):
    """The decision that the tag of t03 is right."""
    item = read_table(data, None).items[3]
    return ReviewDecision(
        item.id, item.content_hash, "keep", "fruit", "fruit", "Ada", "2026-11-29T10:00:00+00:00",
        'it says "apple", twice', "before", "after",
    )  # fmt: skip


def test_decisions_are_appended_and_come_back(data, keep):
    assert read_decisions(data) == []
    append_decisions(data, [keep])
    append_decisions(data, [replace(keep, action="drop", tag_after="")])
    assert [one.action for one in read_decisions(data)] == ["keep", "drop"]
    assert read_decisions(data)[0] == keep
    assert decisions_path(data).name == "items.decisions.csv"


def test_a_decision_settles_a_row_until_its_text_or_tag_changes(data, keep, toy_rows, write_rows):
    later = replace(keep, by="Bob")
    assert settled_rows(read_table(data, None), [keep, later]) == {3: later}
    assert settled_rows(read_table(data, None), [replace(keep, action="drop")]) == {}
    for change in ({"title": "new"}, {"tag": "metal"}):
        rows = [*toy_rows[:3], toy_rows[3] | change, *toy_rows[4:]]
        assert settled_rows(read_table(write_rows(data, rows), None), [keep]) == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [("action", "acton", "no column 'action' (did you mean 'acton'?)"),
     (",keep,", ",kept,", "row 1 (line 2): action is 'kept', expected keep, relabel, drop")],
)  # fmt: skip
def test_a_damaged_log_is_refused(data, keep, old, new, expected):
    append_decisions(data, [keep])
    path = decisions_path(data)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match="is no log of decisions") as caught:
        read_decisions(data)
    assert expected in str(caught.value)
