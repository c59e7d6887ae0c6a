"""Two runs answer: what the store keeps, who decides, and what becomes of a new run that fails."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from tests.service.conftest import SendItems, WordClassifier

from tagger.data.items import Item
from tagger.decision.calibrators import Unchanged
from tagger.decision.decider import Decider, Rule
from tagger.decision.policies import Threshold
from tagger.rollout.arms import arm_of
from tagger.rollout.plan import Plan, StageConfig
from tagger.scores import FloatArray
from tagger.service import content, review
from tagger.service.challenger import Challenger, group_of
from tagger.service.database import Store
from tagger.service.duplicates import Match
from tagger.service.events import SERVICE, append, every_event
from tagger.service.fingerprints import comparable, fingerprints
from tagger.service.hold import lift_hold, set_hold
from tagger.service.inference import Inference
from tagger.service.rollout import Rollout, last_rollout, list_published
from tagger.service.service import Service
from tagger.service.tables import REVIEW_QUEUE

SHADOW = StageConfig(share=0, items=2)
EVERYTHING = StageConfig(share=1, items=2)
RUNS = {
    "new": {"run": "second", "version": "2", "path": "/nowhere"},
    "old": {"run": "words", "version": "1", "path": "/nowhere"},
}


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """What is tried here does not depend on the engine."""
    return f"sqlite:///{tmp_path / 'store.db'}"


class Second(WordClassifier):
    """Takes an apple for metal, and knows what a pear is."""

    words = ("pear", "apple", "rain")

    def predict_proba(self, items: Sequence[Item]) -> FloatArray:
        if any("sleepy" in item.text for item in items):
            time.sleep(0.4)
        if any("fault" in item.text for item in items):
            raise ValueError("a fault")
        return super().predict_proba(items)


class Loaded(Challenger):
    """Has its run in memory; how often it was loaded is counted."""

    loads = 0

    def _load(self, rollout: Rollout) -> None:
        rule = Rule(Unchanged(), Threshold([0.9, 0.9, 0.9]), None)
        self.inference = Inference(Decider(Second(), rule, None), self.limits.queue)
        self.inference.start()
        self._loaded = rollout.number
        self.loads += 1


def begin(store: Store, *stages: StageConfig, **more: Any) -> int:
    """Start a rollout; return its number."""
    plan = Plan(name="test", stages=[*stages], **more).model_dump()
    data = {
        "action": "start",
        "reason": "passed",
        "plan": plan,
        "salt": "salt",
        "needed": None,
    } | RUNS
    with store.writing() as connection:
        return append(connection, "rollout", at=1, actor="us", item=SERVICE, data=data).sequence


@pytest.fixture
def challenger(service: Service) -> Iterator[Loaded]:
    """Follows rollouts when it is told to, and not by itself."""
    made = Loaded(service.store, service.writer, "1", service.config.limits)
    service.challenger = made
    yield made
    made.stop()


def events(store: Store, kind: str) -> list[Any]:
    with store.reading() as connection:
        return [event for event in every_event(connection) if event.kind == kind]


def settle(challenger: Challenger, until: Callable[[], bool]) -> None:
    """Let the challenger look until something is so."""
    for _ in range(100):
        challenger.follow()
        if until():
            return
        time.sleep(0.02)
    raise AssertionError(challenger.status)


def standing(store: Store) -> Rollout:
    with store.reading() as connection:
        found = last_rollout(connection)
    assert found is not None
    return found


def test_without_a_rollout_nothing_is_loaded_or_kept(
    challenger: Loaded, service: Service, send: SendItems
) -> None:
    challenger.follow()
    assert send("apple")["decision"] == "fruit"
    assert (challenger.loads, service.compares) == (0, False)
    assert "rollout" not in events(service.store, "submitted")[0].data


def test_in_shadow_both_answer_the_old_one_decides_and_people_judge_blind(
    challenger: Loaded, service: Service, send: SendItems, client: TestClient
) -> None:
    begin(service.store, replace_items(SHADOW, 100))
    challenger.follow()
    same, other = send("rain today"), send("apple tart")
    assert (same["decision"], other["decision"]) == ("weather", "fruit")
    assert other["review_id"] is None  # who submits is not told
    kept = {event.item: event.data for event in events(service.store, "submitted")}
    assert "opens" not in kept[same["item"]]
    told = kept[other["item"]]
    assert (told["run"], told["opens"]) == ("words", content.DISAGREEMENT)
    assert (told["rollout"]["old"], told["rollout"]["new"]) == ("fruit", "metal")
    claimed = client.post("/v1/review/claim").json()["review"]
    assert claimed["item"] == other["item"]
    assert claimed["blind"]
    assert claimed["tag"] is claimed["probabilities"] is None
    client.post(f"/v1/review/{claimed['review_id']}/label", json={"tag": "fruit"})
    challenger.follow()
    assert challenger.status is not None
    evidence = challenger.status.evidence
    assert (evidence.judged.broken, evidence.waiting, evidence.operations.asked) == (1, 0, 2)
    client.post(f"/v1/review/{claimed['review_id']}/undo")
    challenger.follow()
    assert challenger.status.evidence.judged.broken == 0
    assert challenger.status.evidence.waiting == 1


def replace_items(stage: StageConfig, items: int) -> StageConfig:
    return stage.model_copy(update={"items": items})


def test_a_failing_or_slow_new_run_is_answered_for_by_the_old_and_rolled_back(
    challenger: Loaded, service: Service, send: SendItems
) -> None:
    begin(service.store, SHADOW, EVERYTHING, guards={"deadline_ms": 200})
    challenger.follow()
    found = [send(title)["decision"] for title in ("apple fault", "apple sleepy", "pear")]
    assert found == ["fruit", "fruit", "needs review"]
    told = [event.data["rollout"] for event in events(service.store, "submitted")]
    assert [one["trouble"] for one in told][:2] == ["failed", "slow"]
    settle(challenger, lambda: standing(service.store).ended == "rolled back")
    (last,) = [e for e in events(service.store, "rollout") if e.data["action"] == "roll back"]
    assert last.data["reason"].startswith("failures: 1 of 3")
    assert last.data["evidence"]["operations"]["failed"] == 1
    challenger.follow()
    assert not service.compares
    assert send("apple fault again")["decision"] == "fruit"


def test_a_rollout_goes_on_with_traffic_alone_and_new_items_are_the_new_runs(
    challenger: Loaded, service: Service, send: SendItems
) -> None:
    begin(service.store, SHADOW, EVERYTHING)
    for _ in range(3):
        challenger.follow()
    assert challenger.status is not None
    assert challenger.status.decision.reason.startswith("items: 0 of 2")
    send("rain one"), send("rain two")
    settle(challenger, lambda: standing(service.store).standing.stage == 1)
    challenger.follow()
    assert challenger.status.decision.reason.startswith("items: 0 of 2")
    assert send("apple pie")["decision"] == "metal"
    kept = events(service.store, "submitted")[-1]
    assert (kept.data["run"], kept.data["version"], kept.tag) == ("second", "2", "metal")
    with service.store.reading() as connection:
        listed = list_published(connection, standing(service.store))
    assert [(one["title"], one["tag"], one["old"]) for one in listed] == [
        ("apple pie", "metal", "fruit")
    ]


def test_after_a_restart_the_rollout_is_where_it_was(
    challenger: Loaded, service: Service, send: SendItems
) -> None:
    begin(service.store, SHADOW, StageConfig(share=0.5, items=1_000))
    challenger.follow()
    send("rain one"), send("rain two")
    settle(challenger, lambda: standing(service.store).standing.stage == 1)
    words = ("orchard", "harvest", "juice", "sweet", "ripe", "peel", "seed", "basket", "forge")
    arms = {f"apple {word}": send(f"apple {word}")["decision"] for word in words}
    assert {*arms.values()} == {"fruit", "metal"}
    challenger.follow()
    assert challenger.status is not None
    again = Loaded(service.store, service.writer, "1", service.config.limits)
    again.follow()
    assert again.status is not None
    assert again.status.evidence == challenger.status.evidence
    assert again.status.rollout == challenger.status.rollout
    again.stop()
    for title, decision in arms.items():  # the arm is the text's, whatever came between
        group = fingerprints(comparable(title, ""))[0]
        assert (arm_of("salt", group, 0.5) == "new") == (decision == "metal")


def test_a_hold_pauses_and_its_end_does_not_resume(
    challenger: Loaded, service: Service, send: SendItems
) -> None:
    begin(service.store, SHADOW, EVERYTHING)
    with service.store.writing() as connection:
        set_hold(connection, "drift", actor="monitor", at=1)
    challenger.follow()
    settle(challenger, lambda: standing(service.store).standing.paused != "")
    with service.store.writing() as connection:
        lift_hold(connection, actor="us", at=2)
    send("rain one"), send("rain two")
    challenger.follow()
    assert challenger.status is not None
    assert challenger.status.decision.reason == "paused: publishing is on hold: drift"


def test_a_hold_of_the_old_run_lets_the_new_one_be_judged_and_publish(
    challenger: Loaded, service: Service, send: SendItems
) -> None:
    begin(service.store, SHADOW, EVERYTHING)
    with service.store.writing() as connection:
        set_hold(connection, "broken", actor="monitor", at=1, version="1")
    challenger.follow()
    assert send("apple")["reason"] == "held"
    assert send("apple one")["reason"] == "held"
    with service.store.reading() as connection:
        reasons = [*connection.scalars(select(REVIEW_QUEUE.c.reason))]
    assert reasons == ["two runs differ"] * 2
    settle(challenger, lambda: standing(service.store).share == 1)
    assert send("apple two")["decision"] == "metal"


def test_a_rollout_against_another_run_is_none_of_this_service(
    challenger: Loaded, service: Service, send: SendItems
) -> None:
    begin(service.store, SHADOW)
    challenger.version = "3"
    challenger.follow()
    assert send("apple")["decision"] == "fruit"
    assert challenger.loads == 0


def test_a_run_that_cannot_be_loaded_pauses_the_rollout_and_harms_nobody(
    service: Service, send: SendItems, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(service.store, SHADOW, EVERYTHING)
    challenger = service.challenger = Challenger(
        service.store, service.writer, "1", service.config.limits
    )
    challenger.follow()
    settle(challenger, lambda: "cannot be asked" in standing(service.store).standing.paused)
    assert capsys.readouterr().err.count("cannot be asked") <= 2
    assert send("apple")["decision"] == "fruit"
    challenger.stop()


def test_people_are_not_asked_about_more_disagreements_than_they_can_judge(
    challenger: Loaded,
    service: Service,
    send: SendItems,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tagger.service.challenger.MOST_WAITING", 1)
    begin(service.store, replace_items(SHADOW, 100))
    challenger.follow()
    send("apple tart")
    challenger.follow()
    send("apple pie crust")
    with service.store.reading() as connection:
        assert review.count_reviews(connection, 1)["open"] == 1
    challenger.follow()
    assert challenger.status is not None
    assert challenger.status.evidence.waiting == 1


def test_a_new_runs_thread_that_ends_is_a_failure_of_the_new_run_alone(
    challenger: Loaded, service: Service, send: SendItems
) -> None:
    begin(service.store, SHADOW, EVERYTHING)
    challenger.follow()
    assert challenger.inference is not None
    challenger.inference.stop()
    assert send("apple")["decision"] == "fruit"
    settle(challenger, lambda: standing(service.store).ended == "rolled back")
    assert not service.dead


def test_copies_are_of_the_group_of_the_first_one(service: Service, send: SendItems) -> None:
    first = send("apple orchard harvest in autumn")["item"]
    item = content.SubmittedItem(title="apple orchard harvest")
    alone = fingerprints(comparable("apple orchard harvest", ""))[0]
    with service.store.reading() as connection:
        of_first = group_of(connection, item, Match(first, 0.8), 0.7)
        assert group_of(connection, item, Match(first, 0.3), 0.7) == alone
        assert group_of(connection, item, None, 0.7) == alone
    assert of_first == fingerprints(comparable("apple orchard harvest in autumn", ""))[0]
    assert of_first != alone


def test_the_page_shows_evidence_decisions_and_what_a_run_left_behind(
    challenger: Loaded, service: Service, send: SendItems, client: TestClient
) -> None:
    assert "There was none yet" in client.get("/rollout").text
    begin(service.store, SHADOW, EVERYTHING)
    challenger.follow()
    send("rain one"), send("rain two")
    settle(challenger, lambda: standing(service.store).standing.stage == 1)
    challenger.follow()
    page = client.get("/rollout").text
    assert "<bdi>second</bdi> against <bdi>words</bdi>" in page
    assert '<li aria-current="step">100 %</li>' in page
    assert "items: 0 of 2" in page
    assert "all that the stage of 0% asks for: 2 items, every limit kept" in page
    assert "tagger_rollout_share 1.0" in client.get("/metrics").text
    send("apple pie"), send("apple fault")
    settle(challenger, lambda: standing(service.store).ended == "rolled back")
    challenger.follow()
    page = client.get("/rollout").text
    assert "It has ended: rolled back." in page
    assert "1 item is still published as the new run said" in page
    assert "tagger_rollout_share NaN" in client.get("/metrics").text
