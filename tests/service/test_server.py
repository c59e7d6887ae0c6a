import asyncio
import csv
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from tests.conftest import WORDS, Runs

from tagger import submission
from tagger.cli import main
from tagger.files import REPO_ROOT
from tagger.prediction import predict_file
from tagger.service.database import Store, open_store
from tagger.service.events import SERVICE, append, events_of
from tagger.service.hold import current_hold, set_hold
from tagger.service.maintenance import verify_store
from tagger.service.server import listen
from tagger.service.tables import EVENT

CHILD = """
import sys
from tagger.service import inference

def note(event, given):
    if event == "socket.connect":
        with open(SOCKETS, "a") as file:
            print(given[1], file=file)

def predict(decider, items, original=inference.predict):
    if any("end the thread" in item.text for item in items):
        raise SystemExit
    return original(decider, items)

SOCKETS = sys.argv.pop(1)
sys.addaudithook(note)
inference.predict = predict
from tagger.cli import main
main(sys.argv[1:])
"""


class Server:
    """A process that serves a run."""

    def __init__(self, run: Path, folder: Path, store_url: str) -> None:
        self.sockets = folder / "sockets"
        settings = folder / "service.yaml"
        settings.write_text("port: 0\nlimits: {queue: 2000, deadline_seconds: 30}\n")
        environment = os.environ | {"PYTHONPATH": str(REPO_ROOT / "src"), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(self.sockets), "serve", "--run", str(run),
             "--config", str(settings), "--store", store_url],
            stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert self.process.stderr is not None
        told = []
        for line in self.process.stderr:
            told.append(line)
            if found := re.match(r"ready: (http://\S+)", line):
                self.url = found[1]
                host, port = self.url.removeprefix("http://").split(":")
                self.address = (host, int(port))
                return
        raise AssertionError("".join(told))

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


Start = Callable[[], Server]


@pytest.fixture
def start(shared_runs: Runs, tmp_path: Path, store_url: str) -> Iterator[Start]:
    """Starts a server of the run `words`; what is left of it in the end is killed."""
    started: list[Server] = []

    def starting() -> Server:
        started.append(Server(shared_runs.open("words").path, tmp_path, store_url))
        return started[-1]

    yield starting
    for server in started:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


def texts(number: int) -> list[str]:
    rng = random.Random(0)
    words = " ".join(WORDS.values()).split()
    return [f"{' '.join(rng.choices(words, k=4))} {at}" for at in range(number)]


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_thousand_at_once_get_what_tagger_predict_gives_them(
    start: Start, shared_runs: Runs, tmp_path: Path
) -> None:
    titles = texts(1_000)
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


def write_until_killed(server: Server, number: int, acknowledged: dict[str, str]) -> None:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for at in range(10_000):
            key = f"{id(server)} {number} {at}"
            body = {"items": [{"title": f"{key} apple orchard", "id": key}]}
            try:
                answer = client.post("/v1/items", json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            assert answer.json()["items"][0]["id"] == key
            acknowledged[key] = answer.text


@pytest.mark.slow
def test_a_killed_service_loses_and_doubles_nothing_that_was_acknowledged(
    start: Start, store_url: str
) -> None:
    acknowledged: dict[str, str] = {}
    for seconds in (0.3, 0.7, 1.1):
        server = start()
        threads = [
            threading.Thread(target=write_until_killed, args=(server, number, acknowledged))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        server.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
    assert len(acknowledged) > 20
    verify_store(store_url)
    store = open_store(store_url)
    with store.reading() as connection:
        rows = connection.scalars(select(EVENT.c.data).where(EVENT.c.kind == "submitted")).all()
    store.close()
    kept = [json.loads(row)["id"] for row in rows]
    assert len(kept) == len({*kept})
    assert {*kept} >= acknowledged.keys()
    server = start()
    with httpx.Client(base_url=server.url) as client:
        for key, first in [*acknowledged.items()][::10]:
            body = {"items": [{"title": f"{key} apple orchard", "id": key}]}
            headers = {"Idempotency-Key": key}
            assert client.post("/v1/items", json=body, headers=headers).text == first


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_service_whose_thread_ends_says_so_and_ends(start: Start) -> None:
    server = start()
    asking = threading.Thread(target=ask_to_end, args=(server.url,))
    asking.start()
    deadline = time.monotonic() + 3
    with httpx.Client(base_url=server.url) as client:
        while client.get("/healthz").status_code != 503:
            assert time.monotonic() < deadline
    assert server.process.wait(10) == 1
    asking.join()


def ask_to_end(url: str) -> None:
    with suppress(httpx.TransportError), httpx.Client(base_url=url, timeout=20) as client:
        client.post("/v1/classify", json={"items": [{"title": "end the thread"}]})


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_file_that_is_sent_again_after_a_kill_is_stored_once(
    start: Start, store_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "items.csv"
    rows = "".join(
        f"i{at},{one},{'fruit' if at == 7 else ''}\n" for at, one in enumerate(texts(60))
    )
    source.write_text(f"id,title,suggested_tag\n{rows}", encoding="utf-8")
    server = start()
    killing = threading.Timer(0.5, server.end, [signal.SIGKILL])
    killing.start()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(submission, "PATIENCE_SECONDS", 1.0)
        main(["submit", "--input", str(source), "--url", server.url, "--rate", "60"])
    killing.join()
    assert caught.value.code == 2
    server = start()
    main(["submit", "--input", str(source), "--url", server.url])
    main(["submit", "--input", str(source), "--url", server.url])
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith("60 items: ")
    store = open_store(store_url)
    with store.reading() as connection:
        found = connection.scalars(select(EVENT.c.data).where(EVENT.c.kind == "submitted")).all()
    store.close()
    kept = {data["id"]: data for data in map(json.loads, found)}
    assert len(found) == len(kept) == 60
    assert kept["i7"]["suggested"] == "fruit"


Refused = Callable[..., str]


@pytest.fixture
def refused(shared_runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Serves with some options, which must be refused; returns what is said."""

    def refuse(*options: str, run: str = "words") -> str:
        given = ["--run", str(shared_runs.folder / run), "--port", "0"]
        with pytest.raises(SystemExit) as caught:
            main(["serve", *given, "--store", f"sqlite:///{tmp_path / 'store.db'}", *options])
        assert caught.value.code == 2
        return capsys.readouterr().err

    return refuse


@pytest.fixture
def a_store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}", create=True)
    yield opened
    opened.close()


def test_more_than_one_worker_is_refused_with_the_reason(refused: Refused) -> None:
    assert "one process" in refused("--workers", "2")


def test_a_taken_port_is_refused(refused: Refused) -> None:
    with listen("127.0.0.1", 0) as taken:
        told = refused("--port", str(taken.getsockname()[1]))
    assert "cannot listen on 127.0.0.1" in told
    assert "Choose another" in told


def test_an_address_that_others_reach_needs_keys(refused: Refused) -> None:
    assert "the store has no keys" in refused("--host", "0.0.0.0")


def test_two_people_are_told_apart_by_keys(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text("review: {people: 2}")
    assert "by their keys" in refused("--config", str(tmp_path / "two.yaml"))


def test_a_hold_before_the_first_start_leaves_the_tags_where_they_are(a_store: Store) -> None:
    with a_store.writing() as connection:
        set_hold(connection, "wait", actor="me", at=1)
        append(connection, "tags", at=2, actor="-", item=SERVICE, data={"tags": ["a", "b"]})
        assert events_of(connection, SERVICE, "tags")
        assert current_hold(connection)


@pytest.mark.slow
def test_a_hold_by_command_stops_a_service_that_runs(start: Start, store_url: str) -> None:
    server = start()
    seen = []
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for at, command in enumerate((["on", "--reason", "too sure"], ["off"])):
            main(["hold", *command, "--store", store_url])
            body = {"items": [{"title": ("apple pear orchard", "copper zinc furnace")[at]}]}
            answer = client.post("/v1/items", json=body, headers={"Idempotency-Key": str(at)})
            seen.append(answer.json()["items"][0]["reason"])
            assert (client.get("/v1/review").json()["hold"] is not None) == (at == 0)
            assert f"tagger_hold {1 - at}.0" in client.get("/metrics").text
    assert seen == ["held", ""]


def test_a_run_with_other_tags_than_the_store_is_refused(refused: Refused, a_store: Store) -> None:
    with a_store.writing() as connection:
        append(connection, "tags", at=1, actor="-", data={"tags": ["mlops", "other"]})
    told = refused()
    assert "other tags than the store" in told
    assert "mlops" in told


def test_a_store_of_another_version_is_refused(refused: Refused, a_store: Store) -> None:
    with a_store.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    assert "is of schema version 0000" in refused()


def test_a_run_that_is_not_there_or_damaged_is_refused(refused: Refused, runs: Runs) -> None:
    assert "there is no run" in refused(run="none")
    next((runs.folder / "words" / "model").iterdir()).unlink()
    assert "damaged" in refused(run=str(runs.folder / "words"))


def test_an_unfinished_run_and_the_folder_of_a_builds_steps_are_refused(
    refused: Refused, runs: Runs
) -> None:
    run = runs.open("words")
    run.meta.model_copy(update={"status": "running"}).write(run.path / "meta.json")
    assert "did not finish training" in refused(run=str(run.path))
    told = refused(run=str(runs.folder))
    assert told.startswith(f"error: {runs.folder} is not a run folder: it has no meta.json\n")
    assert "It holds runs: plain, rough, told, words" in told


def test_an_address_that_is_none_is_refused(refused: Refused) -> None:
    assert "cannot listen on no.such.host.invalid" in refused("--host", "no.such.host.invalid")


def test_a_free_port_is_found() -> None:
    with listen("127.0.0.1", 0) as one, listen("127.0.0.1", 0) as two:
        assert one.getsockname()[1] != two.getsockname()[1]
        with socket.create_connection(one.getsockname()):
            pass
