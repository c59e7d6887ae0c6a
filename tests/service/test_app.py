import json
import random
import threading
import time
from collections import Counter
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings, strategies
from sqlalchemy import event
from tests.service.conftest import OpenItems, SendItems, Submit

from tagger.service import bodies
from tagger.service.app import REFUSALS
from tagger.service.events import read_event
from tagger.service.hold import lift_hold, set_hold
from tagger.service.keys import create_key
from tagger.service.maintenance import verify_store
from tagger.service.service import Service
from tagger.service.settings import ReviewConfig

LONG = "how to train a small model that files short texts under one of a few tags on a laptop apple"


def post(client: TestClient, path: str, body: object = None, **headers: str) -> Any:
    return client.post(path, json=body, headers={"Idempotency-Key": "k"} | headers)


def content(client: TestClient, tag: str = "fruit") -> list[str]:
    return [item["title"] for item in client.get(f"/v1/content?tag={tag}").json()["items"]]


def test_classifying_answers_in_order_and_writes_nothing(
    client: TestClient, service: Service
) -> None:
    items = [{"title": "apple", "id": "a"}, {"description": "apple apple iron"}, {"title": "rain"}]
    answer = post(client, "/v1/classify", {"items": items}).json()
    assert (answer["run"], answer["version"]) == ("words", "1")
    one, two, three = answer["items"]
    assert one == {
        "id": "a", "decision": "fruit", "tag": "fruit", "reason": "", "truncated": False,
        "probabilities": {"fruit": 0.962264, "metal": 0.018868, "weather": 0.018868},
    }  # fmt: skip
    assert (two["decision"], two["reason"]) == ("needs review", "not sure enough")
    assert three["decision"] == "weather"
    assert "0 events" in verify_store(service.store.url)


def test_certain_items_are_published_and_others_wait(client: TestClient, send: SendItems) -> None:
    one, two = send("apple pie", "apple apple iron", id="theirs")
    assert (one["decision"], one["review_id"], one["id"]) == ("fruit", None, "theirs")
    assert (two["decision"], two["review_id"]) == ("needs review", two["item"])
    assert content(client) == ["apple pie"]
    assert client.get("/v1/review").json()["open"] == 1


def test_a_replay_gets_the_first_answer_word_for_word(client: TestClient, service: Service) -> None:
    body = {"items": [{"title": "apple"}]}
    first = post(client, "/v1/items", body)
    assert post(client, "/v1/items", body).text == first.text
    # The same values, written otherwise, are the same request.
    assert post(client, "/v1/items", {"items": [{"title": "apple", "id": None}]}).text == first.text
    assert post(client, "/v1/items", {"items": [{"title": "iron"}]}).status_code == 409
    assert "1 events, 1 answers" in verify_store(service.store.url)


def test_one_key_at_once_from_many_is_one_request(client: TestClient, service: Service) -> None:
    answers: set[str] = set()

    def ask() -> None:
        answers.add(post(client, "/v1/items", {"items": [{"title": "apple"}]}).text)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 1
    assert "1 events, 1 answers" in verify_store(service.store.url)


def test_duplicates_are_neither_classified_nor_published(
    client: TestClient, service: Service, send: SendItems
) -> None:
    kept = send(LONG)
    calls = len(service.inference.decider.classifier.calls)  # type: ignore[attr-defined]
    again = send(LONG.upper(), key="other")
    assert (again["decision"], again["duplicate_of"]) == ("duplicate", kept["item"])
    assert (again["tag"], again["probabilities"]) == (None, None)
    assert len(service.inference.decider.classifier.calls) == calls  # type: ignore[attr-defined]
    likely = send(LONG.replace("laptop", "phone").replace("few", "dozen"))
    assert (likely["decision"], likely["reason"]) == ("needs review", "likely duplicate")
    assert likely["duplicate_of"] == kept["item"]
    # In one request, and in any number of them: one is always kept.
    one, two, three = send("rain in spain", "Rain in Spain!", "rain, in spain")
    assert [item["duplicate_of"] for item in (one, two, three)] == [None, one["item"], one["item"]]
    assert content(client, "weather") == ["rain in spain"]


def test_a_person_settles_what_waits(client: TestClient, send: SendItems) -> None:
    item = send("apple apple iron", suggested_tag="metal")
    post(client, "/v1/feedback", {"item": item["item"], "tag": "weather"})
    found = client.post("/v1/review/claim").json()["review"]
    assert found["item"] == item["item"]
    assert (found["tag"], found["suggested_tag"]) == ("fruit", "metal")
    assert found["reported_tags"] == ["weather"]
    assert client.post("/v1/review/claim").json() == {"review": None}
    path = f"/v1/review/{found['review_id']}"
    assert post(client, f"{path}/skip").status_code == 200
    assert client.post("/v1/review/claim").json()["review"]["item"] == item["item"]
    assert post(client, f"{path}/label", {"tag": "metal"}).json()["status"] == "published"
    assert content(client, "metal") == ["apple apple iron"]
    assert post(client, f"{path}/undo").json()["review"]["item"] == item["item"]
    assert content(client, "metal") == []
    assert post(client, f"{path}/label", {"tag": "gold"}).status_code == 422
    assert post(client, f"{path}/label", {"duplicate": True}).status_code == 422
    rejected = post(client, f"{path}/label", {"rejected": True}).json()
    assert (rejected["status"], rejected["tag"]) == ("rejected", None)
    assert client.get("/v1/review").json()["rejected"] == 1
    assert "tagger_rejections 1.0" in client.get("/metrics").text
    assert send("Apple apple iron!")["reason"] == "rejected"


def test_a_lapsed_lease_is_a_conflict(
    client: TestClient, service: Service, send: SendItems
) -> None:
    send("apple apple iron")
    found = client.post("/v1/review/claim").json()["review"]
    service.now = lambda: int(found["lease_until"])
    answer = post(client, f"/v1/review/{found['review_id']}/label", {"tag": "metal"})
    assert answer.status_code == 409
    assert "lapsed" in answer.json()["error"]
    assert client.post("/v1/review/claim").json()["review"]["item"] == found["item"]


@pytest.mark.parametrize("number", ["0", "-1", "x", str(2**53), "9" * 30])
def test_a_review_has_a_number(client: TestClient, number: str) -> None:
    assert client.post(f"/v1/review/{number}/skip").status_code == 422
    assert client.post(f"/v1/review/{2**53 - 1}/skip").status_code == 404


def test_content_is_paged(client: TestClient, send: SendItems) -> None:
    send(*(f"apple number {word}" for word in ("one", "two", "three", "four", "five")))
    found, cursor = [], ""
    for _ in range(3):
        page = client.get(f"/v1/content?tag=fruit&limit=2{cursor}").json()
        found += [item["title"].split()[-1] for item in page["items"]]
        cursor = f"&cursor={page['next']}"
    assert found == ["five", "four", "three", "two", "one"]
    assert page["next"] is None
    for wrong in ("tag=gold", "tag=fruit&cursor=x", "tag=fruit&limit=0", "", f"cursor={2**63}"):
        assert client.get(f"/v1/content?{wrong}").status_code == 422


def test_a_report_counts_once(client: TestClient, send: SendItems) -> None:
    item = send("apple")["item"]
    body = {"item": item, "comment": "this is metal"}
    assert post(client, "/v1/feedback", body).json() == {"item": item, "counted": True}
    assert post(client, "/v1/feedback", body).json() == {"item": item, "counted": False}
    assert content(client) == ["apple"]
    assert client.get("/v1/review").json()["reviews"][0]["reason"] == "reported by users"
    assert post(client, "/v1/feedback", {"item": 99}).status_code == 404


def test_a_viewer_says_that_a_tag_is_right(client: TestClient, send: SendItems) -> None:
    item = send("apple")["item"]
    assert post(client, "/v1/feedback", {"item": item, "right": True}).json()["counted"]
    assert not post(client, "/v1/feedback", {"item": item, "right": True}).json()["counted"]
    wrong = post(client, "/v1/feedback", {"item": item, "right": True, "tag": "metal"})
    assert (wrong.status_code, "right" in wrong.text) == (422, True)
    assert client.get("/v1/review").json()["open"] == 0


def test_the_sample_is_published_and_looked_at_blind(
    client: TestClient, service: Service, send: SendItems
) -> None:
    changed = {"review": ReviewConfig(sample=0.25)}
    service.config = service.config.model_copy(update=changed)
    draws = iter([0.249, 0.25])
    service.draw = lambda: next(draws)
    drawn, other = send("apple", "apple pie", suggested_tag="fruit")
    assert (drawn["decision"], drawn["reason"], drawn["review_id"]) == ("fruit", "", None)
    assert drawn.keys() == other.keys()
    post(client, "/v1/feedback", {"item": drawn["item"], "tag": "weather"})
    assert content(client) == ["apple pie", "apple"]
    (listed,) = client.get("/v1/review").json()["reviews"]
    assert (listed["item"], listed["reason"]) == (drawn["item"], "random sample")
    answer = client.post("/v1/review/claim")
    found = answer.json()["review"]
    assert found["blind"]
    for hidden in ("fruit", "weather", "0.9"):
        assert hidden not in answer.text
    with service.store.reading() as connection:
        (event, unsampled) = (read_event(connection, n, "submitted") for n in (1, 2))
    assert event is not None
    assert unsampled is not None
    assert event.data["inclusion_probability"] == 0.25
    assert "opens" not in unsampled.data
    path = f"/v1/review/{found['review_id']}"
    assert post(client, f"{path}/label", {"tag": "metal"}).json()["tag"] == "metal"
    assert content(client, "metal") == ["apple"]
    assert "2 published" in verify_store(service.store.url)


def test_what_is_not_published_is_drawn_alike_and_looked_at_blind(
    client: TestClient, service: Service, send: SendItems
) -> None:
    service.config = service.config.model_copy(update={"review": ReviewConfig(sample=1)})
    unsure = send("who knows")
    with service.store.writing() as connection:
        set_hold(connection, "too sure", actor="me", at=5)
    held = send("apple")
    assert [one["reason"] for one in (unsure, held)] == ["the model has no answer", "held"]
    reviews = client.get("/v1/review").json()["reviews"]
    assert [(one["review_id"], one["reason"]) for one in reviews] == [
        (one["review_id"], "random sample") for one in (unsure, held)
    ]
    claimed = [client.post("/v1/review/claim").json()["review"] for _ in reviews]
    assert all(one["blind"] and one["tag"] is None for one in claimed)
    with service.store.reading() as connection:
        kept = [read_event(connection, one["item"], "submitted") for one in (unsure, held)]
    told = [(one.data["would_publish"], one.data["inclusion_probability"]) for one in kept if one]
    assert told == [(None, 1), ("fruit", 1)]


def test_on_hold_people_decide_and_publish(
    client: TestClient, service: Service, send: SendItems
) -> None:
    with service.store.writing() as connection:
        set_hold(connection, "too sure", actor="me", at=5)
    held = send("apple")
    assert (held["decision"], held["reason"]) == ("needs review", "held")
    assert (held["tag"], held["review_id"]) == ("fruit", held["item"])
    assert client.get("/v1/review").json()["hold"] == {"since": 5, "reason": "too sure"}
    assert "tagger_hold 1.0" in client.get("/metrics").text
    number = client.post("/v1/review/claim").json()["review"]["review_id"]
    post(client, f"/v1/review/{number}/label", {"tag": "fruit"})
    assert content(client) == ["apple"]
    with service.store.writing() as connection:
        lift_hold(connection, actor="me", at=6)
    assert send("apple pie")["decision"] == "fruit"
    assert client.get("/v1/review").json()["hold"] is None
    assert "tagger_hold 0.0" in client.get("/metrics").text


@pytest.mark.slow
def test_labels_of_fifteen_people_at_once_are_stored(
    client: TestClient, service: Service, open_items: OpenItems
) -> None:
    count = 150 if "sqlite" in service.store.url else 60  # the server takes longer
    open_items(count)
    with service.store.writing() as connection:
        keys = [create_key(connection, f"person {n}", "review", None) for n in range(15)]
    taken: list[int] = []

    def work(key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        while found := client.post("/v1/review/claim", headers=headers).json()["review"]:
            path = f"/v1/review/{found['review_id']}/label"
            answer = client.post(path, json={"tag": "metal"}, headers=headers)
            assert answer.status_code == 200, answer.text
            taken.append(found["review_id"])

    threads = [threading.Thread(target=work, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == len({*taken}) == count
    assert f"{count} published" in verify_store(service.store.url)


def test_what_is_wrong_with_a_body_is_told_but_not_repeated(client: TestClient) -> None:
    answer = post(client, "/v1/items", {"items": [{"title": "\0secret"}, {"titel": "secret"}]})
    assert answer.status_code == 422
    assert len(answer.json()["problems"]) == 2
    assert "items.0.title" in answer.text
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 422),
        (b'{"items": [{"title": "\xff"}]}', 400),
        (b"[" * 100_000, 400),
        (b'{"items": ' + b"9" * 10_000 + b"}", 400),
        (b'{"items": [{"title": NaN}]}', 422),
        (b'{"items": [{"title": "a\\ud800"}]}', 422),
        (b'{"items": [{"title": "a\\u0000"}]}', 422),
        (b'{"items": [{"title": ""}]}', 422),
        (b'{"items": [{"title": "a", "tag": "x"}]}', 422),
        (b'{"items": [{"title": "a", "half\\ud800": "x"}]}', 422),
        (b'{"items": []}', 422),
        (b"[]", 422),
        (b"null", 422),
    ],
)
def test_broken_bodies_have_their_status(client: TestClient, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    for path in ("/v1/classify", "/v1/items"):
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"items": [' + b",".join([b"{}"] * 600_000) + b"]}",
        b'{"items": [{' + b",".join(b'"%d":1' % at for at in range(150_000)) + b"}]}",
        b'{"items": [{"' + b"long" * 400_000 + b'": 1}]}',
        b'{"items": [{' + b",".join(b'"%d":1' % at for at in range(10)) + b"}, {}, {}, {}, {}, {}, "
        b"{}, {}, {}, {}, {}, {}, {}]}",
    ],
    ids=["many items", "many fields", "a long field", "many problems"],
)
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_body_that_is_wrong_everywhere_is_refused_at_once_and_shortly(
    client: TestClient, body: bytes
) -> None:
    began = time.monotonic()
    answer = client.post("/v1/classify", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert len(answer.json()["problems"]) <= 21
    assert len(answer.content) < 5_000
    assert time.monotonic() - began < 3  # it was half a minute, in which nobody was answered


def test_an_idempotency_key_is_a_text(client: TestClient) -> None:
    body = {"items": [{"title": "apple"}]}
    for key in ("", "a\0b", "k" * 201):
        assert post(client, "/v1/items", body, **{"Idempotency-Key": key}).status_code == 422
    assert client.post("/v1/items", json=body).status_code == 422


def test_a_very_long_text_is_answered_as_cut(client: TestClient) -> None:
    item = {"title": "apple " * 17_000}
    assert post(client, "/v1/classify", {"items": [item]}).json()["items"][0]["truncated"]
    assert post(client, "/v1/items", {"items": [item]}).json()["items"][0]["truncated"]


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_as_much_text_as_may_be_sent_is_kept_in_time(client: TestClient, send: SendItems) -> None:
    rng = random.Random(0)
    long = [" ".join(f"{rng.random()}" for _ in range(12_000)) for _ in range(8)]  # 1.9 MB
    kept = send(*long, key="first")
    assert [one["truncated"] for one in kept] == [True] * 8
    assert [one["duplicate_of"] for one in send(*long, key="again")] == [
        one["item"] for one in kept
    ]


def test_a_defect_is_answered_and_harms_nobody(client: TestClient) -> None:
    assert post(client, "/v1/classify", {"items": [{"title": "a defect"}]}).status_code == 500
    assert post(client, "/v1/classify", {"items": [{"title": "apple"}]}).status_code == 200


def test_health_and_readiness_say_why_not(client: TestClient, service: Service) -> None:
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    service.differing = ["t1: a probability of fruit is 0.4 here, 0.5 in the run"]
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["problems"]) == (503, service.differing)
    assert client.get("/healthz").status_code == 200
    assert post(client, "/v1/items", {"items": [{"title": "apple"}]}).status_code == 503
    service.differing = None
    assert "being tried" in client.get("/readyz").json()["error"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_unhealthy_at_once(client: TestClient, service: Service) -> None:
    soon = service.config.limits.model_copy(update={"deadline_seconds": 1})
    service.config = service.config.model_copy(update={"limits": soon})
    thread = threading.Thread(
        target=post, args=(client, "/v1/classify", {"items": [{"title": "end the thread"}]})
    )
    thread.start()
    service.inference.join(5)
    assert client.get("/healthz").status_code == 503
    assert "inference" in client.get("/readyz").json()["error"]
    assert post(client, "/v1/classify", {"items": [{"title": "apple"}]}).status_code == 503
    thread.join(30)  # which its deadline ends


def test_metrics_count_requests_and_decisions(client: TestClient, send: SendItems) -> None:
    send("apple", "apple apple iron")
    text = client.get("/metrics").text
    assert 'tagger_items_total{decision="fruit"} 1.0' in text
    assert 'tagger_requests_total{method="POST",route="/v1/items",status="200"} 1.0' in text
    assert "tagger_reviews 1.0" in text
    assert "tagger_label_kappa NaN" in text
    assert "tagger_ready 1.0" in text


def test_answers_are_as_the_openapi_document_says(client: TestClient, send: SendItems) -> None:
    waiting = send("apple apple iron")["review_id"]
    post(client, "/v1/feedback", {"item": send("rain")["item"], "tag": "metal"})
    at, items = f"/v1/review/{waiting}", {"items": [{"title": "iron"}]}
    for model, answer in (
        (bodies.ClassifyOut, post(client, "/v1/classify", items)),
        (bodies.SubmitOut, post(client, "/v1/items", items)),
        (bodies.FeedbackOut, post(client, "/v1/feedback", {"item": waiting})),
        (bodies.ContentOut, client.get("/v1/content?tag=weather")),
        (bodies.ReviewsOut, client.get("/v1/review")),
        (bodies.ClaimOut, post(client, "/v1/review/claim")),
        (bodies.OfReview, post(client, f"{at}/skip")),
        (bodies.ClaimOut, post(client, "/v1/review/claim")),
        (bodies.ClaimOut, post(client, "/v1/review/claim")),
        (bodies.LabelOut, post(client, f"{at}/label", {"tag": "metal"})),
        (bodies.ClaimOut, post(client, f"{at}/undo")),
        (bodies.State, client.get("/readyz")),
        (bodies.Problem, client.get("/v1/nothing")),
        (bodies.Problem, post(client, "/v1/classify", {})),
    ):
        model.model_validate_json(answer.text, strict=True, extra="forbid")


def test_openapi_describes_every_route_with_its_roles_and_refusals(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert len(document["paths"]) == 19
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["responses"].keys() >= {str(status) for status in REFUSALS}
            assert operation["description"]
            assert "x-roles" in operation
            assert bool(operation["x-roles"]) == ("security" in operation)
    assert "examples" in json.dumps(document["components"]["schemas"]["ItemIn"])


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text()
    | strategies.floats(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=4,
)  # fmt: skip
FIELDS = ("id", "title", "description", "suggested_tag", "item", "tag", "comment", "duplicate")


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=strategies.sampled_from(
        ["classify", "items", "feedback", "review/claim", "review/1/label", "review/1/undo"]
    ),
    fields=strategies.dictionaries(strategies.sampled_from(FIELDS), JSON | strategies.text()),
    many=strategies.booleans(),
)
def test_no_body_is_answered_as_a_defect(
    client: TestClient, path: str, fields: dict[str, object], many: bool
) -> None:
    body = json.dumps({"items": [fields]} if many else fields)
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    answer = client.post(f"/v1/{path}", content=body, headers=headers)
    assert answer.status_code < 500, answer.text
    assert answer.status_code == 200 or answer.json()["error"]


def test_submitting_an_item_takes_few_statements(
    service: Service, send: SendItems, submit: Submit
) -> None:
    """Seconds depend on the machine; each statement costs some hundred microseconds on any."""
    submit("something else")
    said: list[str] = []

    def listen(connection: object, cursor: object, statement: str, *rest: object) -> None:
        said.append(statement.split(maxsplit=1)[0])

    event.listen(service.store.engine, "before_cursor_execute", listen)
    send("an apple a day keeps doctors away")
    event.remove(service.store.engine, "before_cursor_execute", listen)
    told = Counter(said)
    # Read: the answer, what is alike. Write: the answer, the hold, what is alike since, and rows
    # of the event, of its fingerprints and of the answer.
    assert told["SELECT"] <= 5, told
    assert told["INSERT"] == 3, told
    assert told["SAVEPOINT"] == 0, told
