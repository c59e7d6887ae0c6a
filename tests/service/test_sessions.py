import hashlib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tagger.service import keys
from tagger.service.app import build_app
from tagger.service.keys import Role, create_key, revoke_key
from tagger.service.service import Service
from tagger.service.sessions import SESSION_SECONDS, is_valid, key_of, make_session

SECRET = "a" * 48
HASH = hashlib.sha256(SECRET.encode()).hexdigest()
SESSION = make_session(f"tg_0123456789ab_{SECRET}", 1_000)
END = 1_000 + 1_000 * SESSION_SECONDS


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """What is tried here does not depend on the engine."""
    return f"sqlite:///{tmp_path / 'store.db'}"


def create(service: Service, role: Role = "review") -> str:
    with service.store.writing() as connection:
        return create_key(connection, "somebody", role, None)


def test_a_session_is_of_its_key_until_it_ends() -> None:
    assert key_of(SESSION) == "0123456789ab"
    assert SECRET not in SESSION
    assert HASH not in SESSION
    assert is_valid(SESSION, HASH, END - 1)
    assert not is_valid(SESSION, HASH, END)


def test_a_session_cannot_be_made_longer_or_another_ones() -> None:
    key_id, end, signature = SESSION.split(".")
    assert not is_valid(f"{key_id}.{int(end) + 1}.{signature}", HASH, 0)
    assert not is_valid(f"{key_id[::-1]}.{end}.{signature}", HASH, 0)
    assert not is_valid(SESSION, hashlib.sha256(b"another").hexdigest(), 0)


@pytest.mark.parametrize(
    "text", ["", "..", "0123456789ab", "0123456789ab.1.x", f"{SESSION}0", f"\n{SESSION}", "é.1.é"]
)
def test_what_is_no_session_is_nobodys(text: str) -> None:
    assert key_of(text) == ""


def test_a_key_is_exchanged_for_a_cookie_that_does_what_the_key_does(
    client: TestClient, service: Service
) -> None:
    key = create(service)
    assert client.get("/v1/review").status_code == 401
    answer = client.post("/session", data={"key": f" {key} "}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/review")
    cookie = answer.headers["set-cookie"]
    assert {part.strip() for part in cookie.split(";")[1:]} == {
        "HttpOnly", f"Max-Age={SESSION_SECONDS}", "Path=/", "SameSite=strict",
    }  # fmt: skip
    assert key.split("_")[2] not in cookie
    assert client.get("/v1/review").status_code == 200
    assert client.get("/review").status_code == 200
    assert client.post("/v1/review/claim").status_code == 200
    assert client.get("/metrics").status_code == 403  # as with the key itself
    assert "whose role is review" in client.get("/session").text


def test_who_may_not_review_is_sent_to_the_content(client: TestClient, service: Service) -> None:
    answer = client.post("/session", data={"key": create(service, "read")})
    assert answer.url.path == "/"
    assert client.get("/review").status_code == 403


@pytest.mark.parametrize("by", ["scheme", "settings"])
def test_by_https_cookies_are_secure(service: Service, by: str) -> None:
    service.config = service.config.model_copy(update={"https": by == "settings"})
    scheme = "https" if by == "scheme" else "http"
    client = TestClient(build_app(service), base_url=f"{scheme}://localhost")
    answer = client.post("/session", data={"key": create(service)}, follow_redirects=False)
    assert "; Secure" in answer.headers["set-cookie"]


def test_signing_out_takes_the_cookie_away(client: TestClient, service: Service) -> None:
    client.post("/session", data={"key": create(service)})
    client.post("/session/end")
    assert not client.cookies
    assert client.get("/v1/review").status_code == 401


@pytest.mark.parametrize("key", ["", "tg_0123456789ab_short", f"tg_0123456789ab_{SECRET}", "x y"])
def test_what_is_no_key_begins_no_session(client: TestClient, service: Service, key: str) -> None:
    create(service)
    answer = client.post("/session", data={"key": key}, headers={"Accept": "text/html"})
    assert answer.status_code in (401, 422)
    assert "set-cookie" not in answer.headers


def test_revoking_a_key_ends_its_sessions_within_a_second(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = create(service)
    client.post("/session", data={"key": key})
    assert client.get("/v1/review").status_code == 200
    with service.store.writing() as connection:
        revoke_key(connection, key.split("_")[1])
    now = keys.time.monotonic() + keys.FRESH_SECONDS
    monkeypatch.setattr("tagger.service.keys.time.monotonic", lambda: now)
    assert client.get("/v1/review").status_code == 401


def test_a_session_that_has_ended_is_refused(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/session", data={"key": create(service)})
    later = keys.now_ms() + 1_000 * SESSION_SECONDS
    monkeypatch.setattr("tagger.service.keys.now_ms", lambda: later)
    answer = client.get("/v1/review")
    assert (answer.status_code, answer.json()["error"]) == (401, "the session is over")


def test_a_key_in_the_header_goes_before_the_cookie(client: TestClient, service: Service) -> None:
    client.post("/session", data={"key": create(service)})
    wrong = {"Authorization": f"Bearer tg_0123456789ab_{SECRET}"}
    assert client.get("/v1/review", headers=wrong).status_code == 401


def test_pages_of_other_sites_cannot_use_a_session(client: TestClient, service: Service) -> None:
    client.post("/session", data={"key": create(service)})
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        for path in ("/v1/review/claim", "/review/claim", "/session/end", "/"):
            assert client.post(path, headers=headers).status_code == 403


def test_forms_are_of_pages_and_json_is_of_the_interface(
    client: TestClient, service: Service
) -> None:
    key = create(service, "admin")
    assert client.post("/session", json={"key": key}).status_code == 415
    assert client.post("/session", files={"key": key.encode()}).status_code == 415
    client.post("/session", data={"key": key})
    assert client.post("/v1/classify", data={"items": "1"}).status_code == 415


def test_without_any_key_nobody_signs_in(client: TestClient) -> None:
    assert client.get("/review").status_code == 200
    assert "Nobody needs to sign in" in client.get("/session").text
    assert "Sign out" not in client.get("/review").text
