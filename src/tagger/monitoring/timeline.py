"""Sums up a stream by stretches of rows, in constant memory: a long stream has longer stretches."""

from typing import Self

from pydantic import Field

from tagger.monitoring.betting import Kept

MOST = 120
"""Stretches; when they would be more, each two neighbours become one."""


class Stretch(Kept):
    """What came in during some rows.

    Attributes:
        first_row: Its number, from 1.
        first_date: As it is written; "" where there are no dates.
        rows: How many, those that could not be answered left out.
        published: How many got a tag.
        confidence: Sum of the highest calibrated probabilities.
        tags: How many rows have each tag for the most probable one, in the run's order.
        expected: Sum of the calibrated probabilities of published tags.
        labelled: Published rows that have a label.
        right: Those whose tag is the label.
        evidence: The martingale of each score, and their average, after its last row.
    """

    first_row: int
    first_date: str
    rows: int = 0
    published: int = 0
    confidence: float = 0.0
    tags: list[int]
    expected: float = 0.0
    labelled: int = 0
    right: int = 0
    evidence: list[float] = Field(default_factory=list)

    def join(self, later: Self) -> None:
        """Take in the stretch that follows."""
        for name in ("rows", "published", "confidence", "expected", "labelled", "right"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.tags = [one + other for one, other in zip(self.tags, later.tags, strict=True)]
        self.evidence = later.evidence


class Timeline(Kept):
    """Stretches of equally many rows, in order.

    Attributes:
        step: Rows of a stretch.
        stretches: The last one may not be full yet.
    """

    step: int = 25
    stretches: list[Stretch] = Field(default_factory=list)

    def stretch(self, row: int, date: str, tags: int) -> Stretch:
        """Return the stretch that a row, which follows on those before, belongs to."""
        if not self.stretches or row >= self.stretches[-1].first_row + self.step:
            if len(self.stretches) == MOST:
                for one, other in zip(self.stretches[::2], self.stretches[1::2], strict=True):
                    one.join(other)
                self.stretches = self.stretches[::2]
                self.step *= 2
            first = (row - 1) // self.step * self.step + 1
            if not self.stretches or first > self.stretches[-1].first_row:
                self.stretches.append(Stretch(first_row=first, first_date=date, tags=[0] * tags))
        return self.stretches[-1]
