import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tagger.service.app import build_app
from tagger.service.keys import ROLES, Role, create_key, revoke_key
from tagger.service.service import Service
from tagger.service.settings import LimitsConfig, ServiceConfig

PARAMETERS = {"review_id": "1", "action": "claim", "name": "pages.css"}
BODY = {"items": [{"title": "apple"}]}


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """What is tried here does not depend on the engine."""
    return f"sqlite:///{tmp_path / 'store.db'}"


Limited = Callable[..., TestClient]


@pytest.fixture
def limited(service: Service, config: ServiceConfig) -> Limited:
    """Makes a client of the service under other limits."""

    def make(**limits: Any) -> TestClient:
        service.config = config.model_copy(update={"limits": LimitsConfig(**limits)})
        return TestClient(build_app(service), base_url="http://localhost")

    return make


@pytest.fixture
def keys(service: Service) -> dict[Role, dict[str, str]]:
    """The headers by which a client of each role is known."""
    with service.store.writing() as connection:
        made = {role: create_key(connection, role, role, None) for role in ROLES}
    return {role: {"Authorization": f"Bearer {key}"} for role, key in made.items()}


def operations(client: TestClient) -> Iterator[tuple[str, str, list[str]]]:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path.format(**PARAMETERS), operation["x-roles"]


def test_each_role_may_do_what_the_openapi_document_says_and_nothing_else(
    client: TestClient, keys: dict[Role, dict[str, str]]
) -> None:
    asked = 0
    for method, path, roles in operations(client):
        for role, headers in keys.items():
            answer = client.request(method, path, headers=headers)
            if not roles or role in roles:
                assert answer.status_code not in (401, 403), (method, path, role)
            else:
                assert answer.status_code == 403, (method, path, role)
            asked += 1
        if roles:
            assert client.request(method, path).status_code == 401
            wrong = {"Authorization": f"Bearer tg_{'0' * 12}_{'0' * 48}"}
            assert client.request(method, path, headers=wrong).status_code == 401
    assert asked == 84


@pytest.fixture
def bad_keys(service: Service, keys: dict[Role, dict[str, str]]) -> list[bytes]:
    """Authorization headers by which nobody is known, beside keys that are valid."""
    with service.store.writing() as connection:
        expired = create_key(connection, "expired", "admin", -1)
        revoked = create_key(connection, "revoked", "admin", None)
        revoke_key(connection, revoked.split("_")[1])
    good = keys["admin"]["Authorization"]
    made = [
        f"Bearer {expired}",
        f"Bearer {revoked}",
        f"Bearer tg_{'0' * 12}_{'0' * 48}",
        "Bearer",
        "Bearer ",
        good.removeprefix("Bearer "),
        good.replace("Bearer", "Basic"),
        good.upper().replace("BEARER", "Bearer"),
        good[:-1],
        f"{good}0",
        f"{good} {good}",
        f"Bearer tg_{'9' * 1_000_000}_{'0' * 48}",
        f"Bearer tg_{'٣' * 12}_{'٣' * 48}",
        f"Bearer {'深' * 61}",
        f"{good}\0",
        "' OR 1=1 --",
    ]
    return [key.encode() for key in made] + [b"Bearer \xff\xfe" + b"\x80" * 60]


def test_nothing_but_a_valid_key_opens_anything(client: TestClient, bad_keys: list[bytes]) -> None:
    asked = 0
    for method, path, roles in operations(client):
        for key in bad_keys if roles else []:
            answer = client.request(method, path, headers={"Authorization": key})
            assert answer.status_code == 401, (method, path, key[:80])
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]
            asked += 1
    assert asked >= 17 * 10


def test_the_roles_are_those_that_were_meant(client: TestClient) -> None:
    may = {(method, path): "+".join(roles) for method, path, roles in operations(client)}
    assert may == {
        ("POST", "/v1/classify"): "admin+submit",
        ("POST", "/v1/items"): "admin+submit",
        ("POST", "/v1/feedback"): "admin+read+review+submit",
        ("GET", "/v1/content"): "admin+read+review",
        ("GET", "/v1/review"): "admin+review",
        ("POST", "/v1/review/claim"): "admin+review",
        ("POST", "/v1/review/1/label"): "admin+review",
        ("POST", "/v1/review/1/skip"): "admin+review",
        ("POST", "/v1/review/1/undo"): "admin+review",
        ("GET", "/metrics"): "admin+read",
        ("GET", "/healthz"): "",
        ("GET", "/readyz"): "",
        ("GET", "/"): "",
        ("POST", "/"): "",
        ("GET", "/review"): "admin+review",
        ("POST", "/review/claim"): "admin+review",
        ("GET", "/rollout"): "admin+read",
        ("GET", "/session"): "",
        ("POST", "/session"): "",
        ("POST", "/session/end"): "",
        ("GET", "/static/pages.css"): "",
    }


def test_a_route_without_a_rule_is_open_to_nobody(service: Service) -> None:
    app = build_app(service)
    app.add_api_route("/forgotten", lambda: "open", methods=["GET"])
    client = TestClient(app, base_url="http://localhost")
    assert client.get("/forgotten").status_code == 403
    assert client.get("/openapi.json").status_code == 200


def test_what_is_not_there_says_so(client: TestClient) -> None:
    assert client.get("/v2").status_code == 404
    assert client.get("/docs").status_code == 404
    for method, path, allowed in (("GET", "/v1/items", "POST"), ("DELETE", "/v1/content", "GET")):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:8080", 200), ("evil.example", 421), ("localhost.evil", 421)],
)
def test_only_known_hosts_are_answered(client: TestClient, host: str, status: int) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_of_other_sites_change_nothing(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.post("/v1/classify", json=BODY, headers=headers).status_code == status


def test_every_answer_forbids_what_a_browser_might_do_with_it(client: TestClient) -> None:
    asking = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (
        *(client.request(method, path) for method, path, _ in operations(client)),
        *(client.options(path, headers=asking) for _, path, _ in operations(client)),
        client.get("/healthz", headers=asking),
        client.get("/nothing"),
        client.get("/healthz", headers={"Host": "evil.example"}),
        client.post("/v1/classify", json={"items": [{"title": "a defect"}]}),
    ):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control")]


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1_000):
        yield b" " * 1_000


def test_too_long_a_body_is_refused_declared_or_not(
    limited: Limited, keys: dict[Role, dict[str, str]]
) -> None:
    client = limited(body_bytes=10_000)
    headers = keys["submit"] | {"Content-Type": "application/json"}
    for body in (b" " * 10_001, chunks(11_000)):
        assert client.post("/v1/classify", content=body, headers=headers).status_code == 413
    # A stranger is told so before the size is looked at, and the size before the type.
    assert client.post("/v1/classify", content=b" " * 10_001).status_code == 401
    plain = keys["submit"] | {"Content-Type": "text/plain"}
    assert client.post("/v1/classify", content=b" " * 10_001, headers=plain).status_code == 413
    assert client.post("/v1/classify", content=b"{", headers=plain).status_code == 415
    assert client.post("/v1/classify", content=b"{", headers=headers).status_code == 400
    whole = {"items": [{"title": "apple " * 1_600}]}
    assert client.post("/v1/classify", json=whole, headers=keys["submit"]).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_other_kinds_of_body_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/v1/classify", content=b'{"items": []}', headers=headers)
    assert answer.status_code == 415


def test_too_many_requests_are_told_when_to_come_again(
    limited: Limited, keys: dict[Role, dict[str, str]]
) -> None:
    client = limited(requests_per_second=0.2)
    answers = [client.get("/v1/content?tag=fruit", headers=keys["read"]) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert 1 <= int(answers[1].headers["retry-after"]) <= 5
    assert client.get("/v1/content?tag=fruit", headers=keys["admin"]).status_code == 200


def test_guessing_keys_is_limited_by_address(
    limited: Limited, keys: dict[Role, dict[str, str]]
) -> None:
    client = limited(requests_per_second_by_address=0.2)
    assert [client.post("/v1/classify", json=BODY).status_code for _ in range(2)] == [401, 429]


def test_a_full_queue_is_told_when_to_come_again(limited: Limited, service: Service) -> None:
    client = limited(deadline_seconds=3)
    hold = threading.Event()
    service.writer.submit(lambda connection: hold.wait(10))
    service.writer._waiting.maxsize = 1
    service.inference.most_waiting = 0
    service.inference.waiting = 1
    time.sleep(0.1)
    service.writer.submit(lambda connection: None)
    for path, body in (("/v1/classify", BODY), ("/v1/review/claim", None)):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    hold.set()


def test_every_request_ends_by_its_deadline_and_is_not_carried_out_later(
    limited: Limited, service: Service
) -> None:
    client = limited(deadline_seconds=0.3)
    hold = threading.Event()
    service.writer.submit(lambda connection: hold.wait(10))
    began = time.monotonic()
    answer = client.post("/v1/items", json=BODY, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.headers["retry-after"]) == (504, "1")
    assert time.monotonic() - began < 2
    hold.set()
    assert client.get("/v1/content?tag=fruit").json()["items"] == []


@pytest.mark.slow
def test_a_locked_store_acknowledges_nothing_and_recovers(
    client: TestClient, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    headers = {"Idempotency-Key": "k"}
    answer = client.post("/v1/items", json=BODY, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    other.close()
    assert client.get("/v1/content?tag=fruit").json()["items"] == []
    assert client.post("/v1/items", json=BODY, headers=headers).status_code == 200


def test_a_full_disk_acknowledges_nothing_and_recovers(
    client: TestClient, service: Service
) -> None:
    headers = {"Idempotency-Key": "k"}
    with service.store.writing() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def limit(pages: int) -> Any:
        return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    service.writer.submit(limit(pages or 0)).result(5)
    many = {"items": [{"title": f"{'apple ' * 3_000} {number}"} for number in range(8)]}
    answer = client.post("/v1/items", json=many, headers=headers)
    assert answer.status_code == 503, answer.text
    service.writer.submit(limit(1_000_000)).result(5)
    assert client.get("/v1/content?tag=fruit").json()["items"] == []
    assert client.post("/v1/items", json=many, headers=headers).status_code == 200
