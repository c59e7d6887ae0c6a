import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url
from tests.conftest import Runs
from tests.service.conftest import Server, Start, texts

from tagger import submission
from tagger.cli import main
from tagger.rollout.arms import arm_of
from tagger.service import rollout
from tagger.service.database import Store, open_store
from tagger.service.events import SERVICE, append, events_of, every_event
from tagger.service.fingerprints import comparable, fingerprints
from tagger.service.hold import current_hold, set_hold
from tagger.service.keys import create_key
from tagger.service.maintenance import verify_store
from tagger.service.server import listen
from tagger.service.tables import EVENT


def write_until_killed(server: Server, number: int, acknowledged: dict[str, str]) -> None:
    """Submit items one by one; the first is the one that was not answered before the last end."""
    at = sum(key.startswith(f"{number} ") for key in acknowledged)
    with httpx.Client(base_url=server.url, timeout=30) as client:
        while True:
            key = f"{number} {at}"
            try:
                answer = submit(client, key)
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            assert answer.json()["items"][0]["id"] == key
            acknowledged[key] = answer.text
            at += 1


def submit(client: httpx.Client, key: str) -> httpx.Response:
    body = {"items": [{"title": f"{key} apple orchard", "id": key}]}
    return client.post("/v1/items", json=body, headers={"Idempotency-Key": key})


@pytest.mark.slow
def test_a_killed_service_loses_and_doubles_nothing_that_was_acknowledged(
    start: Start, store_url: str
) -> None:
    acknowledged: dict[str, str] = {}
    server = start()
    for _ in range(2):
        with ThreadPoolExecutor(4) as threads:
            writing = [
                threads.submit(write_until_killed, server, number, acknowledged)
                for number in range(4)
            ]
            goal = len(acknowledged) + random.randint(8, 40)
            while len(acknowledged) < goal:
                time.sleep(random.uniform(0, 0.02))
            server.end(signal.SIGKILL)
            for one in writing:
                one.result()
        verify_store(store_url)
        server = start()
        print(f"{store_url.partition(':')[0]}: ready again after {server.seconds:.1f} s")
        assert server.seconds < 30
    assert len(acknowledged) > 20
    with httpx.Client(base_url=server.url) as client:
        for key in [*acknowledged][::10]:
            assert submit(client, key).text == acknowledged[key]
    server.end(signal.SIGTERM)
    store = open_store(store_url)
    with store.reading() as connection:
        rows = connection.scalars(select(EVENT.c.data).where(EVENT.c.kind == "submitted")).all()
    store.close()
    kept = [json.loads(row)["id"] for row in rows]
    assert len(kept) == len({*kept})
    assert {*kept} >= acknowledged.keys()


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_file_that_may_not_grow_acknowledges_nothing_and_recovers(
    start: Start, store_url: str
) -> None:
    server = start()
    with httpx.Client(base_url=server.url) as client:
        assert submit(client, "before").status_code == 200
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        # Nor may the log be written from its start again, as it is after a checkpoint.
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, hard))
        refused = [submit(client, f"refused {at}") for at in range(3)]
        assert [answer.status_code for answer in refused] == [503] * 3
        assert client.get("/v1/content?tag=fruit").status_code == 200
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert submit(client, "after").status_code == 200
    server.end(signal.SIGKILL)
    assert "items: 2 " in verify_store(store_url)


def traced(folder: Path) -> list[str]:
    """Under what a server is started whose calls to the system are written to a file."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    under = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-e",
        "trace=connect,fdatasync,fsync,write,writev,sendto",
    ]
    probe = [*under, "-o", os.devnull, "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    return [*under, "-o", str(folder / "trace")]


@pytest.mark.slow
def test_an_answer_comes_after_the_disk_and_nothing_is_connected_to_but_the_store(
    start: Start, store_url: str, tmp_path: Path
) -> None:
    server = start(traced(tmp_path))
    with httpx.Client(base_url=server.url) as client:
        for at in range(3):
            assert submit(client, str(at)).status_code == 200
    server.end(signal.SIGTERM)
    trace = (tmp_path / "trace").read_text(errors="replace")
    connected = re.findall(r"connect\(\d+, \{(sa_family=AF_INET.*)\}", trace)
    if store_url.startswith("postgresql"):  # whose server syncs
        port = make_url(store_url).port
        assert connected
        assert all(f"sin_port=htons({port})" in address for address in connected)
        return
    assert not connected
    assert not server.sockets.exists()
    calls = re.findall(r"(sync)\(\d+|HTTP/1.1 (200)", trace)
    before = "".join(sync or status for sync, status in calls).split("200")
    assert len(before) == 4
    assert all("sync" in calls for calls in before[:3])


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_no_secret_is_ever_logged(start: Start, store_url: str) -> None:
    store = open_store(store_url, create=True)
    with store.writing() as connection:
        key = create_key(connection, "us", "admin", None)
    store.close()
    server = start()
    bearer = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url) as client:
        for asked, expected in (
            ({"url": f"/{key}"}, 404),
            ({"url": f"/v1/content?tag={key}", "headers": bearer}, 422),
            ({"url": "/v1/content", "headers": {"Authorization": key}}, 401),
            ({"url": "/v1/classify", "json": {key: key}, "headers": bearer}, 422),
            ({"url": "/v1/classify", "json": defect(key), "headers": bearer}, 500),
        ):
            method = "POST" if "json" in asked else "GET"
            answer = client.request(method, **asked)  # type: ignore[arg-type]
            assert answer.status_code == expected, answer.text
    with socket.create_connection(server.address) as raw:
        raw.sendall(f"nonsense {key}\r\n\r\n".encode())
        assert b"400" in raw.recv(1_000)
    server.end(signal.SIGTERM)
    _, key_id, secret = key.split("_")
    assert "a request failed" in server.said
    assert f"tg_{key_id}_..." in server.said
    assert secret not in server.said


def defect(text: str) -> dict[str, object]:
    return {"items": [{"title": f"a defect {text}"}]}


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_what_is_no_ordinary_request_is_refused(start: Start) -> None:
    server = start()

    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 100_000

    kind = {"Content-Type": "application/json"}
    with httpx.Client(base_url=server.url) as client:
        assert client.post("/v1/classify", content=chunks(), headers=kind).status_code == 413
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        upgrade["Sec-WebSocket-Key"] = "c2l4dGVlbiBieXRlcyEh"
        assert client.get("/v1/classify", headers=upgrade).status_code == 405
        assert client.get("/healthz").status_code == 200
    server.end(signal.SIGTERM)
    assert "Traceback" not in server.said


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
        main(["submit", "--input", str(source), "--url", server.url, "--rate", "20"])
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


RAMP = """
name: ramp
guards: {deadline_ms: 20000, review_rise: 1, published_rise: 1}
stages: [{share: 0, items: 3}, {share: 0.5, items: 1000}]
"""


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_killed_service_goes_on_with_a_rollout_and_no_item_changes_its_arm(
    start: Start,
    store_url: str,
    shared_runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollout, "check_gate", lambda new, old: [])
    (tmp_path / "ramp.yaml").write_text(RAMP)
    runs = ["rough", "--against", "words", "--runs-dir", str(shared_runs.folder)]
    server = start()
    main(["rollout", "start", *runs, "--plan", str(tmp_path / "ramp.yaml"), "--store", store_url])
    sent = iter(f"{text} apple orchard" for text in texts(1_000))

    def send_until(reached: Callable[[str], bool], least: int = 0) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for at, title in enumerate(sent):
                assert submit(client, title).status_code == 200
                if at + 1 >= least and reached(client.get("/metrics").text):
                    return
                time.sleep(0.1)
        raise AssertionError

    send_until(lambda text: "tagger_rollout_share 0.5" in text)
    send_until(lambda text: True, least=20)
    server.end(signal.SIGKILL)
    server = start()
    assert "rough answers beside" in "".join(server.told)
    send_until(lambda text: "tagger_rollout_share 0.5" in text, least=20)
    server.end(signal.SIGTERM)
    store = open_store(store_url)
    with store.reading() as connection:
        ramp = rollout.last_rollout(connection)
        kept = [one for one in every_event(connection, "submitted") if "rollout" in one.data]
    store.close()
    assert ramp is not None
    assert ramp.standing.stage == 1
    arms = set()
    for event in kept:
        if event.data["rollout"]["stage"] == 1:
            text = comparable(event.data["title"], event.data["description"])
            arm = arm_of(ramp.salt, fingerprints(text)[0], 0.5)
            assert (event.data["rollout"]["arm"], event.data["duplicate_of"]) == (arm, None)
            assert event.data["run"] == ("rough" if arm == "new" else "words")
            arms.add(arm)
    assert arms == {"new", "old"}
    main(["rollout", "promote", "--reason", "it will do", "--store", store_url])
    server = start()
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/readyz").json()["run"] == "rough"
