"""Formats numbers for people, the same way in all reports."""

from tagger.compare.report import Difference
from tagger.evaluation.report import Score


def score(one: Score | None) -> str:
    """Format a value with its interval, `0.913 [0.848, 0.952]`; `-` for none."""
    return "-" if one is None else f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def short_score(one: Score) -> str:
    """Format a value with its interval for a terminal of 80 columns: `0.913 .85-1.0`."""
    ends = [f"{end:.2f}".removeprefix("0").replace("1.00", "1.0") for end in (one.low, one.high)]
    return f"{one.value:.3f} {'-'.join(ends)}"


def difference(one: Score | Difference, digits: int = 3) -> str:
    """Format a difference with its interval: `+0.026 [-0.009, +0.061]`."""
    value, low, high = (f"{number:+.{digits}f}" for number in (one.value, one.low, one.high))
    return f"{value} [{low}, {high}]"


def number(value: float | None, digits: int) -> str:
    """Format a number to some digits after the point; `-` for none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """Format a share as a percentage, `4.2%`; `-` for none."""
    return "-" if value is None else f"{value:.1%}"


def milliseconds(value: float | None) -> str:
    """Format a time to about three digits; `-` for what was not measured."""
    if value is None:
        return "-"
    return number(value, 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0)


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `1 error`, `1,204 errors`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def sentence(text: str) -> str:
    """Make a clause a sentence: a capital at its head, a full stop at its end."""
    return text[:1].upper() + text[1:] + "."


def label(key: str) -> str:
    """Write a score's key as people do: `macro_f1` as `macro F1`."""
    return key.replace("_", " ").replace("f1", "F1")
