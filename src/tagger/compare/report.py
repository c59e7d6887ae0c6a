"""Data types of comparisons: what the JSON files of `tagger compare` hold."""

from typing import ClassVar

from tagger.documents import Document, Record
from tagger.environment import Environment

Scores = dict[str, float | None]
"""By name; None where there is nothing to score, such as the precision of nothing published."""


class Difference(Record):
    """One approach minus another.

    Attributes:
        one: Name of the first.
        other: Name of the second.
        value: Difference of the mean scores over seeds.
        low: Lower end of the simultaneous interval.
        high: Upper end.
        proven: Whether the interval leaves out 0.
    """

    one: str
    other: str
    value: float
    low: float
    high: float
    proven: bool


class Promise(Record):
    """What the threshold policy promises, by whose rule `coverage` is scored."""

    target_precision: float
    confidence: float


class Costs(Record):
    """What an approach costs to keep and to ask, with so many threads."""

    mib: float
    p50_ms: float
    p99_ms: float
    threads: int


class ApproachResult(Record):
    """Scores and costs of an approach, and the approaches that it is proven better than."""

    scores: Scores
    seconds: float
    costs: Costs
    better_than: list[str]


class FewLabelsResult(Record):
    """F1 of an approach, and the approaches that it is proven better than."""

    weighted_f1: float
    macro_f1: float
    better_than: list[str]


class ComparisonReport(Document):
    """What all comparisons have; one subclass a kind."""

    WRITTEN_BY: ClassVar[str] = "tagger compare"

    environment: Environment


class ApproachesReport(ComparisonReport):
    """Approaches, cross-validated on one source; `differences` by score."""

    source: str
    rows: int
    seeds: int
    folds: int
    promise: Promise
    approaches: dict[str, ApproachResult]
    differences: dict[str, list[Difference]]


class FewLabelsReport(ComparisonReport):
    """Approaches that are trained on few labels of each tag, by their number."""

    labels: dict[str, dict[str, FewLabelsResult]]


class SourcesReport(ComparisonReport):
    """Approaches that are trained on each of two sources and on both.

    Attributes:
        sources: Rows by source.
        seeds: How often items were divided anew.
        folds: Into how many parts.
        approaches: By approach, by what it was trained on, by what it is scored on.
        gains_of_both: By source, the differences that training on both makes.
    """

    sources: dict[str, int]
    seeds: int
    folds: int
    approaches: dict[str, dict[str, dict[str, Scores]]]
    gains_of_both: dict[str, list[Difference]]
