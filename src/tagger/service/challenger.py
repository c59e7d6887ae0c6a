"""Lets a second run answer beside the one that is served, while a rollout of it stands."""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import Connection

from tagger.data.items import Item
from tagger.decision.decider import load_decider
from tagger.errors import UserError, first_line
from tagger.reporting.card import write_card
from tagger.rollout.arms import Answered, arm_of
from tagger.rollout.decide import Decision, Evidence, decide
from tagger.runs import open_run
from tagger.service.bodies import SubmittedItem
from tagger.service.database import Store
from tagger.service.duplicates import Match
from tagger.service.events import read_event
from tagger.service.fingerprints import comparable, fingerprints
from tagger.service.inference import Inference, Prediction
from tagger.service.keys import now_ms
from tagger.service.readiness import differing_samples, stored_samples, version_of_run
from tagger.service.rollout import Ledger, Rollout, last_rollout, standing_alarm, take
from tagger.service.settings import LimitsConfig
from tagger.service.writer import QueueFullError, Writer

LOOK_SECONDS = 1.0
MOST_WAITING = 200
"""Disagreements that wait for a person; while there are more, further ones are not asked about."""
ACTOR = "rollout"
log = logging.getLogger("tagger.service")


@dataclass(frozen=True)
class Status:
    """How the last rollout stands, as of the last look at it.

    Attributes:
        rollout: Of this service's run, or any other.
        evidence: What is known.
        decision: What is done next, or waited for.
        inference: Asks the new run; None where it is not asked.
        card: Model card of the new run; "" where it is not loaded.
        trouble: Why the new run cannot be asked; "" where it can.
    """

    rollout: Rollout
    evidence: Evidence
    decision: Decision
    inference: Inference | None = None
    card: str = ""
    trouble: str = ""


class Challenger(Thread):
    """Follows the rollout in the store: loads the new run, asks it, carries out what is decided.

    Args:
        store: Where rollouts are kept.
        writer: Writes decisions.
        version: Of the run that is served: a rollout against another one is none of this service.
        limits: Of the service.
    """

    def __init__(self, store: Store, writer: Writer, version: str, limits: LimitsConfig) -> None:
        super().__init__(name="challenger", daemon=True)
        self.store = store
        self.writer = writer
        self.version = version
        self.limits = limits
        self.status: Status | None = None
        self.inference: Inference | None = None
        self._ledger: Ledger | None = None
        self._tried = self._loaded = 0
        self._trouble = ""
        self._card = ""
        self._wake = Event()
        self._ended = False

    def run(self) -> None:
        """Look every second until told to stop, and at once where the new run failed."""
        while not self._ended:
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
            try:
                self.follow()
            except Exception as error:  # what is not decided now is decided a second later
                log.error("the rollout could not be looked at: %s", first_line(error))

    def stop(self) -> None:
        """End, and let the new run's thread end."""
        self._ended = True
        self._wake.set()
        if self.is_alive():
            self.join()
        self._unload()

    def follow(self) -> None:
        """Look at the rollout once."""
        with self.store.reading() as connection:
            rollout = last_rollout(connection)
        if rollout is None:
            return
        ours = rollout.follows and rollout.old["version"] == self.version
        if not ours or rollout.number != self._loaded:
            self._unload()
        paused = rollout.standing.paused and self._tried >= rollout.number
        if ours and self.inference is None and self._tried != rollout.last and not paused:
            self._tried, self._trouble = rollout.last, ""
            self._load(rollout)
        with self.store.reading() as connection:
            now, alarm = now_ms(), self._trouble or standing_alarm(connection, rollout)
            evidence = self._read(rollout, connection).evidence(now)
        decision = decide(rollout.plan, rollout.standing, evidence, now, alarm)
        if rollout.ended or not ours:
            decision = Decision("wait", rollout.ended or "it is against another run than is served")
        trouble = self._trouble if ours else ""
        self.status = Status(rollout, evidence, decision, self.inference, self._card, trouble)
        if decision.action != "wait":
            work = partial(take, rollout=rollout, decision=decision, evidence=evidence)
            self.writer.submit(partial(work, actor=ACTOR, at=now), lambda _: self._wake.set())

    def _read(self, rollout: Rollout, connection: Connection) -> Ledger:
        if self._ledger is None or self._ledger.rollout.number != rollout.number:
            self._ledger = Ledger(rollout)
        self._ledger.rollout = rollout
        return self._ledger.read(connection)

    def _load(self, rollout: Rollout) -> None:
        try:
            run = open_run(rollout.new["path"], str(Path(rollout.new["path"]).parent))
            if version_of_run(run) != rollout.new["version"]:
                raise UserError(f"{run.path} is not what it was when the rollout was started")
            decider = load_decider(run.path, run.load_classifier())
            if differing := differing_samples(decider.classifier, stored_samples(run)):
                raise UserError(f"this machine answers its samples otherwise: {differing[0]}")
            self._card = write_card(run)
        except Exception as error:  # whatever it is, the old run goes on
            self._trouble = f"the new run cannot be asked: {first_line(error)}"
            print(f"rollout: {self._trouble}", file=sys.stderr, flush=True)
            return
        self.inference = Inference(decider, self.limits.queue)
        self.inference.start()
        self._loaded = rollout.number
        print(f"rollout: {run.name} answers beside", file=sys.stderr, flush=True)

    def _unload(self) -> None:
        inference, self.inference = self.inference, None
        if inference is not None:
            self.status, self._card = None, ""  # first, so that nobody asks it any more
            if inference.is_alive():
                inference.stop()

    def ask(self, items: Sequence[Item], groups: Sequence[int]) -> "Asked | None":
        """Let the new run answer those of some items that it is to answer; None without a rollout.

        Args:
            items: As they are read.
            groups: Of duplicates, see `group_of`.
        """
        status = self.status  # which another thread may replace
        if status is None or status.inference is None:
            return None
        rollout, inference, futures = status.rollout, status.inference, []
        arms = [arm_of(rollout.salt, group, rollout.share) for group in groups]
        for item, arm in zip(items, arms, strict=True):
            future: Future[list[Prediction]] | None = None
            if arm == "new" or rollout.share == 0:
                try:
                    if not inference.is_alive():
                        raise RuntimeError("the new run's thread has ended")
                    # One by one: those of a request that fail together are not all to blame.
                    future = inference.submit([item])
                except (QueueFullError, RuntimeError) as error:
                    future = Future()
                    future.set_exception(error)
            futures.append(future)
        judge = status.evidence.waiting < MOST_WAITING
        stage, (run, version) = rollout.standing.stage, (rollout.new["run"], rollout.new["version"])
        told = [
            Answered(rollout.number, run, version, stage, arm, asked=False, old=None)
            for arm in arms
        ]
        # However long the plan would wait, the old run's answer is to be in time.
        patience = min(rollout.plan.guards.deadline_ms / 1_000, self.limits.deadline_seconds / 2)
        return Asked(told, futures, judge, self._wake, time.monotonic() + patience)


@dataclass(frozen=True)
class Asked:
    """Items that a new run was asked about.

    Attributes:
        told: Of each item, as far as it is known without an answer.
        futures: Of its answers; None where it was not asked.
        judge: Whether people are to look at disagreements.
        wake: Set where something went wrong, so that the guards look at once.
        until: How long they are waited for, in seconds of the monotonic clock.
    """

    told: list[Answered]
    futures: list["Future[list[Prediction]] | None"]
    judge: bool
    wake: Event
    until: float

    async def compare(self, olds: Sequence[Prediction]) -> list[tuple[Prediction, Answered]]:
        """Wait for the answers, not for ever; return what is in force of each item.

        Where the new run's decision is, the vector is the old one's still: the index of meaning is
        made of those.
        """
        asked = [asyncio.wrap_future(one) for one in self.futures if one is not None]
        if asked:
            await asyncio.wait(asked, timeout=max(0.0, self.until - time.monotonic()))
        answers, found = iter(asked), []
        for old, told, future in zip(olds, self.told, self.futures, strict=True):
            one = replace(told, old=old.published)
            prediction = old
            if future is not None:
                answer = next(answers)
                one = replace(one, asked=True)
                if not answer.done():
                    answer.cancel()
                    one = replace(one, trouble="slow")
                elif isinstance(error := answer.exception(), QueueFullError):
                    one = replace(one, trouble="slow")
                elif error is not None:
                    one = replace(one, trouble="failed")
                else:
                    (new,) = answer.result()
                    one = replace(one, new=new.published)
                    one = replace(one, judge=self.judge and one.disagrees)
                    prediction = replace(new, vector=old.vector) if one.by_new else old
            if one.trouble:
                self.wake.set()
            found.append((prediction, one))
        return found


def group_of(
    connection: Connection, item: SubmittedItem, match: Match | None, likely: float
) -> int:
    """Return the duplicate group of an item: the fingerprint of the first one's whole text."""
    texts = {"title": item.title, "description": item.description}
    number = match.item if match is not None and match.overlap >= likely else None
    while number is not None:
        found = read_event(connection, number, "submitted")
        assert found is not None
        texts = {name: found.data[name] for name in texts}
        number = found.data["duplicate_of"]
    return fingerprints(comparable(**texts))[0]
