"""Data types of the parity gate: what `parity.json` of a compressed run holds."""

from typing import ClassVar, Literal

from tagger.documents import Document, Record


class BeforeAfter(Record):
    """A figure of the run, and of its compressed model."""

    before: float
    after: float


class RowsBeforeAfter(BeforeAfter):
    """A score of both, and the number of rows that it is of."""

    rows: int


class Changes(Record):
    """What changed on some texts, which needs no labels.

    Attributes:
        name: Where the texts come from.
        rows: Number of texts.
        decisions: How many decisions changed.
        tags: How many texts have another most probable tag.
        mean_shift: Mean total variation distance of the probabilities.
        max_shift: The largest one.
    """

    name: str
    rows: int
    decisions: int
    tags: int
    mean_shift: float
    max_shift: float


class Quality(Record):
    """Scores of both models' corrected probabilities on labelled rows.

    Attributes:
        explanation: Which rows these are, in words.
        rows: How many they are.
        ece_adaptive: Calibration error over bins of equally many rows.
        f1: By tag.
        slices: Accuracy by the name of a slice.
    """

    explanation: str
    rows: int
    ece_adaptive: BeforeAfter
    f1: dict[str, RowsBeforeAfter]
    slices: dict[str, RowsBeforeAfter]


class ParityReport(Document):
    """What the parity gate found.

    Attributes:
        gate: Whether it was passed or skipped.
        broken: Limits that were exceeded, a line each.
        texts: Changes on the labelled items, then on further texts.
        labelled: Scores on labelled items.
        size_mib: Size of `model/`.
        worst: The rows that changed most, a line each.
    """

    WRITTEN_BY: ClassVar[str] = "tagger export --replace"

    gate: Literal["passed", "skipped"]
    broken: list[str]
    texts: list[Changes]
    labelled: Quality
    size_mib: BeforeAfter
    worst: list[str]
