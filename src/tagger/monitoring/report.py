"""Says what the state of a watch means: the content of `monitor.json`."""

from typing import ClassVar, Literal

import numpy as np

from tagger.documents import Document, Record
from tagger.evaluation.report import Score
from tagger.evaluation.slices import SLICES
from tagger.monitoring.scores import TAG
from tagger.monitoring.state import Alarm, Kind, MonitorState, ScoreEvidence
from tagger.monitoring.timeline import Timeline

Verdict = Literal["too few", "steady", "alarm"]

LEAST_WATCHED = 50
LEAST_LABELS = 20
"""Items, and labels, under which there is no verdict."""

By = Literal["promise", "reports"]
BY: tuple[By, By] = ("promise", "reports")
"""What tests the promise: labels, and users' reports."""

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
        published: How many items of the stream.
        expected: Estimated without labels; null where nothing is published.
        labelled: How many labels there are.
        measured: By the labels, with an interval that holds at all times at once; null without.
        evidence: How strongly the labels speak against the promise.
        reported: How many of the published items users reported.
        upheld: On how many of these a person said so too, since reports were accepted last.
        reports_evidence: How strongly these speak against the promise.
        broken: Whether either is more than chance does, with all groups looked at.
    """

    name: str
    published: int
    expected: Score | None
    labelled: int
    measured: Score | None
    evidence: float
    reported: int
    upheld: int
    reports_evidence: float
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
            promise, by labels and by reports.
        drift: Its verdict.
        watched: Items on which bets were made since the watch began.
        evidence: Average of all scores; an alarm from 1 / `alpha` on.
        scores: Each score.
        home: How the first rows differ from those that the run's decision was fitted to, in words.
        promise: The precision that is promised; null where none is.
        kept: Its verdict by labels.
        reports: Its verdict by users' reports.
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
    reports: Verdict
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
    drift = _verdict(state, "drift", enough=watched >= LEAST_WATCHED)
    kept, reports = (
        _verdict(state, by, enough=ALL in state.groups and is_enough(state, ALL, by)) for by in BY
    )
    return MonitorReport(
        run=state.run,
        tags=state.tags,
        rows=state.stream.rows,
        unanswered=state.unanswered,
        repeats=state.repeated,
        alpha=state.alpha,
        drift=drift,
        watched=watched,
        evidence=state.watch.drift.evidence,
        scores=describe_scores(state),
        home=state.watch.home,
        promise=state.promise,
        kept=kept,
        reports=reports,
        estimate_valid=drift == "steady",
        estimate_assumes=ASSUMES,
        precision=[_precision(state, name) for name in sorted(state.groups, key=_order)],
        alarms=state.alarms,
        timeline=state.timeline,
    )


def _verdict(state: MonitorState, kind: Kind, *, enough: bool) -> Verdict:
    if state.stands(kind):
        return "alarm"
    return "steady" if enough and (kind == "drift" or state.promise) else "too few"


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


def evidence_against(state: MonitorState, name: str, by: By) -> float:
    """How strongly the labels of a group, or the reports on it, speak against the promise."""
    group = state.groups[name]
    return group.evidence if by == "promise" else group.reports_evidence(state.promise)


def is_enough(state: MonitorState, name: str, by: By) -> bool:
    """Whether there are enough labels of a group, or published items, for a verdict."""
    group = state.groups[name]
    if by == "promise":
        return group.labelled >= LEAST_LABELS
    return group.published - group.tests[0].published >= LEAST_WATCHED


def is_broken(state: MonitorState, name: str, by: By) -> bool:
    """Whether the labels of a group, or the reports on it, refute the promise.

    A tag or a slice needs as many times the evidence as there can be of them (Bonferroni). Where
    each tag is promised something, all of them together and the whole share alpha.
    """
    parts = 1 if name == ALL else len(state.tags) + len(SLICES)
    needed = parts * (2 if state.each_tag else 1) / state.alpha
    return is_enough(state, name, by) and evidence_against(state, name, by) >= needed


def _precision(state: MonitorState, name: str) -> Precision:
    group = state.groups[name]
    return Precision(
        name=name,
        published=group.published,
        expected=group.expected_precision(),
        labelled=group.labelled,
        measured=group.measured_precision(state.least, state.alpha),
        evidence=group.evidence,
        reported=group.reported,
        upheld=group.tests[0].upheld,
        reports_evidence=group.reports_evidence(state.promise),
        broken=any(is_broken(state, name, by) for by in BY),
    )


def _order(name: str) -> tuple[bool, bool, str]:
    return name != ALL, not name.startswith(TAG), name
