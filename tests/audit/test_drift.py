from dataclasses import replace
from datetime import datetime

import pytest

from tagger.audit.drift import LEAST_ROWS, describe_drift
from tagger.audit.table import read_table


@pytest.fixture
def items(toy_folder):
    """The toy items with a day for each, in the order of the file."""
    return [
        replace(item, created_on=datetime(2010 + number // 6, 1, 1 + number % 6))
        for number, item in enumerate(read_table(toy_folder / "items.csv", None).items)
    ]


def test_words_that_come_and_go_are_drift(items):
    for number, item in enumerate(items):
        word = "punchcard" if number < 30 else "cloudnative"
        items[number] = replace(item, title=f"{item.title} {word}")
    drift = describe_drift(items, range(60))
    assert [period.rows for period in drift.periods] == [15] * 4
    assert drift.periods[0].first_day == "2010-01-01"
    assert drift.periods[-1].last_day == "2019-01-06"
    assert drift.periods[0].tags == {"fruit": 5, "metal": 5, "weather": 5}
    assert (drift.rise[0].word, drift.fall[0].word) == ("cloudnative", "punchcard")
    assert (drift.rise[0].before, drift.rise[0].after) == (0, 15)
    assert drift.auc > 0.7
    assert drift.p_value > 0.5
    assert drift.periods[-1].tag_distance == pytest.approx(0)


def test_tags_that_change_over_time_are_drift(items):
    items = [replace(one, tag="fruit" if n < 30 else one.tag) for n, one in enumerate(items)]
    drift = describe_drift(items, range(60))
    assert drift.p_value < 0.01
    assert drift.periods[1].tag_distance == pytest.approx(0)
    assert drift.periods[-1].tag_distance > 0.5


def test_untagged_texts_drift_by_their_words_alone(items):
    drift = describe_drift([replace(item, tag=None) for item in items], range(60))
    assert drift.p_value is None
    assert {period.tag_distance for period in drift.periods} == {None}
    assert 0 < drift.auc < 1


def test_too_few_groups_leave_separability_out(items):
    assert describe_drift(items, [n % 3 for n in range(60)]).auc is None


def test_what_has_too_few_dates_is_not_compared(items):
    dated = LEAST_ROWS - 1
    few = items[:dated] + [replace(item, created_on=None) for item in items[dated:]]
    assert describe_drift(few, range(60)) is None
    same = [replace(item, created_on=items[0].created_on) for item in items]
    assert describe_drift(same, range(60)) is None
