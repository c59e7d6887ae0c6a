import threading
from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import text
from tests.service.conftest import Submit

from tagger.service import review
from tagger.service.bodies import FeedbackIn
from tagger.service.content import report_item
from tagger.service.database import Store
from tagger.service.events import append, state_of
from tagger.service.maintenance import verify_store
from tagger.service.refusals import Refusal
from tagger.service.writer import Writer

Do = Callable[..., dict[str, object]]
LEASE = 60


class People:
    """Does what people ask for, at a time that the test sets."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.at = 10_000

    def claim(self, who: str) -> int | None:
        with self.store.writing() as connection:
            found = review.claim(connection, who, self.at, LEASE)
        return None if found is None else int(found["review_id"])

    def label(self, who: str, number: int, tag: str | None = "metal") -> dict[str, object]:
        with self.store.writing() as connection:
            return review.label(connection, number, tag, who, self.at)

    def skip(self, who: str, number: int) -> None:
        with self.store.writing() as connection:
            review.skip(connection, number, who, self.at)

    def undo(self, who: str, number: int) -> dict[str, object]:
        with self.store.writing() as connection:
            return review.undo(connection, number, who, self.at, LEASE)

    def state(self, item: int) -> tuple[str, str | None]:
        with self.store.reading() as connection:
            return state_of(connection, item)[:2]

    def refused(self, action: Callable[..., object], *given: object) -> str:
        with pytest.raises(Refusal) as caught:
            action(*given)
        assert caught.value.status in (404, 409, 422)
        return str(caught.value)


@pytest.fixture
def people(store: Store) -> People:
    return People(store)


@pytest.fixture
def open_item(submit: Submit) -> Callable[[str], int]:
    def make(title: str) -> int:
        return submit(
            title, "review", opens="unsure", tag="fruit", probabilities={}, suggested=None,
            duplicate_of=None,
        )  # fmt: skip

    return make


OpenItem = Callable[[str], int]


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
    item = submit(
        "likely", "review", opens="likely duplicate", tag="fruit", probabilities={},
        suggested=None, duplicate_of=kept,
    )  # fmt: skip
    other = open_item("other")
    people.claim("a")
    people.claim("a")
    assert "like another" in people.refused(people.label, "a", other, None)
    people.label("a", item, None)
    assert people.state(item) == ("duplicate", None)
    people.undo("a", item)
    assert people.state(item) == ("review", None)
    people.label("a", item, "metal")
    assert "2 published" in verify_store(store.url)


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


@pytest.mark.slow
def test_no_item_is_given_to_two_people(store: Store, submit: Submit) -> None:
    with store.writing() as connection:
        for number in range(200):
            append(
                connection, "submitted", at=1, actor="us", status="review",
                data={
                    "title": f"number {number}", "description": "", "opens": "unsure",
                    "tag": "fruit", "probabilities": {}, "suggested": None, "duplicate_of": None,
                },
            )  # fmt: skip
    writer = Writer(store, 1_000)
    writer.start()
    given: list[tuple[str, int]] = []

    def work(who: str) -> None:
        while found := writer.submit(lambda c: review.claim(c, who, 1, LEASE)).result(20):
            given.append((who, found["review_id"]))
            label = partial(review.label, review=found["review_id"], tag="metal", client=who, at=2)
            writer.submit(label).result(20)

    threads = [threading.Thread(target=work, args=(f"person {n}",)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.stop()
    assert len(given) == len({item for _, item in given}) == 200
    with store.reading() as connection:
        labels = text("SELECT count(*) FROM event WHERE kind = 'labelled'")
        assert connection.scalar(labels) == 200
    assert "200 published" in verify_store(store.url)
