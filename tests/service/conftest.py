"""What tests of the service share; they are skipped where its requirements are missing."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import psycopg
import pytest
from tests.conftest import WORDS, Runs

from tagger.data.items import Item
from tagger.decision.calibrators import Unchanged
from tagger.decision.decider import Decider, Rule
from tagger.decision.policies import Threshold
from tagger.files import REPO_ROOT
from tagger.scores import FloatArray
from tagger.service import review
from tagger.service.database import Store, open_store
from tagger.service.events import Status, append, state_of
from tagger.service.inference import Inference
from tagger.service.refusals import Refusal
from tagger.service.settings import DuplicatesConfig, LimitsConfig, ReviewConfig, ServiceConfig
from tagger.service.writer import Writer

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from tagger.service.service import Service

LACKING = "fastapi is missing: pip install -r requirements-service.txt -c constraints.txt"


class Skipped(pytest.Module):
    """A module of tests that cannot be imported."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        pytest.skip(LACKING, allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Skip all modules of this folder where they could not be imported."""
    return None if find_spec("fastapi") else Skipped.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def database(postgresql: str) -> str:
    """The address of a database of PostgreSQL for stores, one after the other."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE DATABASE stores")
    return postgresql.removesuffix("postgres") + "stores"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a store that is not there yet, of each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    url = str(request.getfixturevalue("database"))
    yield url
    # Emptied: another database for each test takes a multiple of the time.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store of each engine."""
    opened = open_store(store_url, create=True)
    yield opened
    opened.close()


Submit = Callable[..., int]


@pytest.fixture
def submit(store: Store) -> Submit:
    """Puts an item into the store; returns its number."""

    def put(title: str = "a title", status: Status = "published", **data: Any) -> int:
        with store.writing() as connection:
            return append(
                connection,
                "submitted",
                at=1_000,
                actor="us",
                status=status,
                tag="fruit" if status == "published" else None,
                data={"title": title, "description": ""} | data,
            ).item

    return put


LEASE = 60
WAITING = {"tag": "fruit", "probabilities": {}, "suggested": None, "duplicate_of": None} | {
    "id": None, "run": "r", "version": "1", "opens": "unsure"
}  # fmt: skip
OpenItem = Callable[..., int]
OpenItems = Callable[[int], None]


class People:
    """Does what people ask for, at a time that the test sets."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.at = 10_000
        self.people = 1

    def look(self, who: str) -> dict[str, Any] | None:
        with self.store.writing() as connection:
            return review.claim(connection, who, self.at, LEASE)

    def claim(self, who: str) -> int | None:
        found = self.look(who)
        return None if found is None else int(found["review_id"])

    def label(self, who: str, number: int, tag: str | None = "metal") -> dict[str, object]:
        with self.store.writing() as connection:
            return review.label(connection, number, tag, who, self.at, people=self.people)

    def counts(self) -> dict[str, Any]:
        with self.store.reading() as connection:
            return review.count_reviews(connection, self.at)

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
    """People who review."""
    return People(store)


@pytest.fixture
def open_item(submit: Submit) -> OpenItem:
    """Puts an item into the store that waits for a person; returns its number."""

    def make(title: str, status: Status = "review", **data: Any) -> int:
        return submit(title, status, **WAITING | data)

    return make


@pytest.fixture
def open_items(store: Store) -> OpenItems:
    """Puts many items into the store that wait for people."""

    def make(number: int) -> None:
        with store.writing() as connection:
            for at in range(number):
                texts = {"title": f"number {at}", "description": ""}
                append(
                    connection, "submitted", at=1, actor="us", status="review",
                    data=WAITING | texts,
                )  # fmt: skip

    return make


class WordClassifier:
    """Goes by the words of a text: `apple` is fruit; a text with none of its words is unclear."""

    tags = ("fruit", "metal", "weather")
    words = ("apple", "iron", "rain")

    def __init__(self) -> None:
        self.calls: list[int] = []

    def predict_proba(self, items: Sequence[Item]) -> FloatArray:
        self.calls.append(len(items))
        if any("defect" in item.text for item in items):
            raise ValueError("a defect")
        if any("end the thread" in item.text for item in items):
            raise SystemExit
        counts = [[item.text.split().count(word) for word in self.words] for item in items]
        likely = np.array(counts, np.float64) * 50 + 1
        shares: FloatArray = likely / likely.sum(axis=1, keepdims=True)
        return shares

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError


@pytest.fixture
def decider() -> Decider:
    """Publishes what the words of a text make certain."""
    rule = Rule(Unchanged(), Threshold([0.9, 0.9, 0.9]), None)
    return Decider(WordClassifier(), rule, None)


@pytest.fixture
def config(store_url: str) -> ServiceConfig:
    """Settings that no test waits for, and by which nothing is left to chance."""
    return ServiceConfig(
        store=store_url,
        hosts=["localhost"],
        limits=LimitsConfig(items=8),
        duplicates=DuplicatesConfig(certain=0.9),
        review=ReviewConfig(sample=0),
    )


@pytest.fixture
def service(store: Store, decider: Decider, config: ServiceConfig) -> "Iterator[Service]":
    """A service that is ready."""
    from tagger.service.service import Service

    made = Service(
        run={"run": "words", "version": "1"},
        tags=decider.tags,
        config=config,
        store=store,
        inference=Inference(decider, config.limits.queue),
        writer=Writer(store, config.limits.queue),
        differing=[],
    )
    made.inference.start()
    made.writer.start()
    yield made
    for thread in (made.inference, made.writer):
        if thread.is_alive():
            thread.stop()


@pytest.fixture
def client(service: "Service") -> "TestClient":
    """Asks the service, without a key."""
    from fastapi.testclient import TestClient

    from tagger.service.app import build_app

    return TestClient(build_app(service), base_url="http://localhost")


SendItems = Callable[..., Any]


@pytest.fixture
def send(client: "TestClient") -> SendItems:
    """Submits texts under an idempotency key; returns what became of the first, or of all."""

    def sending(*titles: str, key: str | None = None, **more: Any) -> Any:
        body = {"items": [{"title": title} | more for title in titles]}
        answer = client.post("/v1/items", json=body, headers={"Idempotency-Key": key or titles[0]})
        assert answer.status_code == 200, answer.text
        items = answer.json()["items"]
        return items[0] if len(items) == 1 else items

    return sending


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
    if any("a defect" in item.text for item in items):
        raise ValueError(items[0].text)
    return original(decider, items)

SOCKETS = sys.argv.pop(1)
sys.addaudithook(note)
inference.predict = predict
from tagger.cli import main
main(sys.argv[1:])
"""


class Server:
    """A process that serves a run.

    Attributes:
        url: Its address; also as host and port.
        seconds: From its start until it was ready.
        told: What it said until then.
        sockets: The file in which each address is noted that Python connected to.
    """

    def __init__(self, run: Path, folder: Path, store_url: str, under: Sequence[str] = ()) -> None:
        self.sockets = folder / "sockets"
        settings = folder / "service.yaml"
        limits = "{queue: 2000, wait_seconds: 30, deadline_seconds: 30}"
        settings.write_text(f"port: 0\nlimits: {limits}\n")
        environment = os.environ | {"PYTHONPATH": str(REPO_ROOT / "src"), "OMP_NUM_THREADS": "1"}
        began = time.monotonic()
        self.process = subprocess.Popen(
            [*under, sys.executable, "-c", CHILD, str(self.sockets), "serve", "--run", str(run),
             "--config", str(settings), "--store", store_url],
            stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.told: list[str] = []
        for line in self.process.stderr:
            self.told.append(line)
            if found := re.match(r"ready: (http://\S+)", line):
                self.url = found[1]
                self.seconds = time.monotonic() - began
                host, port = self.url.removeprefix("http://").split(":")
                self.address = (host, int(port))
                return
        raise AssertionError("".join(self.told))

    def end(self, number: int) -> int:
        """Send it a signal; return its exit code, and keep what it said since it was ready."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert self.process.stderr is not None
        self.said = self.process.stderr.read()
        self.process.stderr.close()
        return code


Start = Callable[..., Server]


@pytest.fixture
def start(shared_runs: Runs, tmp_path: Path, store_url: str) -> Iterator[Start]:
    """Starts a server of the run `words`; what is left of it in the end is killed."""
    started: list[Server] = []

    def starting(under: Sequence[str] = ()) -> Server:
        started.append(Server(shared_runs.open("words").path, tmp_path, store_url, under))
        return started[-1]

    yield starting
    for server in started:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


def texts(number: int) -> list[str]:
    """Return titles of words of the run `words`, each different."""
    rng = random.Random(0)
    words = " ".join(WORDS.values()).split()
    return [f"{' '.join(rng.choices(words, k=4))} {at}" for at in range(number)]
