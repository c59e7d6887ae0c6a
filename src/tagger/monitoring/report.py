"""Says what the state of a watch means: the content of `monitor.json`."""

from typing import ClassVar, Literal

import numpy as np

from tagger.documents import Document, Record
from tagger.evaluation.report import Score
from tagger.evaluation.slices import SLICES
from tagger.monitoring.scores import TAG
from tagger.monitoring.state import Alarm, MonitorState, ScoreEvidence
from tagger.monitoring.timeline import Timeline

Verdict = Literal["too few", "steady", "alarm"]

LEAST_WATCHED = 50
LEAST_LABELS = 20
"""Items, and labels, under which there is no verdict."""

ALL = "all"
"""The group of all published items."""

ASSUMES = (
    "the run's probabilities are as right as on the rows that they were calibrated on: what is "
    "written about may change, what tag it has may not"
)


class Precision(Record):
    """The precision of the published items of a tag or slice, or of all.

    Attributes:
        name: `all`, `tag: NAME` or `slice: NAME`.
        published: How many items of the stream; 0 of slices, of which labels alone are counted.
        expected: Estimated without labels; null where nothing is published.
        labelled: How many labels there are.
        measured: By the labels, with an interval that holds at all times at once; null without.
        evidence: How strongly the labels speak against the promise.
        broken: Whether that is more than chance does, with all groups looked at.
    """

    name: str
    published: int
    expected: Score | None
    labelled: int
    measured: Score | None
    evidence: float
    broken: bool


class MonitorReport(Document):
    """What is known of a stream, and whether an alarm stands.

    Attributes:
        run: Whose decisions.
        tags: Of the run.
        rows: Of the stream.
        unanswered: Rows without a text, which are left out.
        repeats: Rows that repeat one of the latest, which count once for drift.
        alpha: Chance that a stream without drift ever raises an alarm of it, and likewise of a kept
            promise.
        drift: Its verdict.
        watched: Items on which bets were made since the watch began.
        evidence: Average of all scores; an alarm from 1 / `alpha` on.
        scores: Each score.
        home: How the first rows differ from those that the run's decision was fitted to, in words.
        promise: The precision that is promised; null where none is.
        kept: Its verdict.
        estimate_valid: Whether the estimate without labels may be relied on.
        estimate_assumes: What it assumes, in words.
        precision: Of all that is published, of each tag, of each slice with a label.
        alarms: All so far.
        timeline: By stretches of rows.
    """

    WRITTEN_BY: ClassVar[str] = "tagger monitor"

    run: str
    tags: list[str]
    rows: int
    unanswered: int
    repeats: int
    alpha: float
    drift: Verdict
    watched: int
    evidence: float
    scores: list[ScoreEvidence]
    home: list[str]
    promise: float | None
    kept: Verdict
    estimate_valid: bool
    estimate_assumes: str
    precision: list[Precision]
    alarms: list[Alarm]
    timeline: Timeline

    @property
    def standing(self) -> list[Alarm]:
        """The alarms that nobody accepted yet."""
        return [alarm for alarm in self.alarms if not alarm.accepted]


def describe(state: MonitorState) -> MonitorReport:
    """Say what is known."""
    watched = state.watch.drift.bets.count
    labelled = state.groups[ALL].labelled if ALL in state.groups else 0
    drift: Verdict = "steady" if watched >= LEAST_WATCHED else "too few"
    kept: Verdict = "steady" if state.promise and labelled >= LEAST_LABELS else "too few"
    return MonitorReport(
        run=state.run,
        tags=state.tags,
        rows=state.stream.rows,
        unanswered=state.unanswered,
        repeats=state.repeated,
        alpha=state.alpha,
        drift="alarm" if state.stands("drift") else drift,
        watched=watched,
        evidence=state.watch.drift.evidence,
        scores=describe_scores(state),
        home=state.watch.home,
        promise=state.promise,
        kept="alarm" if state.stands("promise") else kept,
        estimate_valid=drift == "steady" and not state.stands("drift"),
        estimate_assumes=ASSUMES,
        precision=[_precision(state, name) for name in sorted(state.groups, key=_order)],
        alarms=state.alarms,
        timeline=state.timeline,
    )


def describe_scores(state: MonitorState) -> list[ScoreEvidence]:
    """Say of each score how it changed, and how sure that is."""
    watch = state.watch
    weighted = watch.drift.bets.values * watch.drift.weights
    scores = []
    for at, name in enumerate(state.names):
        direction, since = watch.drift.leading(at)
        latest = [one.values[at] for one in watch.recent if one.row >= since]
        before = max(1, watch.drift.counts[at].sum() - len(latest))
        scores.append(
            ScoreEvidence(
                name=name,
                evidence=watch.drift.bets.values[at],
                share=weighted[at] / weighted.sum(),
                direction=direction,
                since=since,
                before=(watch.totals[at] - sum(latest)) / before,
                after=float(np.mean(latest)) if latest else None,
            )
        )
    return scores


def is_broken(state: MonitorState, name: str) -> bool:
    """Whether the labels of a group refute the promise.

    A tag or a slice needs as many times the evidence as there can be of them (Bonferroni). Where
    each tag is promised something, all of them together and the whole share alpha.
    """
    group = state.groups[name]
    parts = 1 if name == ALL else len(state.tags) + len(SLICES)
    needed = parts * (2 if state.each_tag else 1) / state.alpha
    return group.labelled >= LEAST_LABELS and group.evidence >= needed


def _precision(state: MonitorState, name: str) -> Precision:
    group = state.groups[name]
    return Precision(
        name=name,
        published=group.published,
        expected=group.expected_precision(),
        labelled=group.labelled,
        measured=group.measured_precision(state.least, state.alpha),
        evidence=group.evidence,
        broken=is_broken(state, name),
    )


def _order(name: str) -> tuple[bool, bool, str]:
    return name != ALL, not name.startswith(TAG), name
