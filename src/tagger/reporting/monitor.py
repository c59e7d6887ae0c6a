"""Builds the page of a watched stream."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Drawing

from tagger.monitoring.report import LEAST_WATCHED, MonitorReport
from tagger.monitoring.state import Alarm
from tagger.reporting.figures import COLOURS, LINE_STYLES, VERMILION, Plot, write_figures
from tagger.reporting.numbers import number, plural, score, sentence, share
from tagger.reporting.page import (
    Block,
    Column,
    Columns,
    Details,
    Listing,
    Number,
    Numbers,
    Page,
    Table,
    Text,
    numeric,
)
from tagger.scores import FloatArray, IntArray

Z = 1.96


def monitor_page(report: MonitorReport, folder: Path) -> Page:
    """Build the page of a watched stream; its figures are written to a folder."""
    everything = report.precision[0] if report.precision else None
    numbers = [
        Number("Drift", report.drift, _of_drift(report)),
        Number("Promise", report.kept, _of_promise(report)),
        Number("Published precision", score(everything.measured if everything else None),
               "by labels drawn at random"),
        Number("Expected", score(everything.expected if everything else None),
               "without labels" + _validity(report)),
        Number("Rows", f"{report.rows:,}", f"{plural(report.repeated, 'repeat')}, "
               f"{report.unanswered:,} without a text"),
    ]  # fmt: skip
    if everything and everything.reported:
        told = f"on {everything.reported:,} of {plural(everything.published, 'item')}, "
        numbers.append(
            Number("Users' reports", report.reports, f"{told}{everything.upheld:,} upheld")
        )
    alarms = [block for alarm in reversed(report.alarms) for block in _alarm(alarm)]
    precision = [_precision(report)] if report.precision else []
    estimate = Text(
        f"The estimate without labels assumes that {report.estimate_assumes}{_validity(report)}."
    )
    home: list[Block] = []
    if report.home:
        home.append(
            Text("The stream is not what the run was made from. That is no drift, and no alarm:")
        )
        home.append(Listing(report.home))
    figures = write_figures(_figures(report), folder / "figures")
    return Page(
        f"A stream, watched by {report.run}",
        [Numbers(numbers), *alarms, *_years(report), figures, *precision, estimate, _scores(report),
         *home],
        [Numbers(numbers), *alarms[:3], *precision, *home],
    )  # fmt: skip


def _of_drift(report: MonitorReport) -> str:
    return (
        f"evidence {number(report.evidence, 1)} of {number(1 / report.alpha, 0)}, "
        f"{plural(report.watched, 'item')} watched"
    )


def _of_promise(report: MonitorReport) -> str:
    if report.promise is None:
        return "nothing is promised"
    labelled = max((one.labelled for one in report.precision), default=0)
    return f"{report.promise:.3f}, {plural(labelled, 'label')}"


def _validity(report: MonitorReport) -> str:
    if report.estimate_valid:
        return ""
    return ": not valid, " + ("an alarm stands" if report.drift == "alarm" else "too few items")


def _alarm(alarm: Alarm) -> list[Block]:
    names = {
        "drift": "The content changed",
        "promise": "The promise is broken",
        "reports": "The promise is broken, by users' reports",
    }
    since = f" ({alarm.date})" if alarm.date else ""
    head = f"{names[alarm.kind]}, row {alarm.row:,}{since}: {alarm.told}"
    more: list[Block] = []
    if alarm.words:
        words = [f"{one.word}: {one.before} items before, {one.after} since" for one in alarm.words]
        more += [Text("Words"), Listing(words)]
    if alarm.items:
        rows = [f"row {one.row:,}, {one.id}: {one.text}" for one in alarm.items]
        more += [Text("Items"), Listing(rows)]
    text = sentence(head)
    if alarm.accepted:
        return [Text(f"{text} Accepted.", "soft"), Details("What drove it", more)]
    return [Text(text, "warning"), Details("What drove it", more)]


def _years(report: MonitorReport) -> list[Block]:
    if not report.years:
        return []
    rows = [
        [str(one.year), f"{one.rows:,}", one.drift, "; ".join(one.changed),
         number(one.highest, 1), share(one.confidence / one.rows), share(one.published / one.rows),
         number(one.expected / one.published if one.published else None, 3)
         + ("" if one.estimate_valid else " *")]
        for one in report.years
    ]  # fmt: skip
    shares = [[str(one.year), *(share(n / one.rows) for n in one.tags)] for one in report.years]
    columns: Columns = [
        "year", *numeric(["rows"]), "drift", Column("what changed", "prose"),
        *numeric(["evidence", "confidence", "published", "expected"]),
    ]  # fmt: skip
    caption = (
        "The course of the one watch, and no test of its own: the highest evidence that all scores "
        f"reached, and what its alarms told. Under {LEAST_WATCHED} rows that were bet on are too "
        "few; * precision without labels, not valid."
    )
    return [
        Table(columns, rows, "Year by year", caption),
        Table(["year", *numeric(report.tags)], shares, "Most probable tags by year"),
    ]


def _scores(report: MonitorReport) -> Table:
    rows = [
        [one.name, number(one.evidence, 2), share(one.share), f"{one.direction}, row {one.since:,}",
         number(one.before, 3), number(one.after, 3)]
        for one in sorted(report.scores, key=lambda one: -one.share)
    ]  # fmt: skip
    columns: Columns = [
        "score",
        *numeric(["evidence", "share"]),
        "change",
        *numeric(["before", "since"]),
    ]
    caption = (
        "What each score says of a change. Under none, evidence is 1 in the mean; their average "
        f"raises an alarm at {number(1 / report.alpha, 0)}."
    )
    return Table(columns, rows, "Drift by score", caption)


def _precision(report: MonitorReport) -> Table:
    rows = [
        [one.name, f"{one.published:,}", score(one.expected),
         f"{one.labelled:,}", score(one.measured), number(one.evidence, 2),
         "broken" if one.broken else "",
         f"{one.reported:,}", share(one.reported / max(1, one.published)), f"{one.upheld:,}",
         number(one.reports_evidence, 2)]
        for one in report.precision
    ]  # fmt: skip
    columns: Columns = [
        "published", *numeric(["items", "expected", "labels", "measured", "evidence"]), "promise",
        *numeric(["reported", "share", "upheld", "evidence"]),
    ]  # fmt: skip
    caption = (
        "Measured by blind labels, with an interval that holds at every look at once; evidence is "
        "against the promise, and at most 1 in the mean while it is kept."
    )
    if any(one.reported for one in report.precision):
        caption += (
            " Items that users reported: what a person upheld counts against the promise, and what "
            "was not reported counts for it."
        )
    else:
        columns, rows = columns[:7], [row[:7] for row in rows]
    return Table(columns, rows, "Precision of what is published", caption)


def _figures(report: MonitorReport) -> dict[str, Plot | None]:
    full = [one for one in report.timeline.stretches if one.rows]
    if len(full) < 2:
        return dict.fromkeys(("drift", "tags", "confidence", "precision"))
    at = [one.first_row for one in full]
    sizes = np.array([one.rows for one in full])
    published = np.array([one.published for one in full])
    labelled = np.array([one.labelled for one in full])
    evidence = np.array([one.evidence for one in full]).T
    tags = np.array([one.tags for one in full]).T / sizes
    confidence = np.array([one.confidence for one in full]) / sizes
    expected = _ratio([one.expected for one in full], published)
    half = Z * np.sqrt(expected * (1 - expected) / np.maximum(1, published))
    names = [*(one.name for one in report.scores), "all scores"]
    drift = _draw("evidence", report, at, dict(zip(names, evidence, strict=True)))
    drift.axes[0].axhline(1 / report.alpha, color=VERMILION, linewidth=1, linestyle=":")
    drift.axes[0].set_yscale("log")
    drift.axes[0].yaxis.set_major_formatter("{x:g}")
    lines = {"expected": expected}
    if labelled.any():
        lines["measured"] = _ratio([one.right for one in full], labelled)
    precision = _draw("published precision", report, at, lines)
    precision.axes[0].fill_between(at, expected - half, np.minimum(1, expected + half), alpha=0.2)
    shares = dict(zip(report.tags, tags, strict=True))
    sure = {"mean confidence": confidence, "share to review": 1 - published / sizes}
    return {
        "drift": Plot(drift, "Evidence of each score and of all; an upright line is an alarm."),
        "tags": Plot(_draw("share", report, at, shares), "Share of each most probable tag."),
        "confidence": Plot(_draw("share", report, at, sure), "Confidence, and load of review."),
        "precision": Plot(precision, "Precision of what is published; the band is of chance."),
    }


def _ratio(counts: Sequence[float], of: IntArray) -> FloatArray:
    """Return what share the counts are, nan where there is nothing."""
    return np.where(of > 0, np.array(counts) / np.maximum(1, of), np.nan)


def _draw(
    label: str, report: MonitorReport, at: Sequence[int], lines: Mapping[str, FloatArray]
) -> Drawing:
    drawing = Drawing(figsize=(7.2, 3.6), layout="constrained")
    axes = drawing.subplots()
    axes.set(xlabel="row", ylabel=label)
    for number_of, (name, values) in enumerate(lines.items()):
        style = LINE_STYLES[number_of // len(COLOURS) % len(LINE_STYLES)]
        colour = COLOURS[number_of % len(COLOURS)]
        axes.plot(at, values, style, color=colour, label=name, linewidth=1.4)
    for alarm in report.alarms:
        if alarm.kind == "drift":
            axes.axvline(alarm.row, color=VERMILION, linewidth=1)
    drawing.legend(loc="outside lower center", ncols=3, fontsize=8)
    return drawing
