"""Watches what a service keeps, in the order that it came, and stops publishing on an alarm.

The texts of the store are read anew by the run, so all its scores are there; what was published,
and labelled, and reported, is what the store says. Only what this very run published counts as
published: the promise is its own. Of the blind sample, which is of all items, those count that it
published, or would have published but for a hold: so a hold does not keep its promise from being
measured.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, func, select

from tagger.data.columns import INCLUSION
from tagger.data.tags import list_tags
from tagger.decision.decider import Decider
from tagger.decision.policies import REVIEW
from tagger.errors import UserError
from tagger.monitoring.monitor import Incoming, Monitor
from tagger.monitoring.report import ALL, MonitorReport, describe
from tagger.monitoring.watching import CHUNK, STATE_FILE, decide, open_watch
from tagger.progress import progress_bar
from tagger.runs import RunFolder
from tagger.service.content import REPORTED, SAMPLE
from tagger.service.database import Store, open_store, shown
from tagger.service.events import (
    DUPLICATE,
    SERVICE,
    Event,
    events_of,
    every_event,
    read_event,
)
from tagger.service.hold import current_hold, lock_events, set_hold
from tagger.service.inference import as_read
from tagger.service.keys import now_ms, shown_time
from tagger.service.labels import reviews_of, would_publish
from tagger.service.readiness import version_of_run
from tagger.service.settings import ServiceConfig
from tagger.service.tables import EVENT
from tagger.service.watched import keep_watched

MONITOR = "monitor"
"""Who a hold is by that an alarm put on."""


def watch_store(
    run: RunFolder,
    config: ServiceConfig,
    folder: Path,
    *,
    promise: float | None = None,
    alpha: float | None = None,
    hold: bool = False,
) -> MonitorReport:
    """Watch a store from where the last call stopped, beside the service that uses it.

    Args:
        run: That the service serves.
        config: The service's settings: its store, and how much of a text is read.
        folder: Where the watch is kept.
        promise: Promised precision; by default the run's own, if it has one.
        alpha: Chance of a false alarm ever; default: 0.05.
        hold: Stop publishing for each new alarm that the promise is broken.

    Raises:
        UserError: when there is no such store, or it is about other tags, or see `open_watch`.
    """
    version = version_of_run(run)
    with closing(open_store(config.store)) as store:
        with store.reading() as connection:
            identity = _identify(connection, run)
            last = connection.scalar(select(func.max(EVENT.c.sequence))) or 0
        with open_watch(run, folder, promise, alpha, identity) as (decider, monitor):
            reader = StoreReader(decider, monitor, version, config.limits.text_characters)
            state = monitor.state
            if hold and state.promise is None:
                raise UserError(
                    f"--hold: {run.name} promises no precision, so no promise can be broken",
                    hint="Give one: --promise P, in a new folder: --out FOLDER",
                )
            with progress_bar(last, "store", "event", initial=state.event) as bar:
                while done := _read_chunk(store, reader):
                    state.write(folder / STATE_FILE)
                    bar.update(done)
            report = describe(state)
            with store.writing() as connection:
                lock_events(connection)
                keep_watched(connection, report, version, at=now_ms())
                if hold:
                    _hold(connection, report, version)
    return report


def _identify(connection: Connection, run: RunFolder) -> str:
    """Return what tells a store from others: when a run was served from it first.

    Raises:
        UserError: when none was, or one with other tags.
    """
    known = events_of(connection, SERVICE, "tags")
    if not known:
        url = shown(str(connection.engine.url))
        raise UserError(f"no run was served from {url} yet: there is nothing to watch")
    tags = known[0].data["tags"]
    if {*tags} != {*run.tags}:
        raise UserError(
            "the run has other tags than the store:",
            [f"run: {list_tags(run.tags)}", f"store: {list_tags(tags)}"],
            "Give the run that the service serves: --run RUN",
        )
    return str(known[0].at)


def _read_chunk(store: Store, reader: "StoreReader") -> int:
    """Read some events; return how many numbers further that is, 0 at the end."""
    state = reader.monitor.state
    with store.reading() as connection:
        events = every_event(connection, "submitted", "reported", "labelled", after=state.event)
        before, chunk = state.event, [*itertools.islice(events, CHUNK)]
        reader.read(connection, chunk)
    return state.event - before


def _hold(connection: Connection, report: MonitorReport, version: str) -> None:
    """Stop what the run publishes, once for each alarm: who resumes it is not overruled by it."""
    held = {one.data.get("alarm") for one in events_of(connection, SERVICE, "held")}
    for alarm in report.standing:
        key = f"{version} {alarm.kind} {alarm.row} {alarm.date}"
        if alarm.kind == "drift" or key in held:
            continue
        hold = current_hold(connection)
        if hold is None or not hold.stops(version):
            reason = f"the promise of {report.promise:.3f} is broken: {alarm.told}"
            runs = version if hold is None else ""  # else the one that was on would end
            set_hold(connection, reason, actor=MONITOR, at=now_ms(), alarm=key, version=runs)


def _reason(label: Event) -> str:
    """Return why an item that was labelled was looked at."""
    return str(label.data["queued"]["reason"])


class StoreReader:
    """Reads the events of a store into a watch, in their order.

    Args:
        decider: The run's.
        monitor: What it is read into.
        version: Of the run, as the service writes it.
        characters: How much of a title or a description the service lets the run read.
    """

    def __init__(self, decider: Decider, monitor: Monitor, version: str, characters: int) -> None:
        self.decider, self.monitor = decider, monitor
        self._version, self._characters = version, characters

    def read(self, connection: Connection, chunk: Sequence[Event]) -> None:
        """Read events that follow on those before."""
        new = [one for one in chunk if one.kind == "submitted" and one.status != DUPLICATE]
        items = [self._incoming(one).item for one in new]
        decided: Iterator[Incoming] = iter(decide(self.decider, items) if items else [])
        for event in chunk:
            match event.kind:
                case "submitted" if event.status == DUPLICATE:
                    self.monitor.skip(self._incoming(event).item, repeats=True)
                case "submitted":
                    told = self._incoming(event)
                    self.monitor.read(replace(next(decided), date=told.date, decided=told.decided))
                case "reported":
                    self._read_report(connection, event)
                case "labelled" if event.data["settles"]:
                    self._read_label(connection, event)
            self.monitor.state.event = event.sequence

    def _read_report(self, connection: Connection, event: Event) -> None:
        """Count an item the first time that it is reported."""
        one = self._published(connection, event)
        if one is not None and events_of(connection, event.item, "reported")[0] == event:
            self.monitor.read_report(one)

    def _read_label(self, connection: Connection, event: Event) -> None:
        """Count a label of the blind sample; or one that says that a report is right.

        One that was taken back by now does not count, duplicates say nothing of a tag, and
        what is rejected was tagged wrongly.
        """
        own, reason = event.data["labels"][-1][1], _reason(event)
        one = self._published(connection, event, held=reason == SAMPLE)
        reviews = reviews_of(connection, event.item)
        if one is None or own is None or event not in [labels[-1] for labels in reviews]:
            return
        state = self.monitor.state
        label = replace(one, item=replace(one.item, tag=own))
        if reason == SAMPLE:
            if ALL not in state.groups or not state.groups[ALL].labelled:
                state.least = one.drawn
            self.monitor.read_label(label)
        elif reason == REPORTED:
            of_reports = [one[-1] for one in reviews if _reason(one[0]) == REPORTED]
            wrong = own != state.tags[one.decided]
            if wrong and event == of_reports[0]:
                self.monitor.read_upheld(label, event.item)

    def _published(
        self, connection: Connection, event: Event, *, held: bool = False
    ) -> Incoming | None:
        """Return the item that an event happened to, if the run published it, or was `held`."""
        submitted = read_event(connection, event.item, "submitted")
        assert submitted is not None
        one = self._incoming(submitted, held=held)
        return None if one.decided == REVIEW else replace(one, date=shown_time(event.at))

    def _incoming(self, submitted: Event, *, held: bool = False) -> Incoming:
        """Return an item as the store knows it, without probabilities.

        Its tag is the one that the run published, or with `held` would have but for a hold.
        """
        data = submitted.data
        tag = would_publish(submitted) if held else submitted.tag
        ours = tag is not None and data["version"] == self._version
        return Incoming(
            as_read(data["title"], data["description"], self._characters, str(submitted.item)),
            shown_time(submitted.at),
            np.empty(0),
            self.monitor.state.tags.index(str(tag)) if ours else REVIEW,
            drawn=data.get(INCLUSION, 1.0),
        )
