from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.rollout.ab import Arms
from tagger.rollout.canary import Operations
from tagger.rollout.decide import HOUR_MS, Decision, Evidence, Standing, decide
from tagger.rollout.paired import Judged
from tagger.rollout.plan import load_plan

PLAN = load_plan("careful")
AB = load_plan("ab")
GOOD = Evidence(
    stage_items=5_000, operations=Operations(asked=5_000), judged=Judged(corrected=60, broken=20)
)
DAYS = 48 * HOUR_MS


def decision(
    stage: int = 0,
    *,
    plan: Any = PLAN,
    now: int = DAYS,
    paused: str = "",
    alarm: str = "",
    **changes: Any,
) -> Decision:
    evidence = GOOD.model_copy(update=changes)
    return decide(plan, Standing(stage, 0, paused), evidence, now, alarm)


def test_a_better_run_goes_from_stage_to_stage_and_is_promoted_after_the_last() -> None:
    actions = [decision(stage).action for stage in range(len(PLAN.stages))]
    assert actions == ["advance"] * 5 + ["promote"]
    assert "60 of 80" in decision(0).reason


@pytest.mark.parametrize("stage", range(6))
def test_without_traffic_it_waits(stage: int) -> None:
    found = decision(stage, stage_items=0, now=10**15)
    assert found.action == "wait"
    assert found.reason.startswith("items: 0 of")


def test_inconclusive_judgements_never_promote() -> None:
    for judged in (Judged(), Judged(corrected=26, broken=20), Judged(tied=500)):
        found = decision(0, judged=judged, stage_items=10**9, now=10**15)
        assert found.action == "wait"
        assert "more judged disagreements" in found.reason


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 30), st.integers(0, 30), st.integers(0, 10**6), st.integers(-(10**15), 10**15)
)
def test_shadow_is_left_by_evidence_alone(right: int, wrong: int, items: int, now: int) -> None:
    judged = Judged(corrected=right, broken=wrong)
    found = decision(0, judged=judged, stage_items=items, now=now)
    if found.action == "advance":
        assert items >= PLAN.stages[0].items
        assert right > 2 * wrong


def test_a_clock_that_was_set_back_makes_a_stage_longer() -> None:
    assert decision(1).action == "advance"
    assert "hours: 1 of 1 left" in decision(1, now=0).reason
    assert decision(1, now=-5 * HOUR_MS).action == "wait"


@pytest.mark.parametrize("paused", ["", "a person wants to look"])
@pytest.mark.parametrize(
    "harm",
    [
        {"operations": Operations(asked=150, failed=1)},
        {"operations": Operations(asked=1_000, slow=40)},
        {"operations": Operations(asked=1_000, more_review=100, more_published=20)},
        {"operations": Operations(asked=1_000, more_published=150)},
        {"judged": Judged(corrected=20, broken=60)},
    ],
)
def test_harm_rolls_back_also_while_it_is_paused(paused: str, harm: dict[str, Any]) -> None:
    assert decision(3, paused=paused, **harm).action == "roll back"


def test_a_hold_or_an_alarm_pauses_and_a_pause_waits() -> None:
    assert decision(1, alarm="hold: drift") == Decision("pause", "hold: drift")
    assert decision(1, paused="hold: drift") == Decision("wait", "paused: hold: drift")


def test_what_speaks_against_a_run_without_deciding_keeps_it_where_it_is() -> None:
    found = decision(2, operations=Operations(asked=5_000, more_review=60, more_published=35))
    assert found.action == "wait"
    assert "review rate" in found.reason
    found = decision(2, judged=Judged(corrected=20, broken=36))
    assert found.action == "wait"
    assert "judged disagreements" in found.reason


def test_a_plan_for_shadow_alone_waits_for_a_person() -> None:
    found = decision(0, plan=load_plan("shadow-only"))
    assert found == Decision("wait", "a person who promotes it")


@pytest.mark.parametrize(
    ("arms", "action"),
    [
        (Arms(), "wait"),
        (Arms(new=9_000, old=9_000), "wait"),  # nobody reports: the metric is missing
        (Arms(new=3_000, new_hits=60, old=3_000, old_hits=62), "wait"),
        (Arms(new=6_000, new_hits=60, old=6_000, old_hits=120), "promote"),
        (Arms(new=6_000, new_hits=120, old=6_000, old_hits=60), "roll back"),
        (Arms(new=5_000, new_hits=10, old=7_000, old_hits=140), "pause"),  # not halves
    ],
)
def test_an_ab_test_promotes_only_the_better_arm(arms: Arms, action: str) -> None:
    assert decision(2, plan=AB, arms=arms, judged=Judged()).action == action
