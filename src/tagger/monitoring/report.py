"""Says what the state of a watch means: the content of `monitor.json`."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tagger.data.dates import year_of
from tagger.documents import Record
from tagger.evaluation.report import Score
from tagger.evaluation.slices import SLICES
from tagger.monitoring.quality import BY, By, Group
from tagger.monitoring.scores import TAG
from tagger.monitoring.state import Kind, MonitorState, ScoreEvidence, Watched
from tagger.monitoring.timeline import Stretch

Verdict = Literal["too few", "steady", "alarm"]

LEAST_WATCHED = 50
"""Items that were bet on, under which there is no verdict."""

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


@dataclass(kw_only=True)
class Year(Stretch):
    """What came in one calendar year: the course of the watch, and no test of its own.

    Attributes:
        year: Of the rows' dates, in UTC.
        drift: "alarm" where one was raised in it, or stood; "too few" where too few were bet on.
        changed: What its alarms told, those of a broken promise too.
        estimate_valid: Whether the estimate without labels may be relied on.
    """

    year: int
    drift: Verdict
    changed: list[str]
    estimate_valid: bool


class MonitorReport(Watched):
    """What is known of a stream, and whether an alarm stands.

    Attributes:
        rows: Of the stream.
        drift: Its verdict.
        watched: Items on which bets were made since the watch began.
        evidence: Average of all scores; an alarm from 1 / `alpha` on.
        scores: Each score.
        home: How the first rows differ from those that the run's decision was fitted to, in words.
        kept: The verdict on the promise by labels.
        reports: That by users' reports.
        estimate_valid: Whether the estimate without labels may be relied on.
        estimate_assumes: What it assumes, in words.
        precision: Of all that is published, of each tag, of each slice with a label.
        years: Those of rows with a date, in order.
    """

    rows: int
    drift: Verdict
    watched: int
    evidence: float
    scores: list[ScoreEvidence]
    home: list[str]
    kept: Verdict
    reports: Verdict
    estimate_valid: bool
    estimate_assumes: str
    precision: list[Precision]
    years: list[Year]


def describe(state: MonitorState) -> MonitorReport:
    """Say what is known."""
    watched = state.watch.drift.bets.count
    drift = _verdict(state, "drift", enough=watched >= LEAST_WATCHED)
    everything = state.groups.get(ALL, Group(promise=None))
    kept, reports = (_verdict(state, by, enough=everything.is_enough(by)) for by in BY)
    return MonitorReport(
        **{name: getattr(state, name) for name in Watched.model_fields},
        rows=state.stream.rows,
        drift=drift,
        watched=watched,
        evidence=state.watch.drift.evidence,
        scores=describe_scores(state),
        home=state.watch.home,
        kept=kept,
        reports=reports,
        estimate_valid=drift == "steady",
        estimate_assumes=ASSUMES,
        precision=[_precision(state, name) for name in sorted(state.groups, key=_order)],
        years=[_year(state, year) for year in sorted(state.years)],
    )


def _year(state: MonitorState, year: int) -> Year:
    of_year = state.years[year]
    alarms = [alarm for alarm in state.alarms if year_of(alarm.date) == year]
    drift: Verdict = "steady" if of_year.watched >= LEAST_WATCHED else "too few"
    if of_year.unwatched or any(alarm.kind == "drift" for alarm in alarms):
        drift = "alarm"
    changed, valid = [alarm.told for alarm in alarms], drift == "steady"
    return Year(year=year, drift=drift, changed=changed, estimate_valid=valid, **vars(of_year))


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


def is_broken(state: MonitorState, name: str, by: By) -> bool:
    """Whether the labels of a group, or the reports on it, refute the promise.

    A tag or a slice needs as many times the evidence as there can be of them (Bonferroni). Where
    each tag is promised something, all of them together and the whole share alpha.
    """
    parts = 1 if name == ALL else len(state.tags) + len(SLICES)
    needed = parts * (2 if state.each_tag else 1) / state.alpha
    group = state.groups[name]
    return group.is_enough(by) and group.evidence(by) >= needed


def _precision(state: MonitorState, name: str) -> Precision:
    group = state.groups[name]
    return Precision(
        name=name,
        published=group.published,
        expected=group.expected_precision(),
        labelled=group.labelled,
        measured=group.measured_precision(state.least, state.alpha),
        evidence=group.evidence("promise"),
        reported=group.reported,
        upheld=group.tests[0].upheld,
        reports_evidence=group.evidence("reports"),
        broken=any(is_broken(state, name, by) for by in BY),
    )


def _order(name: str) -> tuple[bool, bool, str]:
    return name != ALL, not name.startswith(TAG), name
