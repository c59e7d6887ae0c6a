"""Reads dates and moments as people and programs write them, never guessing day from month."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from typing import Literal
from zoneinfo import ZoneInfo

DateOrder = Literal["iso", "day-first", "month-first"]

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_TIME = (
    r"(?:[T, ]+(?P<time>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?"
)
_DATES = (
    rf"(?P<year>\d{{4}})[/.](?P<month>\d{{1,2}})[/.](?P<day>\d{{1,2}}){_TIME}",
    rf"(?P<year>\d{{4}})-(?P<month>\d{{1,2}})(?:-(?P<day>\d{{1,2}}))?{_TIME}",
    r"(?P<day>\d{1,2})(?:st|nd|rd|th)?[ -]+(?P<name>[A-Za-z]{3,9})\.?,?[ -]+(?P<year>\d{4})"
    + _TIME,
    r"(?P<name>[A-Za-z]{3,9})\.?[ -]+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?[ -]+(?P<year>\d{4})"
    + _TIME,
    r"(?P<name>[A-Za-z]{3,9})\.?,?[ -]+(?P<year>\d{4})",
    r"(?P<year>\d{4})",
)
_NUMBERS = rf"(?P<first>\d{{1,2}})[/.-](?P<second>\d{{1,2}})[/.-](?P<year>\d{{4}}){_TIME}"

# Abbreviations that name one offset wherever they are used. CST, IST and BST name several.
_ZONES = {
    "UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3,
    "MSK": 3, "JST": 9, "KST": 9, "EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7,
}  # fmt: skip

# Seconds since 1970 by their number of digits, and as what fraction of a second they are given.
# 10 digits are the years 2001 to 2286; fewer could be anything, a day number of Excel too.
_EPOCH_UNITS = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}


def parse_moment(text: str, order: DateOrder = "iso") -> datetime:
    """Read a date or a moment; one with a zone is converted to UTC, one without is in UTC.

    Args:
        text: Such as 2020-02-20, 2020-02-20T06:43:18+01:00, 20 Feb 2020, 2020-02-20 06:43 CET,
            Thu, 20 Feb 2020 06:43:18 +0000, or seconds since 1970 (1582180998).
        order: Which number comes first where a date is three numbers that end in the year
            (20/02/2020); `iso` refuses these.

    Returns:
        The moment in UTC, without a zone. A month or a year alone is its first day.

    Raises:
        UnclearOrder: for three numbers that end in the year, where `order` is `iso`.
        ValueError: saying what was found and what was expected.
    """
    text = " ".join(text.split())
    try:
        moment = _read(text, order)
    except (ValueError, OverflowError, KeyError) as error:
        reason = f" ({error})" if isinstance(error, _Impossible | OverflowError) else ""
        raise ValueError(
            f"is {text[:60]!r}, not a date{reason}; expected 2020-02-20 or 2020-02-20 06:43:18"
        ) from None
    if moment is None:
        raise UnclearOrder(f"is {text[:60]!r}: is the day first, or the month?")
    return moment


def is_date(text: str) -> bool:
    """Whether a text is a date or a moment; one whose order of day and month is open is one too."""
    if text.isdecimal():
        return False  # seconds since 1970 as well as any other number
    try:
        parse_moment(text, "iso")
    except UnclearOrder:
        return True
    except ValueError:
        return False
    return True


def year_of(text: str) -> int | None:
    """Return the year of a date or moment (in UTC), whatever the order of its day and month.

    None where it is no date.
    """
    for order in ("day-first", "month-first"):
        with suppress(ValueError):
            return parse_moment(text, order).year
    return None


class UnclearOrder(ValueError):
    """A date of which nobody can tell whether the day or the month comes first."""


class _Impossible(ValueError):
    """A date that has the form of one and does not exist."""


def _read(text: str, order: DateOrder) -> datetime | None:
    """Return the moment; None where the order of day and month is needed and not given."""
    if text.isdecimal() and len(text) in _EPOCH_UNITS:
        return datetime(1970, 1, 1) + timedelta(
            microseconds=int(text) * 10**6 // _EPOCH_UNITS[len(text)]
        )
    try:
        return _to_utc(datetime.fromisoformat(text))
    except ValueError as error:
        # What has the form of an ISO date and is none is explained by Python's own words.
        if "isoformat" not in str(error):
            raise _Impossible(str(error)) from None
    plain, zone = _split_zone(text)
    found = re.fullmatch(_NUMBERS, plain)
    if found is not None:
        if order == "iso":
            return None
        at_day, at_month = ("first", "second") if order == "day-first" else ("second", "first")
        return _build(found, int(found[at_month]), int(found[at_day]), zone)
    for pattern in _DATES:
        found = re.fullmatch(pattern, plain)
        if found is not None:
            parts = found.groupdict()
            if "name" in parts:
                month = _MONTHS.index(parts["name"][:3].lower()) + 1
            else:
                month = int(parts.get("month") or 1)
            return _build(found, month, int(parts.get("day") or 1), zone)
    # As in the headers of e-mails and of web pages (RFC 5322).
    return _to_utc(parsedate_to_datetime(text))


def _build(found: re.Match[str], month: int, day: int, zone: tzinfo | None) -> datetime:
    time = (found.groupdict().get("time") or "0:00").replace(",", ".")
    hour, _, rest = time.partition(":")
    half = (found.groupdict().get("half") or "").replace(".", "").lower()
    if half:
        hour = str(int(hour) % 12 + 12 * (half == "pm"))
    try:
        date = datetime(int(found["year"]), month, day).date()
        moment = datetime.fromisoformat(f"{date.isoformat()}T{int(hour):02}:{rest}")
        return _to_utc(moment.replace(tzinfo=zone))
    except ValueError as error:
        raise _Impossible(str(error)) from None


def _split_zone(text: str) -> tuple[str, tzinfo | None]:
    """Take the name or the offset of a zone off the end of a moment, if there is one."""
    found = re.fullmatch(r"(.*:\d.*?) ?\(?([A-Za-z]+(?:/[A-Za-z_+-]+)*|[+-]\d{2}:?\d{2})\)?", text)
    if found is None or found[2].replace(".", "").lower() in ("am", "pm", "m"):
        return text, None
    name = found[2]
    if name[0] in "+-":
        sign = -1 if name[0] == "-" else 1
        return found[1], timezone(sign * timedelta(hours=int(name[1:3]), minutes=int(name[-2:])))
    if name.upper() in _ZONES:
        return found[1], timezone(timedelta(hours=_ZONES[name.upper()]))
    if "/" in name:
        return found[1], ZoneInfo(name)
    raise _Impossible(f"the zone {name!r} is unknown, or names several offsets")


def _to_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
