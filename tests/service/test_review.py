import random
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest
from sqlalchemy import func, select
from tests.service.conftest import LEASE, OpenItem, OpenItems, People, Submit

from tagger.service import review
from tagger.service.bodies import FeedbackIn
from tagger.service.content import REPORT_HOURS, SAMPLE, report_item
from tagger.service.database import Store
from tagger.service.events import HOUR_MS, NO_TAG, every_event, state_of
from tagger.service.maintenance import verify_store
from tagger.service.refusals import Refusal
from tagger.service.tables import REVIEW_QUEUE
from tagger.service.writer import Writer


def test_items_are_claimed_one_by_one_the_oldest_first(people: People, open_item: OpenItem) -> None:
    one, two = open_item("one"), open_item("two")
    assert [people.claim(who) for who in ("a", "b", "c")] == [one, two, None]


def test_an_item_whose_lease_has_lapsed_is_given_to_another(
    people: People, open_item: OpenItem
) -> None:
    item = open_item("one")
    people.claim("a")
    people.at += 1_000 * LEASE - 1
    assert people.claim("b") is None
    people.at += 1
    assert "lapsed" in people.refused(people.label, "a", item)
    assert people.claim("b") == item
    assert "not yours" in people.refused(people.label, "a", item)
    people.label("b", item)
    assert people.state(item) == ("published", "metal")


def test_a_label_publishes_and_the_same_again_changes_nothing(
    people: People, open_item: OpenItem
) -> None:
    item = open_item("one")
    assert "not yours" in people.refused(people.label, "a", item)
    people.claim("a")
    first = people.label("a", item)
    assert people.label("a", item) == first  # whose answer was lost, perhaps
    assert people.state(item) == ("published", "metal")
    assert "settled" in people.refused(people.label, "a", item, "fruit")
    assert "settled" in people.refused(people.label, "b", item)
    assert "settled" in people.refused(people.skip, "a", item)
    assert "no review 99" in people.refused(people.label, "a", 99)


def test_what_is_skipped_goes_to_the_end(people: People, open_item: OpenItem) -> None:
    one, two = open_item("one"), open_item("two")
    people.claim("a")
    assert "not yours" in people.refused(people.skip, "b", one)
    people.skip("a", one)
    assert [people.claim("a"), people.claim("a")] == [two, one]


def test_a_label_is_taken_back_by_whoever_gave_it(people: People, open_item: OpenItem) -> None:
    item = open_item("one")
    people.claim("a")
    assert "no label of yours" in people.refused(people.undo, "a", item)
    people.label("a", item)
    assert "no label of yours" in people.refused(people.undo, "b", item)
    people.at += 1_000_000
    assert people.undo("a", item)["lease_until"] == people.at + 1_000 * LEASE
    assert people.state(item) == ("review", None)
    assert people.claim("b") is None
    people.label("a", item, "weather")
    assert people.state(item) == ("published", "weather")
    assert "1 published" in verify_store(people.store.url)


def test_a_duplicate_is_settled_as_such_and_back(
    people: People, store: Store, submit: Submit, open_item: OpenItem
) -> None:
    kept = submit("kept")
    item = open_item("likely", opens="likely duplicate", duplicate_of=kept)
    other = open_item("other")
    found = people.look("a")
    assert found is not None
    assert found["original"] == {
        "item": kept, "title": "kept", "description": "", "tag": "fruit", "rejected": False,
    }  # fmt: skip
    people.claim("a")
    assert "like another" in people.refused(people.label, "a", other, None)
    people.label("a", item, None)
    assert people.state(item) == ("duplicate", None)
    people.undo("a", item)
    assert people.state(item) == ("review", None)
    people.label("a", item, "metal")
    assert "2 published" in verify_store(store.url)


def test_a_rejected_item_is_not_published_and_is_taken_back(
    people: People, store: Store, open_item: OpenItem
) -> None:
    item = open_item("buy now")
    like = open_item("buy this now", opens="likely duplicate", duplicate_of=item)
    people.claim("a")
    told = {"review_id": item, "item": item, "status": "rejected", "tag": None}
    assert people.label("a", item, NO_TAG) == people.label("a", item, NO_TAG) == told
    assert people.state(item) == ("rejected", None)
    found = people.look("b")
    assert found is not None
    assert (found["review_id"], found["original"]["rejected"]) == (like, True)
    assert (people.counts()["labelled"], people.counts()["rejected"]) == (1, 1)
    assert "1 rejected, 1 review" in verify_store(store.url)
    people.undo("a", item)
    assert people.state(item) == ("review", None)
    assert people.counts()["rejected"] == 0
    assert people.label("a", item)["status"] == "published"


def test_what_was_published_is_taken_off_when_it_is_rejected(
    people: People, open_item: OpenItem
) -> None:
    item = open_item("one", "published", opens=SAMPLE)
    people.claim("a")
    people.label("a", item, NO_TAG)
    assert people.state(item) == ("rejected", None)
    people.undo("a", item)
    assert people.state(item) == ("published", "fruit")


def test_two_people_reject_an_item_or_a_third_decides(
    people: People, store: Store, open_item: OpenItem
) -> None:
    people.people = 2
    agreed, differing = open_item("one"), open_item("two")
    for who, second in (("a", NO_TAG), ("b", "metal")):
        people.claim(who)
        people.label(who, agreed, NO_TAG)
        people.claim(who)
        people.label(who, differing, second)
    assert people.state(agreed) == ("rejected", None)
    found = people.look("c")
    assert found is not None
    assert found["labels"] == [NO_TAG, "metal"]
    people.label("c", differing, NO_TAG)
    assert people.state(differing) == ("rejected", None)
    assert (people.counts()["rejected"], people.counts()["agreement"]["pairs"]) == (4, 2)
    assert "2 rejected" in verify_store(store.url)


def test_a_reported_item_that_is_right_is_not_published_once_more(
    people: People, store: Store, submit: Submit
) -> None:
    item = submit("one", tag="fruit", probabilities={}, suggested=None, duplicate_of=None)
    with store.writing() as connection:
        report_item(connection, FeedbackIn(item=item, tag="metal"), client="user", at=5)
        before = state_of(connection, item)
        found = review.claim(connection, "a", people.at, LEASE)
    assert found is not None
    assert found["reported_tags"] == ["metal"]
    people.label("a", found["review_id"], "fruit")
    with store.reading() as connection:
        assert state_of(connection, item) == before
    people.undo("a", found["review_id"])
    people.label("a", found["review_id"], "metal")
    people.undo("a", found["review_id"])
    assert people.state(item) == ("published", "fruit")


def test_a_label_cannot_be_taken_back_once_the_item_waits_again(
    people: People, store: Store, open_item: OpenItem
) -> None:
    item = open_item("one")
    people.claim("a")
    people.label("a", item)
    with store.writing() as connection:
        report_item(connection, FeedbackIn(item=item), client="user", at=people.at)
    assert "no label of yours" in people.refused(people.undo, "a", item)


def test_the_queue_is_listed(people: People, store: Store, open_item: OpenItem) -> None:
    for number in range(3):
        open_item(f"number {number}")
    people.claim("a")
    with store.reading() as connection:
        listed = review.list_reviews(connection, people.at)
        assert (listed["open"], listed["claimed"]) == (3, 1)
        assert [one["claimed"] for one in listed["reviews"]] == [True, False, False]
        assert listed["reviews"][0]["title"] == "number 0"
        later = review.list_reviews(connection, people.at + 1_000 * LEASE)
        assert later["claimed"] == 0


def test_a_label_of_an_earlier_review_cannot_be_taken_back(
    people: People, store: Store, open_item: OpenItem
) -> None:
    item = open_item("one")
    people.claim("a")
    people.label("a", item)
    with store.writing() as connection:
        report_item(connection, FeedbackIn(item=item), client="user", at=people.at)
    later = people.claim("b")
    assert later is not None
    people.label("b", later, "weather")
    assert "no label of yours" in people.refused(people.undo, "a", item)
    assert people.label("a", item) == {  # whose answer was lost: told what the item is now
        "review_id": item, "item": item, "status": "published", "tag": "weather",
    }  # fmt: skip


def test_what_a_look_is_worth_counts_as_hours_of_waiting(
    people: People, store: Store, open_item: OpenItem
) -> None:
    dull, unsure, reported = (open_item(title, worth=n) for n, title in enumerate("abc"))
    with store.writing() as connection:
        for user in ("x", "y", "x"):
            report_item(connection, FeedbackIn(item=dull), client=user, at=5)
    with store.reading() as connection:
        rows = connection.execute(select(REVIEW_QUEUE)).all()
        listed = review.list_reviews(connection, people.at)["reviews"]
    places = {row.review: (row.opened_at - row.place) // HOUR_MS for row in rows}
    assert places == {dull: 2 * REPORT_HOURS, unsure: 1, reported: 2}  # one of each key
    assert [one["review_id"] for one in listed] == [dull, reported, unsure]
    assert [people.claim("p") for _ in range(4)] == [dull, reported, unsure, None]
    assert "8 events" in verify_store(store.url)


def test_a_confirmation_opens_no_review(people: People, store: Store, submit: Submit) -> None:
    item = submit()
    with store.writing() as connection:
        for user in ("x", "x"):
            said = report_item(
                connection, FeedbackIn(item=item, right=True), client=user, at=people.at
            )
        assert said == {"item": item, "counted": False}
        # Whoever said so may find out better.
        assert report_item(connection, FeedbackIn(item=item), client="x", at=5)["counted"]
    assert people.counts()["open"] == 1


def test_the_sample_is_looked_at_blind_and_first_near_its_deadline(
    people: People, store: Store, open_item: OpenItem
) -> None:
    deadline = people.at + 100 * HOUR_MS
    sample = open_item(
        "one", "published", opens=SAMPLE, deadline=deadline, suggested="metal",
        probabilities={"fruit": 1.0},
    )  # fmt: skip
    with store.writing() as connection:
        report_item(connection, FeedbackIn(item=sample, tag="weather"), client="user", at=5)
    urgent = open_item("two", worth=1_000)
    assert people.claim("a") == urgent
    people.at = deadline - review.NEAR_MS
    found = people.look("b")
    assert found is not None
    assert (found["review_id"], found["blind"]) == (sample, True)
    hidden = ("tag", "probabilities", "suggested_tag", "original")
    assert not any(found[name] for name in (*hidden, "reported_tags", "labels", "similar"))
    people.skip("b", sample)
    assert people.claim("b") == urgent  # whose lease has lapsed; what was skipped is last
    assert people.claim("a") == sample
    assert people.label("a", sample, "weather")["tag"] == "weather"
    assert people.state(sample) == ("published", "weather")
    assert "1 published, 1 review" in verify_store(store.url)


def test_two_people_label_an_item_and_a_third_decides(
    people: People, store: Store, open_item: OpenItem
) -> None:
    people.people = 2
    agreed, differing = open_item("one"), open_item("two")
    nothing = {"review_id": agreed, "item": agreed, "status": None, "tag": None}
    people.claim("a")
    assert people.label("a", agreed) == people.label("a", agreed) == nothing
    assert people.state(agreed) == ("review", None)
    assert people.claim("a") == differing  # never the same person
    people.label("a", differing)
    assert people.claim("a") is None
    found = people.look("b")
    assert found is not None
    assert (found["review_id"], found["labels"]) == (agreed, [])
    assert "metal" not in str(found)
    assert people.label("b", agreed)["tag"] == "metal"
    assert people.state(agreed) == ("published", "metal")
    people.claim("b")
    assert people.label("b", differing, "fruit")["status"] is None
    assert [people.claim(who) for who in ("a", "b")] == [None, None]
    found = people.look("c")
    assert found is not None
    assert found["labels"] == ["metal", "fruit"]
    people.label("c", differing, "fruit")
    assert people.state(differing) == ("published", "fruit")
    counts = people.counts()
    # Of the pairs (metal, metal) and (metal, fruit) half agree, which chance would too.
    assert (counts["labelled"], counts["agreement"]) == (5, {"pairs": 2, "kappa": 0.0})
    assert "2 published" in verify_store(store.url)


def test_labels_of_two_people_are_taken_back(
    people: People, store: Store, open_item: OpenItem
) -> None:
    people.people = 2
    item = open_item("one")
    people.claim("a")
    people.label("a", item)
    assert "no label of yours" in people.refused(people.undo, "b", item)
    assert people.undo("a", item)["labels"] == []
    assert people.claim("b") is None
    people.label("a", item, "fruit")
    people.claim("b")
    assert "no label of yours" in people.refused(people.undo, "a", item)  # it is b's now
    people.label("b", item, "fruit")
    assert "no label of yours" in people.refused(people.undo, "a", item)  # b agreed
    assert people.state(item) == ("published", "fruit")
    people.undo("b", item)
    assert people.state(item) == ("review", None)
    assert people.counts()["agreement"]["pairs"] == 0
    people.label("b", item, "metal")
    people.claim("c")
    people.label("c", item, "metal")
    people.undo("c", item)
    people.label("c", item, "weather")
    assert people.state(item) == ("published", "weather")
    assert people.counts()["labelled"] == 3
    assert people.counts()["agreement"] == {"pairs": 1, "kappa": 0.0}
    assert "1 published" in verify_store(store.url)


def test_a_label_that_waits_for_another_settles_once_one_is_enough(
    people: People, open_item: OpenItem
) -> None:
    people.people = 2
    item = open_item("one")
    people.claim("a")
    people.label("a", item, "fruit")
    people.people = 1
    people.claim("b")
    assert people.label("b", item, "metal")["tag"] == "metal"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_whatever_people_do_the_indexes_are_what_the_events_say(
    people: People, store: Store, open_item: OpenItem, seed: int
) -> None:
    rng = random.Random(seed)
    items = [
        open_item("one"), open_item("two", duplicate_of=1), open_item("three", worth=9),
        open_item("four", "published", opens=SAMPLE, deadline=people.at + 30 * HOUR_MS),
        open_item("five", "published"),
    ]  # fmt: skip
    done = Counter[str]()
    last = items[0]
    for _ in range(250):
        people.at += rng.choice([0, 100, 1_000])
        people.at += rng.choice([0] * 30 + [1_000 * LEASE, 9 * HOUR_MS])
        people.people = rng.choice([1, 2, 2])
        who, item = rng.choice("abcd"), rng.choice(items)
        with store.writing() as connection:
            report = FeedbackIn(item=item)
            if rng.random() < 0.05:
                report_item(connection, report, client=rng.choice("wxyz"), at=people.at)
            waiting = {row.review: row for row in connection.execute(select(REVIEW_QUEUE))}
        number = rng.choice([*sorted(waiting), *items, last])
        if number in waiting and rng.random() < 0.8:
            who = waiting[number].claimed_by or who
        act = rng.choice([people.claim, people.claim, people.label, people.skip, people.undo])
        verdict = rng.choice(["metal", "fruit", None, NO_TAG])
        given = (number, verdict) if act == people.label else (number,)
        with suppress(Refusal):
            act(who, *(() if act == people.claim else given))
            done[act.__name__] += 1
            last = number
    assert min(done[name] for name in ("claim", "label", "skip", "undo")) > 0
    verify_store(store.url)
    with store.reading() as connection:
        kinds = Counter(event.kind for event in every_event(connection))
    assert people.counts()["labelled"] == kinds["labelled"] - kinds["undone"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("count", "claims"), [(1, 300), (2, 200)])
def test_no_item_is_given_to_two_people_at_a_time(
    store: Store, open_items: OpenItems, count: int, claims: int
) -> None:
    claims = claims if "sqlite" in store.url else 100  # the server takes longer
    open_items(claims // count)
    waiting = select(func.count()).select_from(REVIEW_QUEUE)
    writer = Writer(store, 1_000)
    writer.start()

    def work(who: str) -> None:
        while writer.submit(lambda c: c.scalar(waiting)).result(60):
            found = writer.submit(lambda c: review.claim(c, who, 1, LEASE)).result(60)
            if found is None:
                time.sleep(0.01)
                continue
            label = partial(review.label, review=found["review_id"], tag="metal", client=who)
            writer.submit(partial(label, at=2, people=count)).result(60)

    threads = [threading.Thread(target=work, args=(f"person {n}",)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    writer.stop()
    holders: dict[int, str] = {}
    labels: set[tuple[str, int]] = set()
    with store.reading() as connection:
        for event in every_event(connection):
            if event.kind == "claimed":
                assert holders.setdefault(event.item, event.actor) == event.actor
            elif event.kind == "labelled":
                assert holders.pop(event.item) == event.actor
                assert (event.actor, event.item) not in labels
                labels.add((event.actor, event.item))
    assert len(labels) == claims
    assert f"{claims // count:,} published" in verify_store(store.url)
