"""Decides what a rollout does next: a pure function of plan, state and evidence."""

import math
from dataclasses import dataclass
from typing import Literal

from tagger.documents import Record
from tagger.rollout.ab import Arms, compare_arms, ratio_is_wrong
from tagger.rollout.canary import DOUBT, Operations, check_guards
from tagger.rollout.paired import Judged, compare_quality, quality_evidence
from tagger.rollout.plan import Plan, StageConfig

HOUR_MS = 3_600_000

Action = Literal["wait", "pause", "advance", "promote", "roll back"]


class Evidence(Record):
    """What is known of a new run; what is missing is 0, and decides nothing.

    Attributes:
        stage_items: Items of this stage about which the new run was asked.
        operations: Of all items since the beginning.
        judged: Disagreements since the beginning that a person has judged.
        waiting: Those that wait for a person.
        arms: Items of the stage of the A/B test.
    """

    stage_items: int = 0
    operations: Operations = Operations()
    judged: Judged = Judged()
    waiting: int = 0
    arms: Arms = Arms()


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands.

    Attributes:
        stage: Position of the stage.
        since: When it began, in milliseconds.
        paused: Why it does not go on; "" where it does.
    """

    stage: int
    since: int
    paused: str = ""


@dataclass(frozen=True)
class Decision:
    """What is to be done, and why; of `wait`: what is waited for."""

    action: Action
    reason: str


def decide(plan: Plan, standing: Standing, evidence: Evidence, now: int, alarm: str) -> Decision:
    """Decide what a rollout does next.

    Harm comes first: a broken guard, or a run that is worse, is rolled back even where the rollout
    is paused. Everything else is done only for what was seen; without traffic, without labels, or
    while nothing is decided, it waits.

    Args:
        plan: Of the rollout.
        standing: Where it stands.
        evidence: What is known.
        now: Milliseconds. A clock that was set back makes a stage longer, never shorter.
        alarm: Why nobody should go on, such as a hold; "" where nothing is the matter.
    """
    stage = plan.stages[standing.stage]
    guards = check_guards(evidence.operations, plan.guards)
    quality = compare_quality(evidence.judged, plan.wrong_costs, plan.quality_alpha)
    for guard in guards:
        if guard.broken:
            return Decision("roll back", f"{guard.name}: {guard.told}")
    if quality == "worse":
        return Decision("roll back", f"it decides worse: {describe_judged(evidence.judged)}")
    in_test = stage.until == "ab"
    tested = compare_arms(evidence.arms, stage.share, plan.quality_alpha) if in_test else None
    wrong_ratio = in_test and ratio_is_wrong(evidence.arms, stage.share)
    if tested == "worse" and not wrong_ratio:
        return Decision("roll back", f"the A/B test: {describe_arms(plan, evidence.arms)}")
    if standing.paused:
        return Decision("wait", f"paused: {standing.paused}")
    if alarm:
        return Decision("pause", alarm)
    if wrong_ratio:
        return Decision(
            "pause",
            f"the arms have {evidence.arms.new:,} and {evidence.arms.old:,} items, which is not "
            f"{stage.share:g} of them: their comparison is worth nothing",
        )
    lacking = _lacking(stage, standing, evidence, now)
    doubtful = [guard.name for guard in guards if guard.doubtful]
    if quality_evidence(evidence.judged, plan.wrong_costs)[1] >= DOUBT:
        doubtful.append("judged disagreements")
    if doubtful:
        lacking.append(f"what speaks against it to become clearer: {', '.join(doubtful)}")
    if stage.until == "better" and quality != "better":
        lacking.append(f"more judged disagreements: {describe_judged(evidence.judged)}")
    if in_test and tested != "better":
        lacking.append(f"the A/B test: {describe_arms(plan, evidence.arms)}")
    if stage.until == "hand":
        lacking.append("a person who promotes it")
    if lacking:
        return Decision("wait", "; ".join(lacking))
    why = f"all that the stage of {stage.share:.0%} asks for: {_described(plan, stage, evidence)}"
    return Decision("promote" if standing.stage + 1 == len(plan.stages) else "advance", why)


def describe_judged(judged: Judged) -> str:
    """Say how judged disagreements went."""
    wins = judged.corrected + judged.spared + judged.filled
    losses = judged.broken + judged.spoiled + judged.lost
    told = f"the new run is right in {wins} of {wins + losses}"
    return told + (f" ({judged.tied} more: both wrong)" if judged.tied else "")


def describe_arms(plan: Plan, arms: Arms) -> str:
    """Say what the A/B test has seen."""
    assert plan.ab is not None
    return (
        f"{plan.ab.metric} of {arms.new_hits:,} of {arms.new:,} items of the new run, "
        f"{arms.old_hits:,} of {arms.old:,} of the old one"
    )


def _lacking(stage: StageConfig, standing: Standing, evidence: Evidence, now: int) -> list[str]:
    lacking = []
    if evidence.stage_items < stage.items:
        lacking.append(f"items: {evidence.stage_items:,} of {stage.items:,}")
    left = standing.since + stage.hours * HOUR_MS - now
    if stage.hours and left > 0:
        lacking.append(f"hours: {math.ceil(left / HOUR_MS * 10) / 10:g} of {stage.hours:g} left")
    return lacking


def _described(plan: Plan, stage: StageConfig, evidence: Evidence) -> str:
    told = [f"{evidence.stage_items:,} items, every limit kept"]
    if stage.until == "better":
        told.append(describe_judged(evidence.judged))
    if stage.until == "ab":
        told.append(describe_arms(plan, evidence.arms))
    return "; ".join(told)
