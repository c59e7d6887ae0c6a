from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.data.dates import UnclearOrder, is_date, parse_moment, year_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-02-20", datetime(2020, 2, 20)),
        ("20200220", datetime(2020, 2, 20)),
        ("2020/2/3", datetime(2020, 2, 3)),
        ("2020.02.03", datetime(2020, 2, 3)),
        ("2020-2-3 7:05", datetime(2020, 2, 3, 7, 5)),
        ("2020", datetime(2020, 1, 1)),
        ("2020-02", datetime(2020, 2, 1)),
        ("Feb 2020", datetime(2020, 2, 1)),
        ("1987-02-26", datetime(1987, 2, 26)),
        ("0001-01-01", datetime(1, 1, 1)),
        ("2999-01-01", datetime(2999, 1, 1)),
        ("2020-02-20T06:43:18", datetime(2020, 2, 20, 6, 43, 18)),
        ("2020-02-20 06:43:18+02:00", datetime(2020, 2, 20, 4, 43, 18)),
        ("2020-02-20 06:43:18.000000Z", datetime(2020, 2, 20, 6, 43, 18)),
        ("2020-02-20 23:00-05:00", datetime(2020, 2, 21, 4)),
        ("2020-02-20 06:43:18.123456789", datetime(2020, 2, 20, 6, 43, 18, 123456)),
        ("2020-02-20 06:43:18 UTC", datetime(2020, 2, 20, 6, 43, 18)),
        ("2020-02-20 06:43 GMT", datetime(2020, 2, 20, 6, 43)),
        ("2020-02-20 06:43 CET", datetime(2020, 2, 20, 5, 43)),
        ("2020-02-20 06:43 PDT", datetime(2020, 2, 20, 13, 43)),
        ("2020-07-20 06:43 Europe/Berlin", datetime(2020, 7, 20, 4, 43)),
        ("20 Feb 2020", datetime(2020, 2, 20)),
        ("February 20th, 2020", datetime(2020, 2, 20)),
        ("Feb 20, 2020 6:43 PM", datetime(2020, 2, 20, 18, 43)),
        ("Feb 20, 2020 12:10 a.m.", datetime(2020, 2, 20, 0, 10)),
        ("Thu, 20 Feb 2020 06:43:18 +0100", datetime(2020, 2, 20, 5, 43, 18)),
        ("Thu Feb 20 06:43:18 2020", datetime(2020, 2, 20, 6, 43, 18)),
        ("1582180998", datetime(2020, 2, 20, 6, 43, 18)),
        ("1582180998000", datetime(2020, 2, 20, 6, 43, 18)),
    ],
)
def test_moments_are_read_into_utc(text: str, expected: datetime) -> None:
    assert parse_moment(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-02-31", "not a date (day is out of range"),
        ("2020-13-01", "not a date"),
        ("9999-12-31T23:59:59-23:00", "not a date (date value out of range)"),
        ("2020-02-20 06:43 CST", "'CST' is unknown, or names several offsets"),
        ("43881", "not a date"),
        ("1.5", "not a date"),
        ("Foo 20, 2020", "not a date"),
        ("last week", "expected 2020-02-20 or 2020-02-20 06:43:18"),
    ],
)
def test_what_is_no_date_is_named(text: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_moment(text)
    assert expected in str(caught.value)


@pytest.mark.parametrize("text", ["03/02/2020", "3.2.2020", "03-02-2020 10:00", "31/12/2020"])
def test_day_and_month_are_never_guessed(text: str) -> None:
    with pytest.raises(UnclearOrder, match="day first, or the month"):
        parse_moment(text)
    assert is_date(text)


def test_the_order_is_taken_from_the_user() -> None:
    assert parse_moment("03/02/2020 10:00", "day-first") == datetime(2020, 2, 3, 10)
    assert parse_moment("03/02/2020", "month-first") == datetime(2020, 3, 2)
    with pytest.raises(ValueError, match="month must be"):
        parse_moment("12/31/2020", "day-first")
    # A date that starts with its year has one order only.
    assert parse_moment("2020-02-03", "month-first") == datetime(2020, 2, 3)


@pytest.mark.parametrize("text", ["1582180998", "2020", "x", "", "apple pie"])
def test_numbers_and_words_do_not_make_a_column_of_dates(text: str) -> None:
    assert not is_date(text)


@given(st.text(max_size=30) | st.text("0123456789-:T +Z.W/,aApPmM", max_size=30))
def test_any_text_is_a_moment_or_a_value_error(text: str) -> None:
    for order in ("iso", "day-first", "month-first"):
        try:
            moment = parse_moment(text, order)
        except ValueError:
            continue
        assert moment.tzinfo is None


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("2020-02-20 06:43", 2020), ("20/02/2019", 2019), ("02/20/2019", 2019),
        ("1582180998", 2020), ("2020-01-01 00:30+01:00", 2019), ("", None), ("soon", None),
        ("31/31/2020", None),
    ],
)  # fmt: skip
def test_the_year_of_a_date_needs_no_order_of_day_and_month(text: str, year: int | None) -> None:
    assert year_of(text) == year
