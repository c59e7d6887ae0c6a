"""Defines the state of a watch: all that is kept of a stream, whatever its length."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer

from tagger.audit.report import ChangedWord
from tagger.data.items import Item
from tagger.documents import Document, Record
from tagger.errors import UserError
from tagger.files import write_text
from tagger.monitoring.betting import Array, Kept
from tagger.monitoring.drift import Drift
from tagger.monitoring.quality import Group, Since
from tagger.monitoring.repeats import Repeats
from tagger.monitoring.scores import needs_vocabulary, score_weights
from tagger.monitoring.timeline import Stretch, Timeline

SHOWN_CHARACTERS = 300

Sorted = Annotated[set[str], PlainSerializer(sorted, return_type=list)]


class Row(Record):
    """A row of the stream, or of the labels, with the first `SHOWN_CHARACTERS` of its text."""

    row: int
    id: str
    text: Annotated[str, AfterValidator(lambda text: text[:SHOWN_CHARACTERS])]


class ScoreEvidence(Record):
    """How one score of the items changed.

    Attributes:
        name: Such as `length`.
        evidence: Its martingale, whose mean is 1 while nothing changes.
        share: Its part of the evidence of all scores.
        direction: Whether it rises or falls, by the bet that won most.
        since: The row from which on it likely does.
        before: Mean of the reference before that.
        after: Mean of the latest items from there on; null without any.
    """

    name: str
    evidence: float
    share: float
    direction: Literal["rises", "falls"]
    since: int
    before: float
    after: float | None


Kind = Literal["drift", "promise", "reports"]


class Alarm(Record):
    """An alarm, with what raised it.

    Attributes:
        kind: Whether the content drifts, or the promise is broken, by labels or by users' reports.
        row: Of the stream, or of the labels, at which it was raised.
        date: Of that row, as it is written; "" where there is none.
        evidence: That was reached.
        told: What changed, in words.
        scores: Of a drift: what changed, the strongest first.
        words: Of a drift: those that became more or less frequent, against the first rows.
        items: That drove it: those on which the leading bet won most, or the latest errors.
        accepted: Whether a person took note and let the watch begin anew.
    """

    kind: Kind
    row: int
    date: str
    evidence: float
    told: str
    scores: list[ScoreEvidence]
    words: list[ChangedWord]
    items: list[Row]
    accepted: bool = False


class Recent(Row):
    """A distinct item with its scores."""

    values: list[float]


class Watch(Kept):
    """The watch for drift, since it began or was begun anew.

    Attributes:
        drift: The bets.
        known: Words of the first items, and the tokenizer's pieces where there is one.
        learning: These items themselves.
        totals: Sum of each score over the reference, (n_scores,).
        recent: The latest items.
        home: See `MonitorReport`.
    """

    drift: Drift
    known: list[Sorted]
    learning: list[Recent] = Field(default_factory=list)
    totals: Array
    recent: list[Recent] = Field(default_factory=list)
    home: list[str] = Field(default_factory=list)


class Cursor(Kept):
    """How far a table was read: its rows, and a hash of them in their order."""

    rows: int = 0
    digest: str = ""

    def advance(self, item: Item) -> None:
        """Move over a row."""
        told = "\0".join((self.digest, item.id, item.title, item.description))
        self.digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
        self.rows += 1


class Watched(Document):
    """What the state of a watch and its report both hold.

    Attributes:
        run: Whose decisions.
        tags: Of the run.
        alpha: Chance that a stream without drift ever raises an alarm of it, and likewise of a kept
            promise, by labels and by reports.
        promise: Promised precision of what is published; null where none is.
        unanswered: Rows without a text, which are left out.
        repeated: Rows that repeat one of the latest, which count once for drift.
        alarms: All so far.
        timeline: By stretches of rows.
    """

    WRITTEN_BY: ClassVar[str] = "tagger monitor"

    run: str
    tags: list[str]
    alpha: float
    promise: float | None
    unanswered: int = 0
    repeated: int = 0
    alarms: list[Alarm] = Field(default_factory=list)
    timeline: Timeline = Field(default_factory=Timeline)

    @property
    def standing(self) -> list[Alarm]:
        """The alarms that nobody accepted yet."""
        return [alarm for alarm in self.alarms if not alarm.accepted]

    def stands(self, kind: Kind) -> bool:
        """Whether an alarm of a kind stands."""
        return any(alarm.kind == kind for alarm in self.standing)


class MonitorState(Watched):
    """The content of `state.json`, from which a watch goes on.

    Attributes:
        files: What the run's decisions depend on: the hashes of its files.
        names: Of the scores.
        each_tag: Whether the precision is promised of each tag.
        home: Scores of rows that the run's decision was fitted to: number, mean and deviation.
        store: Of which store; "" for a table.
        event: The last event of the store that was read.
        stream: How far the input was read.
        labels: How far the labels were read.
        repeats: By which repeats are found.
        watch: For drift.
        least: The smallest probability with which labelled items are drawn.
        groups: Published items of all kinds, of each tag, of each slice.
        errors: The latest ones that are wrong by labels, and by reports that were upheld.
        years: What came in each calendar year.
    """

    model_config = ConfigDict(extra="forbid", frozen=False)

    files: dict[str, str]
    names: list[str]
    each_tag: bool
    home: dict[str, tuple[int, float, float]]
    store: str = ""
    event: int = 0
    stream: Cursor = Field(default_factory=Cursor)
    labels: Cursor = Field(default_factory=Cursor)
    repeats: Repeats = Field(default_factory=Repeats)
    watch: Watch
    least: float = 1.0
    groups: dict[str, Group] = Field(default_factory=dict)
    errors: dict[Kind, list[Row]] = Field(default_factory=dict)
    years: dict[int, Stretch] = Field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all, without the blanks that people read by."""
        write_text(path, self.model_dump_json() + "\n")

    def accept(self) -> None:
        """Accept the alarms that stand, and begin what raised them anew from the next row.

        Raises:
            UserError: when none stands.
        """
        if not self.standing:
            raise UserError("no alarm stands: there is nothing to accept")
        if self.stands("drift"):
            self.watch = begin_watch(self.names)
        if self.stands("promise"):
            for group in self.groups.values():
                group.labels, group.test = {}, Group(promise=self.promise).test
        if self.stands("reports"):
            for group in self.groups.values():
                group.tests = [Since(published=group.published, event=self.event)]
        for alarm in self.standing:
            self.errors.pop(alarm.kind, None)
        self.alarms = [alarm.model_copy(update={"accepted": True}) for alarm in self.alarms]


def begin_watch(names: Sequence[str]) -> Watch:
    """Begin a watch over these scores."""
    return Watch(
        drift=Drift.begin(score_weights(names)),
        known=[set() for _ in range(sum(needs_vocabulary(names)))],
        totals=np.zeros(len(names)),
    )
