"""Keeps rollouts in the store: each is what its events say, and its evidence what happened since.

Nothing of a rollout is kept in the process that serves, so a restart finds it where it was.
"""

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, select

from tagger.data.tags import list_tags
from tagger.errors import UserError
from tagger.rollout.ab import Arms
from tagger.rollout.arms import Answered, Arm
from tagger.rollout.canary import Operations
from tagger.rollout.decide import HOUR_MS, Decision, Evidence, Standing
from tagger.rollout.gate import check_gate
from tagger.rollout.paired import Judged, Outcome, judge
from tagger.rollout.plan import Plan
from tagger.runs import RunFolder
from tagger.service.content import BLIND
from tagger.service.events import (
    IN_REVIEW,
    PUBLISHED,
    SERVICE,
    Event,
    Kind,
    Status,
    append,
    events_of,
    every_event,
)
from tagger.service.hold import current_hold, lock_events
from tagger.service.readiness import version_of_run
from tagger.service.tables import EVENT, ITEM_STATE, REVIEW_QUEUE
from tagger.service.watched import last_watched

ROLLED_BACK = "rolled back"
CHUNK = 200
"""Items of one transaction: a service that runs beside is kept waiting no longer."""

Command = Literal["pause", "resume", "promote", "abort"]
READ: tuple[Kind, ...] = ("submitted", "reported", "labelled", "undone")

Ended = Literal["", "promoted", "rolled back", "aborted"]
ENDS: dict[str, Ended] = {
    "promote": "promoted", "roll back": "rolled back", "abort": "aborted"
}  # fmt: skip


@dataclass(frozen=True)
class Rollout:
    """A rollout, as its events say.

    Attributes:
        number: Of the event by which it was started.
        last: Of its last event.
        new: Name, version and folder of the new run.
        old: The same of the run that it is to replace.
        plan: By which it goes on.
        salt: Of the arms.
        needed: By how many items of both arms the A/B test is planned to decide; None without one.
        standing: Where it stands, or ended.
        ended: How; "" while it goes on.
    """

    number: int
    last: int
    new: dict[str, str]
    old: dict[str, str]
    plan: Plan
    salt: str
    needed: int | None
    standing: Standing
    ended: Ended = ""

    @property
    def share(self) -> float:
        """Share of the groups that the new run decides on."""
        if self.ended:
            return float(self.ended == "promoted")
        return self.plan.stages[self.standing.stage].share

    @property
    def follows(self) -> bool:
        """Whether the new run is asked."""
        return self.ended in ("", "promoted")


def read_rollouts(connection: Connection) -> Iterator[Rollout]:
    """Yield all rollouts, the last one last."""
    found: Rollout | None = None
    for event in events_of(connection, SERVICE, "rollout"):
        data, action = event.data, event.data["action"]
        if action == "start":
            if found is not None:
                yield found
            found = Rollout(
                event.sequence,
                event.sequence,
                plan=Plan.model_validate(data["plan"]),
                standing=Standing(0, event.at),
                **{name: data[name] for name in ("new", "old", "salt", "needed")},
            )
            continue
        assert found is not None
        now = replace(found.standing, paused=data["reason"] if action == "pause" else "")
        if action == "advance":
            now = Standing(now.stage + 1, event.at)
        found = replace(found, last=event.sequence, standing=now, ended=ENDS.get(action, ""))
    if found is not None:
        yield found


def last_rollout(connection: Connection) -> Rollout | None:
    """Return the last rollout, whether it stands or has ended; None where there was none."""
    return next(reversed([*read_rollouts(connection)]), None)


def read_history(connection: Connection, rollout: Rollout) -> list[Event]:
    """Return the events of a rollout: each decision, with its evidence."""
    events = events_of(connection, SERVICE, "rollout")
    return [one for one in events if rollout.number <= one.sequence <= rollout.last]


def promoted_run(connection: Connection, version: str) -> str | None:
    """Return the folder of the run that was promoted in a run's place; None where none was."""
    folder = None
    for rollout in read_rollouts(connection):
        if rollout.ended == "promoted" and rollout.old["version"] == version:
            folder, version = rollout.new["path"], rollout.new["version"]
    return folder


def start_rollout(
    connection: Connection,
    new: RunFolder,
    old: RunFolder,
    plan: Plan,
    needed: int | None,
    *,
    actor: str,
    at: int,
) -> Rollout:
    """Start a rollout; a service that runs takes it up.

    Args:
        connection: To the store.
        new: The new run.
        old: The one that it is to replace.
        plan: By which.
        needed: See `Rollout`.
        actor: Who says so.
        at: When, in milliseconds.

    Raises:
        UserError: when one stands already, or the runs cannot take each other's place.
    """
    lock_events(connection)
    gate = [str(path) for path in check_gate(new, old)]
    runs = {
        name: {"run": run.name, "version": version_of_run(run), "path": str(run.path.resolve())}
        for name, run in (("new", new), ("old", old))
    }
    known = events_of(connection, SERVICE, "tags")
    tags = known[0].data["tags"] if known else old.tags
    if not {*new.tags} == {*old.tags} == {*tags}:
        told = [f"{run.name}: {list_tags(run.tags)}" for run in (new, old)]
        raise UserError("the tags differ:", [*told, f"the store: {list_tags(tags)}"])
    if runs["new"]["version"] == runs["old"]["version"]:
        raise UserError(f"{new.name} and {old.name} have the same model and the same decision")
    before = last_rollout(connection)
    if before is not None and not before.ended:
        raise UserError(
            f"a rollout stands already: {before.new['run']} against {before.old['run']}",
            hint="See: tagger rollout status; to end it: tagger rollout abort",
        )
    reason = f"passed the gate against {old.name}: {', '.join(gate)}"
    data = {
        "plan": plan.model_dump(),
        "reason": reason,
        "salt": secrets.token_hex(16),
        "needed": needed,
    }
    _append(connection, "start", runs | data, actor=actor, at=at)
    started = last_rollout(connection)
    assert started is not None
    return started


def take(
    connection: Connection,
    rollout: Rollout,
    decision: Decision,
    evidence: Evidence,
    *,
    actor: str,
    at: int,
) -> None:
    """Carry a decision out, unless the rollout is no longer what it was decided on."""
    lock_events(connection)
    now = last_rollout(connection)
    if now is not None and now.last == rollout.last:
        data = {"reason": decision.reason, "evidence": evidence.model_dump()}
        _append(connection, decision.action, data, actor=actor, at=at)


def command(
    connection: Connection,
    action: Command,
    reason: str,
    evidence: Evidence,
    *,
    actor: str,
    at: int,
) -> Rollout:
    """Do with the last rollout what a person says; `abort` takes a promotion back, too.

    Raises:
        UserError: when there is none with which this can be done.
    """
    lock_events(connection)
    rollout = last_rollout(connection)
    if rollout is None or not (rollout.follows if action == "abort" else not rollout.ended):
        raise UserError("no rollout stands", hint="tagger rollout start NEW --against OLD")
    if (action == "resume") != bool(rollout.standing.paused) and action in ("pause", "resume"):
        raise UserError(f"the rollout is {'' if rollout.standing.paused else 'not '}paused")
    data = {"reason": reason, "evidence": evidence.model_dump()}
    _append(connection, action, data, actor=actor, at=at)
    found = last_rollout(connection)
    assert found is not None
    return found


def _append(
    connection: Connection, action: str, data: dict[str, Any], *, actor: str, at: int
) -> None:
    append(connection, "rollout", at=at, actor=actor, item=SERVICE, data={"action": action} | data)


class Ledger:
    """Reads what happened since a rollout began, and adds it up.

    Args:
        rollout: Which.
    """

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self._after = rollout.number
        self._seen: Counter[str] = Counter()
        self._stages: Counter[int] = Counter()
        self._disagreements: dict[int, tuple[str | None, str | None]] = {}
        self._outcomes: dict[int, Outcome | None] = {}
        self._arms: dict[int, tuple[Arm, int, int | None]] = {}

    def read(self, connection: Connection) -> "Ledger":
        """Read on from where it was read up to."""
        for event in every_event(connection, *READ, after=self._after):
            self._after = event.sequence
            match event.kind:
                case "submitted":
                    self._submitted(event)
                case "reported" if event.item in self._arms:
                    arm, at, hit = self._arms[event.item]
                    self._arms[event.item] = arm, at, event.at if hit is None else hit
                case "labelled" if (
                    event.data.get("settles", True) and event.item in self._disagreements
                ):
                    label = event.data["labels"][-1][1]
                    if event.data["queued"]["reason"] in BLIND:
                        both = self._disagreements[event.item]
                        self._outcomes[event.item] = None if label is None else judge(*both, label)
                case "undone" if event.data["queued"]["reason"] in BLIND:
                    self._outcomes.pop(event.item, None)
        return self

    def _submitted(self, event: Event) -> None:
        data = event.data.get("rollout")
        if data is None or data["rollout"] != self.rollout.number:
            return
        one = Answered(**data)
        if one.asked:
            self._stages[one.stage] += 1
            self._seen["asked"] += 1
            self._seen["old_review"] += one.old is None
            if one.trouble:
                self._seen[one.trouble] += 1
            else:
                self._seen["more_review"] += one.new is None and one.old is not None
                self._seen["more_published"] += one.old is None and one.new is not None
        if one.disagrees and event.data.get("opens") in BLIND:
            self._disagreements[event.item] = one.old, one.new
        if self.rollout.plan.stages[one.stage].until == "ab":
            assert self.rollout.plan.ab is not None
            asks = (one.new if one.by_new else one.old) is None
            hit = event.at if self.rollout.plan.ab.metric == "review" and asks else None
            self._arms[event.item] = one.arm, event.at, hit

    def evidence(self, now: int) -> Evidence:
        """Return what is known at a time."""
        judged: Counter[str] = Counter(one for one in self._outcomes.values() if one)
        return Evidence(
            stage_items=self._stages[self.rollout.standing.stage],
            operations=Operations(**self._seen),
            judged=Judged(**judged),
            waiting=len(self._disagreements) - len(self._outcomes),
            arms=self._count_arms(now),
        )

    def _count_arms(self, now: int) -> Arms:
        config = self.rollout.plan.ab
        counts: Counter[str] = Counter()
        if config is not None:
            window = 0 if config.metric == "review" else int(config.window_hours * HOUR_MS)
            for arm, at, hit in self._arms.values():
                if at + window <= now:
                    counts[arm] += 1
                    counts[f"{arm}_hits"] += hit is not None and hit <= at + window
        return Arms(**counts)


def standing_alarm(connection: Connection, rollout: Rollout) -> str:
    """Say why a rollout should not go on: a hold, or an alarm of `tagger monitor`; "" without one.

    That the old run's promise is broken is none: the new one is to take its place.
    """
    hold, new = current_hold(connection), rollout.new["version"]
    if hold is not None and hold.stops(new):
        return f"publishing is on hold: {hold.reason}"
    last = last_watched(connection) or {"alarms": []}
    of_new = last.get("version", new) == new
    alarms = [one for one in last["alarms"] if of_new or one.startswith("drift")]
    return f"tagger monitor raised an alarm: {alarms[0]}" if alarms else ""


def list_published(connection: Connection, rollout: Rollout) -> list[dict[str, Any]]:
    """Return the items that the new run published and nobody has decided on since.

    Each has `item`, `title`, `tag`, and `old`: the tag that the old run gives it, None where that
    asks a person.
    """
    done = {event.item for event in every_event(connection, "redecided", after=rollout.number)}
    rows = connection.execute(
        select(ITEM_STATE.c.item, ITEM_STATE.c.tag, EVENT.c.data)
        .join(EVENT, EVENT.c.sequence == ITEM_STATE.c.changed)
        .where(
            ITEM_STATE.c.status == PUBLISHED,
            ITEM_STATE.c.changed > rollout.number,
            EVENT.c.kind == "submitted",
        )
        .order_by(ITEM_STATE.c.item)
    )
    found = []
    for row in rows:
        data = json.loads(row.data)
        told = data.get("rollout")
        if told and told["rollout"] == rollout.number and row.item not in done:
            one = Answered(**told)
            if one.by_new:
                own = {"item": row.item, "title": data["title"], "tag": row.tag}
                found.append(own | {"old": one.old})
    return found


def redecide_items(
    connection: Connection, items: Sequence[dict[str, Any]], *, actor: str, at: int
) -> None:
    """Give items of `list_published` the old run's decision, as it was when they came in.

    Where it asks a person the item is no longer published, and waits for one.
    """
    lock_events(connection)
    numbers = [one["item"] for one in items]
    waiting = {
        *connection.scalars(select(REVIEW_QUEUE.c.item).where(REVIEW_QUEUE.c.item.in_(numbers)))
    }
    for one in items:
        same, asks = one["old"] == one["tag"], one["old"] is None
        status: Status | None = None if same else IN_REVIEW if asks else PUBLISHED
        opens = {"opens": ROLLED_BACK} if asks and one["item"] not in waiting else {}
        append(
            connection, "redecided", at=at, actor=actor, item=one["item"], status=status,
            tag=None if same else one["old"], data={"before": one["tag"]} | opens,
        )  # fmt: skip
