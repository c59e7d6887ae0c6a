import pytest

from tagger.evaluation.report import Score
from tagger.reporting.numbers import (
    difference,
    label,
    milliseconds,
    number,
    plural,
    score,
    sentence,
    share,
    short_score,
)

ONE = Score(value=0.9134, low=0.8476, high=0.9517)
FALL = Score(value=-0.09, low=-0.21, high=0.04)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (score(ONE), "0.913 [0.848, 0.952]"),
        (score(None), "-"),
        (short_score(ONE), "0.913 .85-.95"),
        (short_score(Score(value=1, low=0, high=1)), "1.000 .00-1.0"),
        (difference(FALL), "-0.090 [-0.210, +0.040]"),
        (difference(FALL, 1), "-0.1 [-0.2, +0.0]"),
        (number(1234.56, 1), "1,234.6"),
        (number(None, 1), "-"),
        (share(0.0421), "4.2%"),
        (share(None), "-"),
        (plural(1, "error"), "1 error"),
        (plural(1204, "error"), "1,204 errors"),
        (sentence("none is left"), "None is left."),
        (label("macro_f1"), "macro F1"),
    ],
)
def test_numbers_are_written_for_people(found: str, expected: str) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.12345, "0.123"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1,234"), (None, "-")],
)
def test_times_have_three_digits(value: float | None, expected: str) -> None:
    assert milliseconds(value) == expected
