import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings, strategies
from tests.service.conftest import SendItems

from tagger.service import content, pages
from tagger.service.app import build_app
from tagger.service.events import Event, every_event
from tagger.service.hold import set_hold
from tagger.service.keys import Role, create_key
from tagger.service.service import Service
from tagger.service.settings import LimitsConfig, ReviewConfig

HTML = {"Accept": "text/html"}
LONG = "how to train a small model that files short texts under one of a few tags on a laptop apple"


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """What is tried here does not depend on the engine."""
    return f"sqlite:///{tmp_path / 'store.db'}"


def changed(service: Service, **settings: Any) -> TestClient:
    """Return a client of the service under other settings."""
    service.config = service.config.model_copy(update=settings)
    return TestClient(build_app(service), base_url="http://localhost")


def key_for(service: Service, role: Role) -> str:
    with service.store.writing() as connection:
        return create_key(connection, "somebody", role, None)


def signed_in(service: Service, role: Role = "review") -> TestClient:
    key = key_for(service, role)
    client = TestClient(build_app(service), base_url="http://localhost")
    client.post("/session", data={"key": key})
    return client


def events(service: Service, kind: str) -> list[Event]:
    with service.store.reading() as connection:
        return [event for event in every_event(connection) if event.kind == kind]


def titles(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page)


def shown(page: str) -> str:
    """Return the title of the item that is not hidden on the review page."""
    (article,) = re.findall(r"<article data-review=\"\d+\" data-left=\"\d+\">.*?</h2>", page, re.S)
    return titles(article)[0]


def review_of(page: str) -> str:
    found = re.search(r'data-review="(\d+)" data-left="\d+">', page)
    assert found
    return found[1]


def test_content_is_shown_by_tag_the_latest_first(client: TestClient, send: SendItems) -> None:
    send("apple pie", "apple tart", "iron bridge", "apple iron")
    assert titles(client.get("/").text) == ["apple tart", "apple pie"]
    assert titles(client.get("/?tag=metal").text) == ["iron bridge"]
    assert "Nothing is published" in client.get("/?tag=weather").text
    assert client.get("/?tag=nothing").status_code == 422


def test_titles_are_searched_in_whatever_case(client: TestClient, send: SendItems) -> None:
    send("An apple PIE", "apple tart", description="pie apple")
    assert titles(client.get("/?q=pie").text) == ["An apple PIE"]
    assert "No title" in client.get("/?q=plum").text
    found = client.get("/v1/content?tag=fruit&q=pie").json()["items"]
    assert [item["title"] for item in found] == ["An apple PIE"]


def test_older_items_are_a_link_away(
    client: TestClient, send: SendItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_ITEMS", 2)
    send(*[f"apple {word}" for word in ("one", "two", "three", "four", "five")])
    address, seen = "/?tag=fruit&q=apple", []
    while True:
        page = client.get(address).text
        seen.append([title.split()[1] for title in titles(page)])
        older = re.search(r'rel="next" href="([^"]+)"', page)
        if not older:
            break
        address = older[1].replace("&amp;", "&")
    assert seen == [["five", "four"], ["three", "two"], ["one"]]


def test_a_search_goes_on_where_it_stopped_looking(
    client: TestClient, send: SendItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "SEARCHED", 2)
    send("apple pie", "apple two", "apple three", "apple four")
    first = client.get("/v1/content?tag=fruit&q=pie").json()
    assert first["items"] == []
    second = client.get(f"/v1/content?tag=fruit&q=pie&cursor={first['next']}").json()
    assert [item["title"] for item in second["items"]] == ["apple pie"]
    assert second["next"] is None


def test_a_viewer_says_once_whether_a_tag_is_right(service: Service, send: SendItems) -> None:
    item = send("apple pie")["item"]
    key_for(service, "admin")
    viewer = TestClient(build_app(service), base_url="http://localhost")
    assert "Is this tag right?" in viewer.get("/").text
    data = {"item": item, "right": "true"}
    answer = viewer.post("/?tag=fruit&cursor=9", data=data, follow_redirects=False)
    assert answer.headers["location"] == f"/?tag=fruit&cursor=9#item-{item}"
    assert {"HttpOnly", "SameSite=strict"} <= {*answer.headers["set-cookie"].split("; ")}
    page = viewer.get("/").text
    assert "Is this tag right?" not in page
    assert "Thank you" in page
    viewer.post("/", data=data)
    (event,) = events(service, "confirmed")
    assert re.fullmatch(r"viewer-[0-9a-f]{32}", event.actor)
    # Somebody else is asked still, until a few have answered.
    for number in range(pages.FEW_ANSWERS):
        other = TestClient(build_app(service), base_url="http://localhost")
        assert ("Is this tag right?" in other.get("/").text) == (number + 1 < pages.FEW_ANSWERS)
        other.post("/", data=data)


def test_a_report_opens_a_review_and_publishes_nothing(
    client: TestClient, service: Service, send: SendItems
) -> None:
    item = send("apple pie")["item"]
    client.post("/", data={"item": item, "tag": "metal", "comment": "it is a phone"})
    (event,) = events(service, "reported")
    assert (event.data["tag"], event.data["comment"]) == ("metal", "it is a phone")
    assert titles(client.get("/").text) == ["apple pie"]
    page = client.post("/review/claim").text
    assert "reported by users" in page
    assert "Readers say <strong>metal</strong>" in page


def test_no_means_a_report_without_a_tag(
    client: TestClient, service: Service, send: SendItems
) -> None:
    client.post("/", data={"item": send("apple pie")["item"], "right": "false", "tag": ""})
    assert events(service, "reported")[0].data["tag"] is None


@pytest.mark.parametrize(
    "data",
    [{}, {"item": "x"}, {"item": "1", "tag": "nothing"}, {"item": "1", "comment": "\0"},
     {"item": "1", "comment": "x" * 2_001}, {"item": "1", "right": "true", "tag": "metal"},
     {"item": "1", "more": "1"}, {"item": str(2**63)}],
)  # fmt: skip
def test_a_wrong_form_is_refused_with_a_page(
    client: TestClient, service: Service, send: SendItems, data: dict[str, str]
) -> None:
    send("apple pie")
    answer = client.post("/", data=data or {"comment": ""}, headers=HTML)
    assert answer.status_code == 422
    assert "This was not done" in answer.text
    assert not events(service, "reported")


def test_viewers_of_one_address_cannot_report_without_end(
    service: Service, send: SendItems
) -> None:
    item = send("apple pie")["item"]
    key_for(service, "admin")
    viewer = changed(service, limits=LimitsConfig(viewer_reports_per_hour=2))
    statuses = []
    for _ in range(3):
        viewer.cookies.clear()
        statuses.append(viewer.post("/", data={"item": item}, headers=HTML))
    assert [answer.status_code for answer in statuses] == [200, 200, 429]
    assert 1 <= int(statuses[-1].headers["retry-after"]) <= 1_800
    assert len(events(service, "reported")) == 2


@pytest.mark.parametrize("public", [True, False])
def test_the_content_page_is_open_unless_settings_say_otherwise(
    service: Service, send: SendItems, public: bool
) -> None:
    item = send("apple pie")["item"]
    key = key_for(service, "submit")
    client = changed(service, public=public)
    for answer in (client.get("/", headers=HTML), client.post("/", data={"item": item})):
        assert answer.status_code == (200 if public else 401)
    client.post("/session", data={"key": key})
    assert titles(client.get("/").text) == ["apple pie"]


def test_the_content_page_says_nothing_of_review_to_strangers(service: Service) -> None:
    reviewer = signed_in(service)
    stranger = TestClient(build_app(service), base_url="http://localhost")
    assert 'href="/review"' in reviewer.get("/").text
    assert 'href="/review"' not in stranger.get("/").text
    answer = stranger.get("/review", headers=HTML)
    assert answer.status_code == 401
    assert 'name="key"' in answer.text


def test_twenty_items_are_labelled_by_forms(
    client: TestClient, service: Service, send: SendItems
) -> None:
    for number in range(20):
        send(f"apple iron {number} {number} {number}")
    page = client.get("/review").text
    assert "20</strong> waiting" in page
    assert "Take the first item" in page
    page = client.post("/review/claim", data={"review": ""}).text
    for number in range(20):
        assert shown(page) == f"apple iron {number} {number} {number}"
        data = {"review": review_of(page), "tag": ("fruit", "metal")[number % 2]}
        page = client.post("/review/label", data=data).text
        assert "Labelled." in page
    assert "Nothing is free" in page
    assert "20</strong> labelled" in page
    assert len(titles(client.get("/?tag=metal").text)) == 10
    assert len(events(service, "labelled")) == 20


def test_by_forms_items_are_skipped_and_labels_undone(client: TestClient, send: SendItems) -> None:
    send("apple iron one", "apple iron two")
    page = client.post("/review/claim").text
    page = client.post("/review/skip", data={"review": review_of(page)}).text
    assert shown(page) == "apple iron two"
    first = review_of(page)
    page = client.post("/review/label", data={"review": first, "tag": "metal"}).text
    assert f'<input type="hidden" name="review" value="{first}">' in page.split('id="work"')[0]
    page = client.post("/review/undo", data={"review": first}).text
    assert shown(page) == "apple iron two"
    assert titles(client.get("/?tag=metal").text) == []
    page = client.post("/review/label", data={"review": first, "rejected": "true"}).text
    assert "1</strong> labelled" in page
    page = client.post("/review/undo", data={"review": first}).text
    assert shown(page) == "apple iron two"


def test_a_likely_duplicate_is_shown_beside_its_original(
    client: TestClient, service: Service, send: SendItems
) -> None:
    send(LONG)
    send(LONG.replace("laptop", "phone"))
    page = client.post("/review/claim").text
    assert "Likely a duplicate of" in page
    assert LONG in page.partition("Likely a duplicate of")[2]
    page = client.post("/review/label", data={"review": review_of(page), "duplicate": "true"}).text
    assert events(service, "labelled")[0].status == "duplicate"


def test_a_label_that_is_not_kept_stays_on_the_page_with_what_to_do(
    service: Service, send: SendItems
) -> None:
    send("apple iron")
    one, other = signed_in(service), signed_in(service)
    review = review_of(one.post("/review/claim").text)
    now = service.now()
    service.now = lambda: now + 601_000
    answer = one.post("/review/label", data={"review": review, "tag": "metal"})
    assert answer.status_code == 409
    assert "“metal” was not kept: your lease of review" in answer.text
    again = re.search(
        r'class="problem">\s*<input type="hidden" name="review" value="(\d+)"', answer.text
    )
    assert again
    assert shown(one.post("/review/claim", data={"review": again[1]}).text) == "apple iron"
    one.post("/review/label", data={"review": again[1], "tag": "metal"})
    # It can be claimed again by nobody once it is settled.
    assert "Nothing is free" in other.post("/review/claim", data={"review": again[1]}).text


@pytest.mark.parametrize(
    "data",
    [{"review": "1"}, {"review": "1", "tag": "nothing"}, {"tag": "metal", "review": "x"},
     {"review": "1", "tag": "metal", "duplicate": "true"},
     {"review": "1", "rejected": "true", "duplicate": "true"}],
)  # fmt: skip
def test_a_wrong_label_is_refused(client: TestClient, data: dict[str, str]) -> None:
    assert client.post("/review/label", data=data).status_code == 422


def test_what_cannot_be_done_is_no_address(client: TestClient) -> None:
    assert client.post("/review/publish", data={"review": "1"}).status_code == 422
    assert client.post("/review/label", data={"tag": "metal"}).status_code == 404


def test_how_far_two_people_agree_is_shown(service: Service, send: SendItems) -> None:
    send("apple iron one", "apple iron two")
    changed(service, review=ReviewConfig(people=2))
    for labels in (
        ({"tag": "fruit"}, {"rejected": "true"}),
        ({"tag": "fruit"}, {"rejected": "true"}),
    ):
        person = signed_in(service)
        page = person.post("/review/claim").text
        for own in labels:
            page = person.post("/review/label", data={"review": review_of(page)} | own).text
    assert re.search(r"κ <strong>1\.00</strong> over 2", page)


def test_what_a_run_says_of_a_blind_item_is_hidden(service: Service, send: SendItems) -> None:
    changed(service, review=ReviewConfig(sample=1.0))
    send("apple pie", suggested_tag="metal")
    client = TestClient(build_app(service), base_url="http://localhost")
    page = client.post("/review/claim").text
    assert shown(page) == "apple pie"
    assert "judge by yourself" in page
    assert "<meter" not in page
    assert "metal</strong>" not in page


def test_a_hold_is_shown_on_every_page(client: TestClient, service: Service) -> None:
    with service.store.writing() as connection:
        set_hold(connection, "a <promise> is broken", actor="us", at=1_790_000_000_000)
    for path in ("/", "/review", "/session"):
        page = client.get(path).text
        assert "a &lt;promise&gt; is broken (since 2026-09-21 14:13:20 UTC)" in page


EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>{{ 7*7 }}"""


def test_what_others_wrote_is_text_wherever_it_is_shown(
    client: TestClient, service: Service, send: SendItems
) -> None:
    item = send(f"apple {EVIL}", description=EVIL, id=EVIL)["item"]
    send(f"apple iron {EVIL}", description=EVIL, id=EVIL)
    pages_shown = [
        client.get("/").text,
        client.get("/", params={"q": EVIL}).text,
        client.get("/", params={"tag": EVIL}, headers=HTML).text,
        client.post("/", data={"item": item, "comment": EVIL}).text,
        client.post("/review/claim").text,
        client.get("/review").text,
        client.post("/session", data={"key": EVIL}, headers=HTML).text,
    ]
    for page in pages_shown:
        assert not re.search(r"<script>|<img|alert\(1\)>(?!&)|49", page)
    assert "&lt;script&gt;alert(1)" in pages_shown[0]
    assert "&lt;script&gt;alert(1)" in pages_shown[4]


def test_pages_have_no_inline_code_and_a_policy_that_forbids_it(
    client: TestClient, send: SendItems
) -> None:
    send("apple pie", "apple iron")
    client.post("/review/claim")
    for path in ("/", "/review", "/session", "/nothing"):
        answer = client.get(path, headers=HTML)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"] == pages.POLICY
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(
            r"<script(?! type=\"module\" src=)|<style|\sstyle=|\son\w+=", answer.text
        )
        for address in re.findall(r"(?:href|src|action)=\"([^\"]+)\"", answer.text):
            assert address == "data:," or re.match("/(?!/)", address)
    assert "unsafe" not in pages.POLICY


def test_files_are_kept_by_browsers_under_a_name_that_changes_with_them(client: TestClient) -> None:
    page = client.get("/review").text
    for kind, suffix in (("text/css", "css"), ("text/javascript", "js")):
        (address,) = re.findall(rf'"(/static/\w+\.[0-9a-f]{{16}}\.{suffix})"', page)
        answer = client.get(address)
        assert answer.headers["content-type"].startswith(kind)
        assert "immutable" in answer.headers["cache-control"]
        assert (
            answer.text
            == (pages.FOLDER / "static" / re.sub(r"\.\w{16}", "", address[8:])).read_text()
        )


@pytest.mark.parametrize(
    "name",
    ["pages.css", "../pages.py", "..%2fpages.py", "%2e%2e/pages.py", "..\\pages.py", "", "%00"],
)
def test_nothing_else_of_the_machine_is_sent(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_refusals_are_pages_for_browsers_and_json_for_others(client: TestClient) -> None:
    assert "There is nothing" not in client.get("/nothing").text
    assert client.get("/nothing").json()["error"] == "there is nothing at this address"
    page = client.get("/v1/nothing", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 404
    assert "there is nothing at this address" in page.text


@pytest.mark.slow
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=strategies.sampled_from(
        ["/", "/review/claim", "/review/label", "/review/skip", "/review/undo", "/session"]
    ),
    fields=strategies.dictionaries(
        strategies.sampled_from(("item", "tag", "comment", "right", "review", "duplicate", "key")),
        strategies.text() | strategies.sampled_from(("1", "true", "fruit", str(2**63), "-1")),
    ),
    query=strategies.dictionaries(
        strategies.sampled_from(("tag", "q", "cursor", "done")), strategies.text(max_size=9)
    ),
)
def test_nothing_that_is_sent_to_a_page_is_answered_as_a_defect(
    client: TestClient, path: str, fields: dict[str, str], query: dict[str, str]
) -> None:
    for answer in (
        client.post(path, data=fields, params=query, headers=HTML, follow_redirects=False),
        client.get("/review" if path.startswith("/review") else path, params=query, headers=HTML),
    ):
        assert answer.status_code < 500, answer.text
        assert answer.status_code == 303 or answer.headers["content-type"].startswith("text/html")
