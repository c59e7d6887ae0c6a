"""Sums up a stream by stretches of rows, in constant memory: a long stream has longer stretches."""

from dataclasses import dataclass
from typing import Self

from pydantic import Field

from tagger.monitoring.betting import Kept

MOST = 120
"""Stretches; when they would be more, each two neighbours become one."""

ADDED = (
    "rows", "published", "confidence", "expected", "labelled", "right", "watched", "unwatched",
)  # fmt: skip


@dataclass(kw_only=True)  # no pydantic model, since one is made of each row
class Stretch:
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
        watched: Rows that were bet on.
        unwatched: Rows that came while an alarm of drift stood.
        evidence: The martingale of each score, and their average, after its last row.
        highest: The largest value of that average.
    """

    first_row: int
    first_date: str
    rows: int = 1
    published: int = 0
    confidence: float = 0.0
    tags: list[int]
    expected: float = 0.0
    labelled: int = 0
    right: int = 0
    watched: int = 0
    unwatched: int = 0
    evidence: list[float]
    highest: float

    def join(self, later: Self) -> None:
        """Take in the rows that follow."""
        for name in ADDED:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.tags = [one + other for one, other in zip(self.tags, later.tags, strict=True)]
        self.evidence = later.evidence
        self.highest = max(self.highest, later.highest)


class Timeline(Kept):
    """Stretches of equally many rows, in order.

    Attributes:
        step: Rows of a stretch.
        stretches: The last one may not be full yet.
    """

    step: int = 25
    stretches: list[Stretch] = Field(default_factory=list)

    def add(self, row: Stretch) -> None:
        """Add a row, which follows on those before."""
        if self.stretches and row.first_row < self.stretches[-1].first_row + self.step:
            self.stretches[-1].join(row)
            return
        if len(self.stretches) == MOST:
            for one, other in zip(self.stretches[::2], self.stretches[1::2], strict=True):
                one.join(other)
            self.stretches = self.stretches[::2]
            self.step *= 2
        self.stretches.append(row)
