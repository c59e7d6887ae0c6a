import json

import pytest
from sqlalchemy import text
from tests.service.conftest import Submit

from tagger.service import content
from tagger.service.bodies import FeedbackIn, SubmittedItem
from tagger.service.content import Asked, Submission
from tagger.service.database import Store
from tagger.service.duplicates import Match
from tagger.service.events import append, events_of, rebuild_indexes, state_of
from tagger.service.inference import Prediction
from tagger.service.refusals import Refusal
from tagger.service.settings import DuplicatesConfig
from tagger.service.tables import REVIEW_QUEUE

CERTAIN = Prediction("fruit", "fruit", {"fruit": 0.98, "metal": 0.02}, "")
UNCLEAR = Prediction(None, "metal", {"fruit": 0.4, "metal": 0.6}, "not sure enough")
LONG = "how to train a small model that files short texts under one of a few tags on a laptop"


def submission(
    title: str, prediction: Prediction | None = CERTAIN, match: Match | None = None
) -> Submission:
    return Submission(SubmittedItem(id="theirs", title=title), False, prediction, match, 0)


def submit_items(store: Store, *submissions: Submission, key: str = "k", body: str = "b") -> str:
    with store.writing() as connection:
        return content.submit_items(
            connection,
            submissions,
            Asked("us", key, body, 1_000),
            {"run": "r", "version": "1"},
            DuplicatesConfig(),
        )


def test_what_is_certain_is_published_and_the_rest_reviewed(store: Store) -> None:
    submit_items(store, submission("one"), submission("two", UNCLEAR))
    with store.reading() as connection:
        assert state_of(connection, 1) == ("published", "fruit", 1)
        assert state_of(connection, 2) == ("review", None, 2)
        queued = connection.execute(REVIEW_QUEUE.select()).all()
        assert [(row.review, row.item, row.reason) for row in queued] == [(2, 2, UNCLEAR.reason)]


def test_a_replay_gets_the_first_answer_and_another_body_is_refused(store: Store) -> None:
    first = submit_items(store, submission("one"))
    assert submit_items(store, submission("one", UNCLEAR)) == first
    assert submit_items(store, submission("one"), key="other") != first
    with pytest.raises(Refusal) as caught:
        submit_items(store, submission("one"), body="another")
    assert caught.value.status == 409
    with store.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM event")) == 2


def test_a_duplicate_is_linked_to_the_one_that_is_kept(store: Store) -> None:
    submit_items(store, submission(LONG), submission(LONG.upper()))
    # One that was found before it was classified, and has therefore no prediction.
    submit_items(store, submission(LONG, None, Match(1, 1.0)), key="later")
    with store.reading() as connection:
        for item in (2, 3):
            assert state_of(connection, item)[:2] == ("duplicate", None)
            assert events_of(connection, item, "submitted")[0].data["duplicate_of"] == 1
        assert state_of(connection, 1)[0] == "published"


def test_a_copy_of_what_was_rejected_is_linked_to_it_and_told_so(store: Store) -> None:
    submit_items(store, submission(LONG))
    with store.writing() as connection:
        append(connection, "labelled", at=2, actor="us", item=1, status="rejected", data={})
        rebuild_indexes(connection)  # it is compared with later items all the same
    answer = json.loads(submit_items(store, submission(LONG.upper()), key="again"))["items"][0]
    assert (answer["decision"], answer["reason"]) == ("duplicate", "rejected")
    assert (answer["duplicate_of"], answer["review_id"]) == (1, None)
    with store.reading() as connection:
        assert state_of(connection, answer["item"])[0] == "duplicate"


def test_what_is_likely_a_duplicate_is_reviewed_however_certain_its_tag_is(store: Store) -> None:
    submit_items(
        store, submission(LONG), submission(LONG.replace("laptop", "phone").replace("few", "dozen"))
    )
    with store.reading() as connection:
        assert state_of(connection, 2)[0] == "review"
        (queued,) = connection.execute(REVIEW_QUEUE.select())
        assert (queued.item, queued.reason) == (2, content.LIKELY_DUPLICATE)


def report(store: Store, item: int, client: str = "you") -> object:
    with store.writing() as connection:
        return content.report_item(
            connection, FeedbackIn(item=item, tag="metal"), client=client, at=2_000
        )


def test_one_report_of_each_client_and_item_counts(store: Store, submit: Submit) -> None:
    item = submit()
    assert report(store, item) == {"item": item, "counted": True}
    assert report(store, item) == {"item": item, "counted": False}
    assert report(store, item, "another") == {"item": item, "counted": True}
    with store.reading() as connection:
        assert state_of(connection, item)[0] == "published"  # a report alone changes nothing
        (queued,) = connection.execute(REVIEW_QUEUE.select())
        assert queued.reason == content.REPORTED
    with pytest.raises(Refusal, match="there is no item 99"):
        report(store, 99)


def test_a_report_of_what_waits_already_opens_no_second_review(
    store: Store, submit: Submit
) -> None:
    item = submit(status="review", opens="unsure")
    report(store, item)
    with store.reading() as connection:
        (queued,) = connection.execute(REVIEW_QUEUE.select())
        assert (queued.review, queued.reason) == (item, "unsure")


def pages(store: Store, tag: str, limit: int) -> list[list[int]]:
    found, before = [], None
    with store.reading() as connection:
        while True:
            page = content.list_published(connection, tag, before, limit)
            found.append([item["item"] for item in page["items"]])
            before = page["next"]
            if before is None:
                return found


def test_pages_hold_what_is_published_the_latest_first(store: Store, submit: Submit) -> None:
    items = [submit(f"number {number}", id=None) for number in range(5)]
    hidden = submit("unclear", "review", opens="unsure", id=None)
    with store.writing() as connection:
        append(
            connection, "labelled", at=2, actor="us", item=items[1], status="published",
            tag="metal", data={},
        )  # fmt: skip
        append(
            connection, "labelled", at=3, actor="us", item=hidden, status="published", tag="fruit",
            data={},
        )  # fmt: skip
    expected = [hidden, items[4], items[3], items[2], items[0]]
    assert pages(store, "fruit", 2) == [expected[:2], expected[2:4], expected[4:]]
    assert pages(store, "fruit", 5) == [expected]
    assert pages(store, "metal", 5) == [[items[1]]]
    assert pages(store, "weather", 5) == [[]]


def test_a_page_is_found_by_an_index(store: Store) -> None:
    if not store.url.startswith("sqlite"):
        pytest.skip("PostgreSQL scans small tables, whatever indexes there are")
    with store.reading() as connection:
        plan = connection.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT * FROM item_state JOIN event e ON e.sequence = "
                "item_state.item WHERE item_state.status = 'published' AND item_state.tag = 'a' "
                "AND changed < 9 ORDER BY changed DESC LIMIT 3"
            )
        )
        told = " ".join(row[-1] for row in plan)
    assert "event_published" in told
    assert "TEMP B-TREE" not in told
    assert "SCAN" not in told
