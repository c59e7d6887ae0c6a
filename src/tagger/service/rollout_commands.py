"""Does what `tagger rollout` is asked for, beside a service or without; returns what to print."""

import math

from tagger.data.guards import guard
from tagger.errors import UserError
from tagger.files import csv_text
from tagger.rollout.ab import needed_items
from tagger.rollout.canary import check_guards
from tagger.rollout.decide import Decision, Evidence, decide, describe_arms, describe_judged
from tagger.rollout.paired import compare_quality, quality_evidence
from tagger.rollout.plan import Plan
from tagger.runs import RunFolder
from tagger.service.database import Store
from tagger.service.keys import now_ms, shown_time
from tagger.service.rollout import (
    CHUNK,
    Command,
    Ledger,
    Rollout,
    command,
    last_rollout,
    list_published,
    read_history,
    redecide_items,
    standing_alarm,
    start_rollout,
)

ACTOR = "command"


def start(store: Store, new: RunFolder, old: RunFolder, plan: Plan) -> str:
    """Start a rollout."""
    share = next((stage.share for stage in plan.stages if stage.until == "ab"), 0.0)
    # Before the transaction, in which nothing else is written.
    needed = None if plan.ab is None else needed_items(plan.ab, share, plan.quality_alpha)
    with store.writing() as connection:
        begun = start_rollout(connection, new, old, plan, needed, actor=ACTOR, at=now_ms())
    lines = [f"{new.name} answers beside {old.name}, unseen, by the plan {plan.name}"]
    if begun.needed is not None and plan.ab is not None:
        lines.append(
            f"A/B test: {plan.ab.metric}, {plan.ab.baseline:g} with the old run; a change by "
            f"{plan.ab.effect:g} is found by {begun.needed:,} items in {plan.ab.power:.0%} of cases"
        )
    return "\n".join([*lines, f"its card: tagger card --run {new.path}"])


def status(store: Store) -> str:
    """Say how the last rollout stands: decisions, evidence, what is waited for."""
    rollout, evidence, decision = read_status(store)
    with store.reading() as connection:
        history = list(read_history(connection, rollout))
    lines = [f"{rollout.new['run']} against {rollout.old['run']}, plan {rollout.plan.name}"]
    lines += [
        f"  {shown_time(one.at)}  {one.data['action']}: {one.data['reason']}" for one in history
    ]
    lines += [f"  {name}: {told}" for name, told in describe_evidence(rollout, evidence)]
    now = f"ended: {rollout.ended}" if rollout.ended else f"{decision.action}: {decision.reason}"
    return "\n".join([*lines, now])


def read_status(store: Store) -> tuple[Rollout, Evidence, Decision]:
    """Return the last rollout with its evidence, and what a service would do with it now."""
    now = now_ms()
    with store.reading() as connection:
        rollout = _last(last_rollout(connection))
        evidence = Ledger(rollout).read(connection).evidence(now)
        alarm = standing_alarm(connection, rollout)
    if rollout.ended:
        return rollout, evidence, Decision("wait", rollout.ended)
    return rollout, evidence, decide(rollout.plan, rollout.standing, evidence, now, alarm)


def describe_evidence(rollout: Rollout, evidence: Evidence) -> list[tuple[str, str]]:
    """Say in words what is known of a new run, each with its name."""
    plan, stage = rollout.plan, rollout.standing.stage
    better, worse = quality_evidence(evidence.judged, plan.wrong_costs)
    verdict = compare_quality(evidence.judged, plan.wrong_costs, plan.quality_alpha)
    found = [
        ("stage", f"{stage + 1} of {len(plan.stages)}, the new run decides on {rollout.share:.0%}"),
        ("items of the stage", f"{evidence.stage_items:,} of {plan.stages[stage].items:,}"),
        (
            "judged disagreements",
            f"{verdict}: {describe_judged(evidence.judged)}; {evidence.waiting} wait "
            f"(e-values: better {_e_value(better)}, worse {_e_value(worse)})",
        ),
        *(
            (
                one.name,
                f"{one.told} (e-value {_e_value(one.log_evidence)} of {_e_value(one.limit)})",
            )
            for one in check_guards(evidence.operations, plan.guards)
        ),
    ]
    if plan.ab is not None:
        told = f"{describe_arms(plan, evidence.arms)}; planned for {rollout.needed:,} items"
        found.append(("A/B test", told))
    return found


def decide_by_hand(store: Store, action: Command, reason: str) -> str:
    """Do with a rollout what a person says."""
    before, evidence, _ = read_status(store)
    with store.writing() as connection:
        rollout = command(connection, action, reason, evidence, actor=ACTOR, at=now_ms())
    with store.reading() as connection:
        left = len(list_published(connection, rollout)) if rollout.share == 0 else 0
    told = f"{rollout.new['run']}: {rollout.ended or rollout.standing.paused or 'goes on'}"
    if before.ended == "promoted":
        told += "\nStart the service again, if it was started since the promotion."
    return told + (f"\nIt published {left:,} items: tagger rollout items, redecide" if left else "")


def items(store: Store) -> str:
    """List what the new run published as CSV: item, its tag, what the old run says, title."""
    with store.reading() as connection:
        found = list_published(connection, _last(last_rollout(connection)))
    rows = [
        [one["item"], one["tag"], one["old"] or "needs review", guard(one["title"])]
        for one in found
    ]
    return csv_text([["item", "tag", "old", "title"], *rows]).rstrip("\n")


def redecide(store: Store) -> str:
    """Give these items the old run's decision, after the rollout has ended."""
    with store.reading() as connection:
        rollout = _last(last_rollout(connection))
        found = list_published(connection, rollout)
    if rollout.ended not in ("rolled back", "aborted"):
        raise UserError("the new run was not rolled back", hint="First: tagger rollout abort")
    for at in range(0, len(found), CHUNK):
        with store.writing() as connection:
            redecide_items(connection, found[at : at + CHUNK], actor=ACTOR, at=now_ms())
    asked = sum(one["old"] is None for one in found)
    changed = sum(one["old"] not in (None, one["tag"]) for one in found)
    return f"{len(found):,} items: {changed:,} have another tag, {asked:,} wait for people"


def _e_value(log: float) -> str:
    return f"{math.exp(min(log, 99)):.3g}"


def _last(rollout: Rollout | None) -> Rollout:
    if rollout is None:
        raise UserError("there is no rollout", hint="tagger rollout start NEW --against OLD")
    return rollout
