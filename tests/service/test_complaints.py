"""What people complain of in systems of this kind; each test is named by the complaint."""

import asyncio
import csv
import json
import random
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from tests.conftest import Runs
from tests.service.conftest import SendItems, Start, WordClassifier, texts

from tagger.data.items import Item
from tagger.decision.decider import Decider, load_decider
from tagger.prediction import predict_file
from tagger.runs import RunFolder
from tagger.scores import FloatArray
from tagger.service.app import build_app
from tagger.service.inference import Inference, predict
from tagger.service.maintenance import backup_store, verify_store
from tagger.service.service import Service
from tagger.service.settings import LimitsConfig

on_sqlite = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)


@pytest.mark.slow
@on_sqlite
def test_concurrent_callers_get_each_others_answers(
    start: Start, shared_runs: Runs, tmp_path: Path
) -> None:
    titles = texts(500)
    source, output = tmp_path / "items.csv", tmp_path / "predicted.csv"
    source.write_text("id,title\n" + "".join(f"{at},{t}\n" for at, t in enumerate(titles)))
    predict_file(shared_runs.open("words"), source, output)
    with output.open(encoding="utf-8") as file:
        expected = [
            (row["decision"], row["tag"], row["probability"]) for row in csv.DictReader(file)
        ]
    server = start()

    async def ask(title: str) -> Any:
        reader, writer = await asyncio.open_connection(*server.address)
        body = json.dumps({"items": [{"title": title}]})
        writer.write(
            "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.startswith("HTTP/1.1 200"), answer
        return json.loads(answer.partition("\r\n\r\n")[2])["items"][0]

    async def ask_at_once() -> list[Any]:
        return await asyncio.gather(*map(ask, titles))

    answers = asyncio.run(ask_at_once())
    found = [
        (one["decision"], one["tag"], f"{one['probabilities'][one['tag']]:.6f}") for one in answers
    ]
    assert found == expected
    assert len({*found}) > 100
    assert server.end(signal.SIGTERM) == 0
    assert not list(tmp_path.glob("*-wal"))  # the store was closed
    assert not server.sockets.exists()  # nothing was connected to


@pytest.mark.slow
@on_sqlite
def test_healthy_with_a_dead_worker(start: Start) -> None:
    server = start()
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/healthz").status_code == 200
        asking = threading.Thread(target=ask_to_end, args=(server.url,))
        asking.start()
        began = time.monotonic()
        while client.get("/healthz").status_code != 503:
            assert time.monotonic() < began + 3
        print(f"unhealthy after {time.monotonic() - began:.3f} s")
    assert server.process.wait(10) == 1
    asking.join(30)


def ask_to_end(url: str) -> None:
    with suppress(httpx.TransportError), httpx.Client(base_url=url, timeout=20) as client:
        client.post("/v1/classify", json={"items": [{"title": "end the thread"}]})


class OneByOne(WordClassifier):
    """A model that fails when it is given more than one text."""

    def predict_proba(self, items: Sequence[Item]) -> FloatArray:
        if len(items) > 1:
            raise MemoryError
        return super().predict_proba(items)


def test_503_only_under_batching(decider: Decider) -> None:
    inference = Inference(Decider(OneByOne(), decider.rule, None), 100)
    words = ["apple", "iron", "rain"] * 10
    futures = [inference.submit([Item("", word, "")]) for word in words]  # one batch
    inference.start()
    found = [future.result(5)[0].published for future in futures]
    inference.stop()
    assert found == ["fruit", "metal", "weather"] * 10


@pytest.mark.slow
def test_long_text_fails_in_a_batch(tiny_run: RunFolder) -> None:
    decider = load_decider(tiny_run.path, tiny_run.load_classifier())
    titles = ["apple", "copper wire " * 3_000, "深" * 40_000, "", "rain " * 30, "a" * 40_000]
    items = [Item("", title, "melon") for title in titles]
    inference = Inference(decider, 100)
    futures = [inference.submit([item]) for item in items]  # one batch
    inference.start()
    together = [future.result(30)[0] for future in futures]
    inference.stop()
    for item, one in zip(items, together, strict=True):
        (alone,) = predict(decider, [item])
        assert (one.published, one.tag) == (alone.published, alone.tag)
        assert one.probabilities == pytest.approx(alone.probabilities, abs=1e-4)


@pytest.mark.parametrize("hangs", ["the model", "the writer", "the readers", "the caller"])
@on_sqlite
def test_a_request_that_never_answers(service: Service, hangs: str) -> None:
    service.config = service.config.model_copy(
        update={"limits": LimitsConfig(deadline_seconds=0.3)}
    )
    app = build_app(service)
    ended = threading.Event()
    match hangs:
        case "the model":
            service.inference.decider.classifier.predict_proba = (  # type: ignore[method-assign]
                lambda items: ended.wait(10)
            )
        case "the writer":
            service.writer.submit(lambda connection: ended.wait(10))
        case "the readers":
            for _ in range(service.readers._max_workers):
                service.readers.submit(ended.wait, 10)
    body = b"" if hangs == "the caller" else b'{"items": [{"title": "apple"}]}'
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if hangs == "the caller":
            await asyncio.sleep(10)
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {"host": "localhost", "content-type": "application/json", "idempotency-key": "k"}
    asked = {"type": "http", "method": "POST", "path": "/v1/items", "query_string": b""}
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    began = time.monotonic()
    asyncio.run(app(asked | {"headers": given}, receive, send))
    seconds = time.monotonic() - began
    ended.set()
    assert sent[0]["status"] == 504
    assert 0.25 < seconds < 3
    assert json.loads(sent[1]["body"])["error"] == "there was no answer in time"


@pytest.mark.slow
def test_database_is_locked(client: TestClient, service: Service, tmp_path: Path) -> None:
    until = time.monotonic() + 2
    statuses: list[int] = []

    def write(number: int) -> int:
        done = 0
        while time.monotonic() < until:
            title = f"apple {' '.join(random.choices('bdfgklmnprstvz', k=12))} {number} {done}"
            answer = client.post(
                "/v1/items",
                json={"items": [{"title": title}]},
                headers={"Idempotency-Key": f"{number} {done}"},
            )
            statuses.append(answer.status_code)
            done += 1
        return done

    def read(_: int) -> None:
        while time.monotonic() < until:
            for path in ("/v1/content?tag=fruit", "/v1/review"):
                statuses.append(client.get(path).status_code)

    def back_up(_: int) -> None:
        number = 0
        while time.monotonic() < until:
            backup_store(service.store.url, tmp_path / f"{number}.backup")
            number += 1

    with ThreadPoolExecutor(18) as threads:
        written = [threads.submit(write, number) for number in range(16)]
        others = [threads.submit(read, 0), threads.submit(back_up, 0)]
        done = sum(future.result() for future in written)
        for other in others:
            other.result()
    assert {*statuses} == {200}
    assert done > 16
    assert f"{done:,} answers" in verify_store(service.store.url)


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


def test_stored_xss_through_a_title(client: TestClient, send: SendItems) -> None:
    send(f"apple {HOSTILE}")
    waiting = send(f"apple apple iron {HOSTILE}", id=HOSTILE)
    wrong = client.post("/v1/feedback", json={"item": 1, "tag": HOSTILE})
    assert wrong.status_code == 422
    answers = [
        wrong,
        client.get("/v1/content?tag=fruit"),
        client.get("/v1/review"),
        client.post("/v1/review/claim"),
        client.get(f"/v1/content?tag={HOSTILE}"),
        client.get(f"/{HOSTILE}"),
    ]
    assert waiting["id"] == HOSTILE
    assert sum(HOSTILE in answer.text for answer in answers) >= 3
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


NUL = "a\0b"


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("classify", {"items": [{"title": NUL}]}, {}),
        ("items", {"items": [{"title": NUL}]}, {}),
        ("items", {"items": [{"description": NUL}]}, {}),
        ("items", {"items": [{"title": "a", "id": NUL}]}, {}),
        ("items", {"items": [{"title": "a", "suggested_tag": NUL}]}, {}),
        ("items", {"items": [{"title": "a", NUL: "a"}]}, {}),
        ("items", {"items": [{"title": "a"}]}, {"Idempotency-Key": NUL}),
        ("feedback", {"item": 1, "tag": NUL}, {}),
        ("feedback", {"item": 1, "comment": NUL}, {}),
        ("review/1/label", {"tag": NUL}, {}),
        ("content?tag=%00", None, {}),
        ("content?tag=fruit&cursor=%00", None, {}),
        ("review/%00/label", {"tag": "fruit"}, {}),
    ],
)
def test_nul_answered_500_on_postgresql_only(
    client: TestClient, path: str, body: object, headers: dict[str, str]
) -> None:
    method = "GET" if body is None else "POST"
    sent = {"Idempotency-Key": "k"} | headers
    assert client.request(method, f"/v1/{path}", json=body, headers=sent).status_code == 422


def test_clusters_of_duplicates_removed_whole(
    client: TestClient, service: Service, send: SendItems
) -> None:
    text = "apple orchards in the valley bloom two weeks early after a mild and very wet winter"
    shouted = text.replace("orchards", "ORCHARDS")
    copies = [text, shouted, f"{text}!", text.replace(" ", "  "), f"  {text}  "]

    def submit(number: int) -> Any:
        return send(copies[number % len(copies)], key=f"copy {number}")

    with ThreadPoolExecutor(12) as threads:
        found = [*threads.map(submit, range(24))]
    kept = {item["item"] for item in found if item["decision"] == "fruit"}
    assert len(kept) == 1
    assert {item["duplicate_of"] for item in found if item["decision"] != "fruit"} == kept
    assert len(client.get("/v1/content?tag=fruit").json()["items"]) == 1
    # Nor is the last one removed by people: what was not found to be like another is no duplicate.
    client.post("/v1/feedback", json={"item": next(iter(kept))})
    review = client.post("/v1/review/claim").json()["review"]
    label = f"/v1/review/{review['review_id']}/label"
    assert client.post(label, json={"duplicate": True}).status_code in (409, 422)
    assert len(client.get("/v1/content?tag=fruit").json()["items"]) == 1
