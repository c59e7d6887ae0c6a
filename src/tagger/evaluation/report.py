"""The data types of an evaluation's report, `report.json`."""

from typing import ClassVar, Literal

from pydantic import ConfigDict

from tagger.documents import Document, Record
from tagger.environment import Environment
from tagger.run_meta import TrainedOn, TrainingEnvironment


class Score(Record):
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class TagScores(Record):
    """Precision, recall and F1 of one tag; `num_samples` is its support."""

    num_samples: int
    precision: Score
    recall: Score
    f1: Score


class OverallScores(Record):
    """Accuracy and the micro, macro and weighted averages over all tags."""

    num_samples: int
    accuracy: Score
    micro_precision: Score
    micro_recall: Score
    micro_f1: Score
    macro_precision: Score
    macro_recall: Score
    macro_f1: Score
    weighted_precision: Score
    weighted_recall: Score
    weighted_f1: Score


class SliceScores(OverallScores):
    """The scores of a named slice, and the rule by which items belong to it."""

    description: str


class RunFacts(Record):
    """What `meta.json` says of the evaluated run."""

    name: str
    path: str
    model: str
    trained_on: TrainedOn
    seed: int | None
    best_step: int | None
    steps: int | None
    train_seconds: float | None
    peak_memory_mib: float | None
    parameters: int | None
    environment: TrainingEnvironment


class DataFacts(Record):
    """The rows that were evaluated on.

    Attributes:
        name: Of the data source.
        sha256: Hash of all of its items.
        rows: Which rows were asked for.
        own: Whether the run was trained on other rows of this source.
        loaded: Number of items in the source.
        evaluated: Number of rows evaluated on.
        explanation: Which rows these are, in words.
        warning: Why scores on them may be too good.
    """

    name: str
    sha256: str
    rows: Literal["unseen", "all"]
    own: bool
    loaded: int
    evaluated: int
    explanation: str
    warning: str | None


class IntervalSettings(Record):
    """How intervals were computed: confidence level, bootstrap resamples and their seed."""

    level: float
    resamples: int
    seed: int


class ReliabilityBin(Record):
    """Rows whose probability is within (low, high]; an empty bin has no confidence or accuracy."""

    low: float
    high: float
    num_samples: int
    confidence: float | None
    accuracy: float | None


class TagCalibration(Record):
    """Calibration of one tag's probability over all rows."""

    ece_adaptive: float
    brier: float
    bins: list[ReliabilityBin]


class Calibration(Record):
    """Calibration of predicted probabilities.

    Attributes:
        ece: Expected calibration error over bins of equal width.
        ece_adaptive: The same over bins of equally many rows.
        brier: Multi-class Brier score.
        likelihood: Mean negative log-likelihood.
        per_class: By tag.
        bins: Of the predicted tag's probability.
    """

    ece: float
    ece_adaptive: float
    brier: float
    likelihood: float
    per_class: dict[str, TagCalibration]
    bins: list[ReliabilityBin]


class CorrectedCalibration(Calibration):
    """Calibration after correction, and `before` it."""

    before: Calibration


class Fitted(Record):
    """A fitted policy or calibrator: its kind, and its own parameters as `decision.json` has."""

    model_config = ConfigDict(extra="allow")

    kind: str


class TagDecisions(Record):
    """Rows published under one tag; scores of no row are None."""

    published: int
    precision: Score | None
    recall: Score | None


class DecisionReport(Record):
    """Selective classification: what is published, what goes to review, at which precision.

    Attributes:
        num_samples: Rows decided on.
        published: Rows that got a tag.
        coverage: Their share.
        precision: Share of them whose tag is right; None where nothing is published.
        review_per_1000: Rows of 1,000 that go to a person.
        per_class: By tag.
        at_coverage: Precision of the surest 80, 90 and 95 %.
        aurc: Area under the risk-coverage curve.
        curve: Points (coverage, risk).
        policy: The rule that decided.
        calibrator: The correction of probabilities before it.
        ood_threshold: Limit of the OOD score; None where there is none.
    """

    num_samples: int
    published: int
    coverage: float
    precision: Score | None
    review_per_1000: float
    per_class: dict[str, TagDecisions]
    at_coverage: dict[str, float]
    aurc: float
    curve: list[tuple[float, float]]
    policy: Fitted
    calibrator: Fitted
    ood_threshold: float | None


class BehaviourFailure(Record):
    """A failed behaviour case: the text, and the expected and the found result."""

    title: str
    description: str
    expected: str
    found: str


class PassRate(Record):
    """How many cases passed."""

    num_cases: int
    passed: int
    rate: Score


class CapabilityResult(PassRate):
    """The behaviour cases of one capability."""

    kind: str
    about: str
    failures: list[BehaviourFailure]


class CasesFile(Record):
    """The file of the behaviour cases, and its hash."""

    path: str
    sha256: str


class BehaviourReport(PassRate):
    """The results of all behaviour cases, by capability."""

    cases: CasesFile
    capabilities: dict[str, CapabilityResult]


class ItemReference(Record):
    """An item, by id and title."""

    id: str
    title: str


class WeakSlice(Record):
    """A part of the rows with more errors than chance allows.

    Attributes:
        name: The part in words.
        kind: How it was found: `slice`, `tag`, `word`, `length` or `cluster`.
        num_samples: Its rows, without those of the weak slices before it.
        errors: How many of these are wrong.
        error_rate: Their share.
        elsewhere: The error rate of all other rows.
        p_value: Adjusted for multiple comparisons.
        examples: Its most confident errors.
    """

    name: str
    kind: str
    num_samples: int
    errors: int
    error_rate: Score
    elsewhere: float
    p_value: float
    examples: list[ItemReference]


class WeakSlices(Record):
    """Weak slices at a significance level, and among how many parts they were found."""

    level: float
    comparisons: int
    slices: list[WeakSlice]


class NearestItem(Record):
    """A training item near an error, with its cosine similarity."""

    title: str
    tag: str | None
    similarity: float


class WrongItem(Record):
    """A wrong prediction, beside the training items nearest to it."""

    id: str
    title: str
    description: str
    true: str
    predicted: str
    probability: float
    suspected_label_error: bool
    nearest_items: list[NearestItem]


class ErrorGroup(Record):
    """Errors with something in common: a part of the rows, or their pair of tags.

    Attributes:
        name: What they have in common.
        num_samples: Rows of the part; None for a pair of tags.
        error_rate: Of the part; None for a pair of tags.
        errors: The most confident first.
    """

    name: str
    num_samples: int | None
    error_rate: Score | None
    errors: list[WrongItem]


class Errors(Record):
    """All wrong predictions, or the most confident ones, in groups."""

    total: int
    shown: int
    suspected_label_errors: int
    groups: list[ErrorGroup]


class MapPoint(Record):
    """A row on the map: its place from 0 to 1, its text, what was predicted, and its slices."""

    id: str
    x: float
    y: float
    title: str
    description: str
    true: str
    predicted: str
    probability: float
    slices: tuple[str, ...] = ()


class LatencyTimes(Record):
    """Quantiles and mean of times in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float


class Latency(LatencyTimes):
    """Latency of one item from its strings to the decision, and how it was measured.

    Attributes:
        items: Items timed.
        warmup: Items before the clock started.
        batch_size: Always 1.
        threads: That the model might use.
        measurements: How often it was measured; the last one counts.
        budget_ms: Limit of p99; None without one.
        within_budget: Whether p99 is within it.
    """

    items: int
    warmup: int
    batch_size: int
    threads: int
    measurements: int = 1
    budget_ms: float | None = None
    within_budget: bool | None = None


class Difference(Score):
    """The difference of a score between two runs, ours minus theirs, with its interval."""

    ours: float
    theirs: float


class McNemar(Record):
    """McNemar's exact test: rows that only one of two runs gets right."""

    fixed: int
    broken: int
    p_value: float


class ChangedItem(ItemReference):
    """An item that two runs tag differently, one of them at least wrongly."""

    true: str
    ours: str
    theirs: str


class GuardedPart(Record):
    """A part of the rows, tested for being worse than in the other run; p-values are adjusted."""

    name: str
    kind: str
    num_samples: int
    fixed: int
    broken: int
    p_value: float
    worse: bool


class Guards(Record):
    """Guarded parts: all with a name, and found ones that are worse, of so many `comparisons`."""

    level: float
    comparisons: int
    parts: list[GuardedPart]


class RunComparison(Record):
    """The decisions of the evaluated run beside those of another run, on the same rows.

    Attributes:
        num_samples: Rows paired.
        differences: By score.
        mcnemar: Whether accuracy differs by more than chance.
        fixed: Items that only the evaluated run gets right.
        broken: Items that only the other run gets right.
        still_wrong: Items that both get wrong, in different ways.
        against: Name of the other run.
        trained_on: Its data.
        explanation: Which rows were paired, in words.
        recorded_predictions: Rows whose predictions were read instead of made.
        guards: Parts of the rows that must not get worse.
    """

    num_samples: int
    differences: dict[str, Difference]
    mcnemar: McNemar
    fixed: list[ChangedItem]
    broken: list[ChangedItem]
    still_wrong: list[ChangedItem]
    against: str
    trained_on: TrainedOn
    explanation: str
    recorded_predictions: int
    guards: Guards


class EvaluationReport(Document):
    """The content of `report.json`."""

    WRITTEN_BY: ClassVar[str] = "python evaluate.py run=RUN"

    run: RunFacts
    data: DataFacts
    intervals: IntervalSettings
    tags: list[str]
    overall: OverallScores
    per_class: dict[str, TagScores]
    slices: dict[str, SliceScores]
    empty_slices: list[str]
    confusion: list[list[int]]
    calibration: CorrectedCalibration
    decision: DecisionReport
    behaviour: BehaviourReport | None
    weak_slices: WeakSlices
    errors: Errors
    map: list[MapPoint] | None
    latency: Latency
    comparison: RunComparison | None
    environment: Environment
    evaluated_on: str
