import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Runs

from tagger.errors import UserError
from tagger.rollout.decide import Decision, Evidence
from tagger.rollout.plan import AbConfig, Plan, StageConfig, load_plan
from tagger.service import rollout
from tagger.service.database import Store
from tagger.service.events import append, events_of, state_of
from tagger.service.hold import set_hold
from tagger.service.readiness import version_of_run
from tagger.service.rollout import (
    Ledger,
    Rollout,
    command,
    last_rollout,
    list_published,
    promoted_run,
    redecide_items,
    start_rollout,
    take,
)

DAY = 86_400_000
AB = Plan(
    name="halves",
    ab=AbConfig(metric="reports", baseline=0.02, effect=0.01, window_hours=24),
    stages=[StageConfig(share=0, items=1), StageConfig(share=0.5, items=1, until="ab")],
)


@pytest.fixture
def begin(store: Store, shared_runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts a rollout of runs that passed the gate."""
    monkeypatch.setattr(rollout, "check_gate", lambda new, old: [])

    def starting(new: str = "rough", old: str = "words", plan: Plan | None = None) -> Rollout:
        with store.writing() as connection:
            return start_rollout(
                connection, shared_runs.open(new), shared_runs.open(old),
                plan or load_plan("careful"), None, actor="us", at=1_000,
            )  # fmt: skip

    return starting


def put(store: Store, number: int, title: str, at: int = 2_000, **told: Any) -> int:
    """Keep an item that came in during a rollout."""
    own = {"rollout": number, "run": "rough", "version": "2", "stage": 0, "arm": "old"}
    own |= {"asked": True, "old": "fruit", "new": "fruit"} | told
    by_new = own["arm"] == "new"
    tag = own["new"] if by_new else own["old"]
    data = {"title": title, "description": "", "rollout": own, "tag": tag, "duplicate_of": None}
    with store.writing() as connection:
        return append(
            connection, "submitted", at=at, actor="us", data=data,
            status="published" if tag else "review", tag=tag,
        ).item  # fmt: skip


def do(store: Store, action: Any, reason: str = "because") -> Rollout:
    with store.writing() as connection:
        return command(connection, action, reason, Evidence(), actor="me", at=5_000)


def test_a_rollout_is_what_its_events_say(store: Store, begin: Any, shared_runs: Runs) -> None:
    started = begin()
    assert started.new["version"] == version_of_run(shared_runs.open("rough"))
    assert (started.standing.stage, started.share, started.ended) == (0, 0.0, "")
    with store.writing() as connection:
        take(connection, started, Decision("advance", "so"), Evidence(), actor="r", at=9_000)
        now = last_rollout(connection)
        # What was decided on the state before is not carried out once more.
        take(connection, started, Decision("advance", "so"), Evidence(), actor="r", at=9_000)
        assert last_rollout(connection) == now
    assert now is not None
    assert (now.standing.stage, now.standing.since, now.share) == (1, 9_000, 0.01)
    assert now.salt == started.salt
    assert do(store, "pause").standing.paused == "because"
    assert do(store, "resume").standing.stage == 1
    assert do(store, "promote").share == 1
    assert do(store, "abort").share == 0


def test_only_one_rollout_stands_and_only_what_can_be_done_is_done(
    store: Store, begin: Any
) -> None:
    with pytest.raises(UserError, match="no rollout stands"):
        do(store, "pause")
    with pytest.raises(UserError, match="the same model"):
        begin("words", "words")
    begin()
    with pytest.raises(UserError, match="stands already"):
        begin()
    with pytest.raises(UserError, match="not paused"):
        do(store, "resume")
    do(store, "abort")
    for action in ("abort", "promote", "pause"):
        with pytest.raises(UserError, match="no rollout stands"):
            do(store, action)
    assert begin().ended == ""


def test_other_tags_than_the_stores_are_refused(store: Store, begin: Any) -> None:
    with store.writing() as connection:
        append(connection, "tags", at=1, actor="-", item=1, data={"tags": ["a", "b"]})
    with pytest.raises(UserError, match="the tags differ"):
        begin()


def test_a_promoted_run_is_served_in_the_old_ones_place_until_that_is_taken_back(
    store: Store, begin: Any, shared_runs: Runs
) -> None:
    words, rough, plain = (
        version_of_run(shared_runs.open(one)) for one in ("words", "rough", "plain")
    )

    def promoted(version: str) -> str | None:
        with store.reading() as connection:
            found = promoted_run(connection, version)
        return found and Path(found).name

    begin("rough", "words")
    assert promoted(words) is None
    do(store, "promote")
    assert promoted(words) == "rough"
    assert promoted(plain) is None
    begin("plain", "rough")
    do(store, "promote")
    assert (promoted(words), promoted(rough)) == ("plain", "plain")
    do(store, "abort")
    assert promoted(words) == "rough"


def test_what_a_new_run_published_is_listed_and_gets_the_old_ones_decision(
    store: Store, begin: Any
) -> None:
    number = begin().number
    same = put(store, number, "same", arm="new")
    other = put(store, number, "other", arm="new", new="metal")
    asked = put(store, number, "asked", arm="new", new="metal", old=None)
    put(store, number, "not the new run's", arm="old", new="metal")
    put(store, number, "failed", arm="new", new=None, trouble="failed", old=None)
    begun = do(store, "abort")
    with store.writing() as connection:
        listed = list_published(connection, begun)
        assert [one["item"] for one in listed] == [same, other, asked]
        redecide_items(connection, listed, actor="me", at=9_000)
        assert not list_published(connection, begun)
        states = [state_of(connection, one)[:2] for one in (same, other, asked)]
        marks = [events_of(connection, one, "redecided") for one in (same, other, asked)]
        waiting = connection.exec_driver_sql("SELECT item, reason FROM review_queue").all()
    assert states == [("published", "fruit"), ("published", "fruit"), ("review", None)]
    assert [len(one) for one in marks] == [1, 1, 1]
    assert [tuple(row) for row in waiting] == [(asked, "rolled back")]


def test_the_ab_test_counts_items_whose_time_for_reports_is_over(store: Store, begin: Any) -> None:
    begun = begin(plan=AB)
    number = begun.number
    old = put(store, number, "old", at=0, stage=1, asked=False)
    new = put(store, number, "new", at=0, stage=1, arm="new")
    put(store, number, "young", at=DAY, stage=1, arm="new")
    put(store, number, "shadow", at=0, stage=0)
    with store.writing() as connection:
        for item, at in ((old, DAY // 2), (new, 2 * DAY)):
            append(connection, "reported", at=at, actor="a", item=item, data={"worth": 1})
    with store.reading() as connection:
        ledger = Ledger(begun).read(connection)
    assert ledger.evidence(DAY - 1).arms.old == 0
    arms = ledger.evidence(DAY).arms
    assert (arms.new, arms.new_hits, arms.old, arms.old_hits) == (1, 0, 1, 1)
    assert ledger.evidence(2 * DAY).arms.new == 2
    assert ledger.evidence(-DAY).arms.new == 0  # a clock that was set back


def test_items_of_other_rollouts_do_not_count(store: Store, begin: Any) -> None:
    first = begin().number
    do(store, "abort")
    second = begin()
    put(store, first, "late")
    put(store, second.number, "asks more", new=None)
    with store.reading() as connection:
        seen = Ledger(second).read(connection).evidence(1).operations
    assert (seen.asked, seen.more_review) == (1, 1)


def test_a_hold_or_an_alarm_that_nobody_accepted_is_told_of(store: Store, begin: Any) -> None:
    begun = begin()

    def alarm() -> str:
        with store.reading() as connection:
            return rollout.standing_alarm(connection, begun)

    assert alarm() == ""
    for alarms in (["drift: length rises"], []):
        with store.writing() as connection:
            # As a watch of the store keeps it.
            data = {"alarms": alarms}
            append(connection, "watched", at=1, actor="monitor", item=1, data=data)  # type: ignore[arg-type]
        assert alarm() == ("tagger monitor raised an alarm: drift: length rises" if alarms else "")
    with store.writing() as connection:
        set_hold(connection, "wait", actor="me", at=1)
    assert alarm() == "publishing is on hold: wait"


def test_a_broken_promise_of_the_old_run_does_not_stop_the_one_that_replaces_it(
    store: Store, begin: Any
) -> None:
    begun = begin()
    told = []
    for which in ("old", "new"):
        version = getattr(begun, which)["version"]
        data = {"alarms": ["promise: all", "drift: length"][: 1 + (which == "old")]}
        with store.writing() as connection:
            set_hold(connection, "broken", actor="monitor", at=1, version=version)
            append(
                connection, "watched", at=1, actor="monitor", item=1,
                data=data | {"version": version},
            )  # fmt: skip
            told.append(rollout.standing_alarm(connection, begun))
    assert told == [
        "tagger monitor raised an alarm: drift: length", "publishing is on hold: broken"
    ]  # fmt: skip


def test_each_decision_is_kept_with_its_evidence(store: Store, begin: Any) -> None:
    begun = begin()
    evidence = Evidence(stage_items=7)
    with store.writing() as connection:
        take(connection, begun, Decision("roll back", "harm"), evidence, actor="r", at=1)
        last = rollout.read_history(connection, last_rollout(connection) or begun)[-1]
    assert last.data["reason"] == "harm"
    assert Evidence.model_validate(json.loads(json.dumps(last.data["evidence"]))) == evidence
