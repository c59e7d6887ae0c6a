"""Data types of a build: what it plans, and what its steps brought and cost."""

from typing import ClassVar

from pydantic import JsonValue

from tagger.documents import Document, Record
from tagger.environment import Environment


class BuildPlan(Document):
    """What a build is going to train (`plan.json`); it is made once, so that a build can go on.

    Attributes:
        asked: What the build was asked for, with digests of its files.
        rows: Number of labelled rows.
        tags: Rows of each approved tag.
        folds: Folds in which all is trained anew; None where rows are held out.
        models: Names of the models that are trained, the plainest first.
        student: Whether a student is taught.
        texts: Texts without a label that the student learns from.
        pass_ms: Milliseconds of a pass of the encoder over a text, as measured here.
        expected_seconds: Of each step, by its name.
        notes: What was decided for lack of rows or of time, a sentence each.
    """

    WRITTEN_BY: ClassVar[str] = "tagger build"

    asked: dict[str, JsonValue]
    rows: int
    tags: dict[str, int]
    folds: int | None
    models: list[str]
    student: bool
    texts: int
    pass_ms: float
    expected_seconds: dict[str, float]
    notes: list[str]


class Candidate(Record):
    """A run of a build, judged on rows that it was not trained on.

    Attributes:
        name: Of the step, and of its folder in that of the build.
        seconds: What training took, its folds included; of an export, what it took.
        weighted_f1: Of the most probable tags.
        macro_f1: Likewise.
        aurc: Area under the risk-coverage curve; less is better.
        published: Share of the rows that is published by the promise; None where it is too slow to
            be chosen.
        precision: Share of the published that is right; None where nothing is published.
        p50_ms: Median time of one item on one core.
        p99_ms: Its 99th percentile.
        mib: Size of the model.
        quick: Whether it is quick enough to be chosen.
    """

    name: str
    seconds: float
    weighted_f1: float
    macro_f1: float
    aurc: float
    published: float | None
    precision: float | None
    p50_ms: float
    p99_ms: float
    mib: float
    quick: bool


class Published(Record):
    """What the chosen run does to rows that nothing was fitted to or chosen by.

    Attributes:
        rows: Number of rows, and which they are.
        share: Published share.
        precision: Share of the published that is right; None where nothing is published.
        weighted_f1: Of the most probable tags.
        macro_f1: Likewise.
    """

    rows: int
    share: float
    precision: float | None
    weighted_f1: float
    macro_f1: float


class BuildReport(Document):
    """What a build brought (`build.json`).

    Attributes:
        name: Of the run that was made.
        plan: What was planned.
        promise: Promised precision.
        confidence: With which the promise holds for the run that was chosen, whichever it was.
        judged_on: Which rows the candidates are compared on, in words.
        candidates: In the order in which they were made, the plainest first.
        chosen: Name of the one that was chosen.
        reasons: Why, a sentence each.
        published: Of the chosen run on rows of its own; None where there are none.
        seconds: From the last start of the command to its end.
        notes: What happened on the way, a sentence each.
        environment: Code, libraries and machine.
    """

    WRITTEN_BY: ClassVar[str] = "tagger build"

    name: str
    plan: BuildPlan
    promise: float
    confidence: float
    judged_on: str
    candidates: list[Candidate]
    chosen: str
    reasons: list[str]
    published: Published | None
    seconds: float
    notes: list[str]
    environment: Environment
