"""Keeps in the store what `tagger monitor` found last: for `/metrics` and the review page."""

import math
from typing import Any

from sqlalchemy import Connection

from tagger.monitoring.report import MonitorReport
from tagger.service.events import HOUR_MS, SERVICE, append, last_event_of

GAUGES = {
    "monitor_seconds": ("When the stream was watched last, in seconds since 1970.", "at"),
    "monitor_rows": ("Items that were watched.", "rows"),
    "monitor_alarms": ("Alarms that nobody accepted yet.", "alarms"),
    "monitor_drift_evidence": ("Evidence of drift, 1 in the mean without any.", "drift"),
    "monitor_promise_evidence": ("Evidence of labels against the promise.", "promise"),
    "monitor_report_evidence": ("Evidence of users' reports against the promise.", "reports"),
    "monitor_precision": ("Precision of what is published, by blind labels.", "measured"),
    "monitor_expected_precision": ("The same without labels; NaN while not valid.", "expected"),
    "monitor_report_rate": ("Share of the published items that users reported.", "reported"),
}
"""Figures for Prometheus, by name: a help text, and a field of what is kept."""


def keep_watched(connection: Connection, report: MonitorReport, version: str, *, at: int) -> None:
    """Keep what a watch of a run says: where its alarms are others than before, or once an hour."""
    everything = report.precision[0] if report.precision else None
    measured = everything and everything.measured
    expected = everything and everything.expected
    data: dict[str, Any] = {
        "version": version,
        "rows": report.rows,
        "alarms": [f"{alarm.kind}: {alarm.told}" for alarm in report.standing],
        "drift": report.evidence,
        "promise": everything and everything.evidence,
        "reports": everything and everything.reports_evidence,
        "measured": measured and measured.value,
        "expected": expected.value if expected and report.estimate_valid else None,
        "reported": everything and everything.reported / max(1, everything.published),
    }
    last = last_watched(connection)
    if last is None or last["alarms"] != data["alarms"] or at >= last["at"] + HOUR_MS:
        append(connection, "watched", at=at, actor="monitor", item=SERVICE, data=data)


def last_watched(connection: Connection) -> dict[str, Any] | None:
    """Return what was kept last, with `at`, in milliseconds; None where nothing was watched yet."""
    found = last_event_of(connection, SERVICE, "watched")
    return None if found is None else found.data | {"at": found.at}


def gauge(watched: dict[str, Any] | None, field: str) -> float:
    """Return a figure of what was kept; NaN where it is not known."""
    value = (watched or {}).get(field)
    if value is None:
        return math.nan
    if field == "alarms":
        return len(value)
    return value / 1_000 if field == "at" else float(value)
