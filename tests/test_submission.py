import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tagger import submission
from tagger.cli import main
from tagger.errors import UserError
from tagger.submission import list_rows, submit_file

ITEMS = "id,title,description,suggested_tag\n" + "".join(
    f"i{n},title {n},text,{'fruit' if n == 3 else ''}\n" for n in range(40)
)


class FakeService(ThreadingHTTPServer):
    """Keeps what is posted to it by its key, as the service does, unless it is told otherwise.

    Attributes:
        items: By idempotency key, what was kept.
        asked: The requests, each its moment, its key and its authorization.
        answers: What it says of a title instead: a status, or several, one after the other.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.items: dict[str, dict[str, str]] = {}
        self.asked: list[tuple[float, str, str | None]] = []
        self.answers: dict[str, list[int]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def titles(self) -> list[str]:
        return [item["title"] for item in self.items.values()]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeService

    def do_POST(self) -> None:
        assert self.path == "/v1/items"
        (item,) = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["items"]
        key = self.headers["Idempotency-Key"]
        self.server.asked.append((time.monotonic(), key, self.headers["Authorization"]))
        waiting = self.server.answers.get(item.get("title", ""), [])
        status = waiting.pop(0) if waiting else 200
        if status == 200:
            self.server.items.setdefault(key, item)
            decision = "needs review" if item["title"].endswith("7") else "fruit"
            body: Any = {"items": [{"decision": decision}]}
        else:
            body = {"error": "so it is", "problems": ["items.0.id: wrong"]}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *given: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text(ITEMS, encoding="utf-8")
    return path


Submit = Callable[..., int]


@pytest.fixture
def submit(service: FakeService) -> Submit:
    """Gives the command; returns its exit code."""

    def run(*options: object) -> int:
        try:
            main(["submit", "--url", service.url, *map(str, options)])
        except SystemExit as error:
            return int(error.code or 0)
        return 0

    return run


def test_all_items_arrive_once_however_often_they_are_sent(
    service: FakeService, submit: Submit, items: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("--input", items) == 0
    assert capsys.readouterr().out == "40 items: 36 published, 4 for people, 0 there already\n"
    assert sorted(service.titles) == sorted(f"title {n}" for n in range(40))
    kept = {item["id"]: item for item in service.items.values()}
    assert kept["i3"] == {
        "id": "i3", "title": "title 3", "description": "text", "suggested_tag": "fruit"
    }  # fmt: skip
    assert kept["i4"] == {"id": "i4", "title": "title 4", "description": "text"}
    # A feed of which one entry is new and one was changed.
    later = ITEMS.replace("i0,title 0", "new,a title").replace("title 1,", "title one,")
    items.write_text(later, encoding="utf-8")
    assert submit("--input", items) == 0
    assert len(service.asked) == 80
    assert len(service.items) == 42


def test_sources_that_count_alike_are_told_apart(
    service: FakeService, submit: Submit, items: Path
) -> None:
    assert submit("--input", items, "--source", "shop") == 0
    assert {item["id"] for item in service.items.values()} == {f"shop:i{n}" for n in range(40)}


def test_rows_without_an_id_and_very_long_ids_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\none\ntwo\n", encoding="utf-8")
    assert [item for item, _ in list_rows(path, "x")] == [
        {"description": "one"}, {"description": "two"}
    ]  # fmt: skip
    path.write_text(f"id,title\n{'x' * 300},a\n{'x' * 301},b\n", encoding="utf-8")
    first, second = (item["id"] for item, _ in list_rows(path, ""))
    assert len(first) == len(second) == 200
    assert first[:135] == second[:135]
    assert first != second


def test_what_is_not_taken_goes_to_a_side_file_that_can_be_sent_again(
    service: FakeService, submit: Submit, items: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items.write_text(f"{ITEMS}i40,,,\ni41,too,many,fields,here\n", encoding="utf-8")
    service.answers = {"title 3": [422, 422], "title 5": [413]}
    failed = items.with_name("items.csv.failed.jsonl")
    assert submit("--input", items) == 1
    assert f"4 items were not taken: {failed}" in capsys.readouterr().err
    assert len(service.items) == 38
    lines = [json.loads(line) for line in failed.read_text(encoding="utf-8").splitlines()]
    reasons = {line.get("id", "-"): line["reason"] for line in lines}
    assert reasons == {
        "i3": "422: so it is; items.0.id: wrong",
        "i5": "413: so it is; items.0.id: wrong",
        "i40": "row 41 (line 42): no text: 'title' and 'description' are blank",
        "-": "row 42 (line 43): 5 fields, the header has 4 (put texts that hold ',' in double "
        "quotes)",
    }
    assert next(line for line in lines if line.get("id") == "i3")["suggested_tag"] == "fruit"
    assert submit("--input", items) == 1  # title 5 is taken now; nothing is written twice
    assert failed.read_text(encoding="utf-8").count("\n") == 4
    again = items.with_name("again.jsonl")
    assert submit("--input", failed, "--failed", again) == 1
    assert len(service.items) == 40
    assert again.read_text(encoding="utf-8").count("\n") == 2  # those without a text


@pytest.mark.slow
def test_a_busy_service_is_given_the_time_that_it_asks_for(
    service: FakeService, submit: Submit, items: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answers = {"title 2": [503, 429, 504]}
    assert submit("--input", items) == 0
    assert len(service.items) == 40
    told = capsys.readouterr().err
    assert told.count("trying again") == 1
    assert f"{service.url} answers 503: so it is" in told
    key = next(key for key, item in service.items.items() if item["title"] == "title 2")
    moments = [at for at, one, _ in service.asked if one == key]
    waits = [later - earlier for earlier, later in pairwise(moments)]
    assert waits[0] == pytest.approx(0.25, abs=0.2)
    assert waits[1] == pytest.approx(1, abs=0.2)
    assert waits[2] == pytest.approx(1, abs=0.3)


@pytest.mark.slow
def test_patience_ends_and_the_same_command_goes_on(
    service: FakeService,
    items: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submission, "PATIENCE_SECONDS", 0.5)
    service.answers = {"title 20": [503] * 9}
    with pytest.raises(UserError, match=r"answers 503: so it is; items\.0\.id: wrong") as caught:
        submit_file(items, service.url)
    assert "same command goes on" in caught.value.hint
    assert 20 <= len(service.items) < 40
    service.answers = {}
    outcome = submit_file(items, service.url)
    assert outcome.decisions == Counter({"fruit": 36, "needs review": 4})
    assert len(service.items) == 40
    with pytest.raises(UserError, match="does not answer"):
        submit_file(items, "http://127.0.0.1:1")


@pytest.mark.parametrize("status", [401, 403, 404, 421])
def test_what_is_wrong_for_all_items_ends_the_command(
    service: FakeService,
    submit: Submit,
    items: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    service.answers = {f"title {n}": [status] for n in range(40)}
    assert submit("--input", items) == 2
    assert f"{service.url} answers {status}: so it is" in capsys.readouterr().err
    assert not items.with_name("items.csv.failed.jsonl").exists()
    assert not service.items


@pytest.mark.slow
def test_the_rate_is_kept(service: FakeService, items: Path) -> None:
    submit_file(items, service.url, rate=40)
    moments = sorted(at for at, *_ in service.asked)
    assert moments[-1] - moments[0] == pytest.approx(39 / 40, abs=0.15)


def test_the_key_is_taken_from_the_environment(
    service: FakeService, submit: Submit, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGGER_KEY", "tg_one\n")
    monkeypatch.setenv("OTHER", "tg_two")
    submit("--input", items)
    submit("--input", items, "--key-env", "OTHER")
    assert {who for *_, who in service.asked} == {"Bearer tg_one", "Bearer tg_two"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--url", "localhost:8080"], "--url localhost:8080: expected such as http"),
        (["--key-env", "ABSENT"], "there is no such environment variable"),
        (["--rate", "0"], "expected more than 0 items a second"),
        (["--failed", "rest.csv"], "ends in .jsonl"),
        (["--input", "none.csv"], "none.csv does not exist"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(
    service: FakeService,
    items: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    told: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["submit", "--url", service.url, "--input", str(items), *options])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
    assert not service.asked


def test_of_a_file_that_was_cut_off_nothing_is_sent(
    service: FakeService, submit: Submit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.json"
    path.write_text('[{"id": 1, "title": "a"}, {"id": 2', encoding="utf-8")
    assert submit("--input", path) == 2
    assert "cut.json cannot be read" in capsys.readouterr().err
    assert not service.asked


def test_ctrl_c_leaves_what_was_sent(
    service: FakeService, submit: Submit, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bar:
        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *given: object) -> None:
            pass

        def update(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(submission, "progress_bar", lambda *given: Bar())
    assert submit("--input", items) == 130
    assert 0 < len(service.items) < 40
    monkeypatch.undo()
    assert submit("--input", items) == 0
    assert len(service.items) == 40
