"""Data types of an audit: what `audit.json` holds. docs/audit.md explains each key."""

from typing import ClassVar

from tagger.documents import Document, Record
from tagger.environment import Environment


class DataFile(Record):
    """The file that was audited; `rows` are usable ones, `fields` its columns by our names."""

    path: str
    file_sha256: str
    version: str
    rows: int
    columns: list[str]
    fields: dict[str, str]
    notes: list[str]
    against: list[str]
    split_column: str | None


class InvalidRows(Record):
    """Problems of rows that cannot be used: their number, and the first ones in words."""

    count: int
    first: list[str]


class TagCounts(Record):
    """Rows by tag; `imbalance` is the largest count over the smallest, None if a tag is absent."""

    rows: dict[str, int]
    untagged: int
    absent: list[str]
    imbalance: float | None


class WordCounts(Record):
    """Quantiles (0, 10, 25, 50, 75, 90, 100 %) of the words of titles and of descriptions."""

    title: list[float]
    description: list[float]


class TagDependence(Record):
    """P-values (Kruskal-Wallis) of date and length against the tag; None where not testable."""

    created_on: float | None
    words: float | None


class Sample(Record):
    """How the rows spread over years, tags and lengths."""

    years: dict[str, dict[str, int]]
    undated: int
    words: dict[str, WordCounts]
    no_description: dict[str, int]
    p_values: TagDependence


class RepeatCounts(Record):
    """Groups of one kind, their rows beyond the first, and how many groups are in conflict."""

    groups: int
    repeated_rows: int
    conflicts: int
    across: int


class RepeatedRow(Record):
    """A row of a group of repeats, by its index in all files, and the part that it belongs to."""

    row: int
    id: str
    file: str
    place: str
    part: str
    title: str
    tag: str | None


class RepeatGroup(Record):
    """Rows that repeat each other; settled once a person decided on all of them."""

    kind: str
    conflict: bool
    across: bool
    settled: bool
    rows: list[RepeatedRow]


class Repeats(Record):
    """Repeats counted by kind, and all groups."""

    kinds: dict[str, RepeatCounts]
    groups: list[RepeatGroup]


class Settlement(Record):
    """Who settled a row by a decision, when (ISO 8601) and why."""

    by: str
    on: str
    why: str


class SuspectedLabel(Record):
    """A row whose label the cross-validated models doubt.

    Attributes:
        row: Index of the row in the file.
        rank: 1 for the least credible label.
        credibility: From 0 to 1, by the margin between the row's own tag and the best other one.
        suspected: Whether confident learning estimates the label to be wrong.
        unlearned: Whether no model predicted the row's own tag in any division into folds.
        suggested: The tag that the models prefer.
        probability: Mean probability of that tag.
        predictions: Tag and probability by model.
        id: The row's id.
        place: Where the row stands: "row 3 (line 4)".
        tag: Its label.
        title: Its title.
        description: Its description.
        settled: The decision that a person took; None while there is none.
    """

    row: int
    rank: int
    credibility: float
    suspected: bool
    unlearned: bool
    suggested: str
    probability: float
    predictions: dict[str, tuple[str, float]]
    id: str
    place: str
    tag: str
    title: str
    description: str
    settled: Settlement | None


class TagLabels(Record):
    """Label errors of one tag: rows agreed with, suspected ones and the tags suggested instead."""

    rows: int
    suspected: int
    taken_for: dict[str, int]
    agreed: int


class Labels(Record):
    """Suspected label errors: counts and `share` of the tagged rows, by tag, and row by row."""

    suspected: int
    share: float
    unlearned: int
    agreement: float
    by_tag: dict[str, TagLabels]
    rows: list[SuspectedLabel]


class Coverage(Record):
    """Rows of a slice; `agreement` is the share of them whose tag the models predict."""

    rows: int
    tags: dict[str, int]
    agreement: float | None
    thin: bool


class Period(Record):
    """One of several periods with equally many rows, by its days (ISO 8601)."""

    first_day: str
    last_day: str
    rows: int
    tags: dict[str, int]
    tag_distance: float | None


class ChangedWord(Record):
    """A word's rows in the first and the last period, and the z-score of its log-odds."""

    word: str
    before: int
    after: int
    z: float


class Drift(Record):
    """How tags and words change over time.

    Attributes:
        periods: In the order of time; `tag_distance` is the Jensen-Shannon distance (base 2) of a
            period's tags from those of the first.
        p_value: Chi-squared test that tags do not depend on the period; None without tags.
        auc: Area under the ROC curve of a linear model that tells texts of the first period from
            those of the last in cross-validation: 0.5 is not at all; None with too few groups.
        rise: Words that became more frequent.
        fall: Words that became less frequent.
    """

    periods: list[Period]
    p_value: float | None
    auc: float | None
    rise: list[ChangedWord]
    fall: list[ChangedWord]


class AuditReport(Document):
    """What `audit_file` found in a file; `labels` and `drift` are None where not measured."""

    WRITTEN_BY: ClassVar[str] = "tagger audit"

    data: DataFile
    problems: InvalidRows
    tags: TagCounts
    sample: Sample
    repeats: Repeats
    labels: Labels | None
    coverage: dict[str, dict[str, Coverage]]
    drift: Drift | None
    decisions: int
    model: str | None
    made_on: str
    environment: Environment
