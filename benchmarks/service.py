"""Measures `tagger serve` from outside: latency, capacity, overload, durable submits, kills.

    python benchmarks/service.py --run RUN --texts STREAM.csv [--postgresql URL]
        [--parts classify capacity batches overload submit kill predecessor]
        [--repeats 3] [--kills 50]

Open loop: when each request is due is fixed in advance, and its latency counts from then, so that a
service that stalls is not asked less. Capacity alone is measured in a closed loop: so many
connections that ask again as soon as they are answered. The client is this process, the service
another, warm; with two cores or more they are kept on different ones. Figures are medians of the
repeats. CPU ms are what the service's process computed for an item, refused ones too: on a machine
that others use, they alone can be compared.

`predecessor` is a model of BERT-base's size with random weights, in eager PyTorch behind FastAPI.
URL is that of a PostgreSQL server, whose role may create databases; its fsync must be on.
"""

import argparse
import asyncio
import csv
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import uuid4

import psutil

from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import write_json
from tagger.service.database import open_store
from tagger.service.events import every_event

PARTS = ("classify", "capacity", "batches", "overload", "submit", "kill", "predecessor")
SINGLES = 16
"""Connections that ask about one item each; more would be refused as waiting too long."""
REFUSED_SECONDS = 0.01
"""How long such a connection waits where it was refused all the same."""
Figures = dict[str, float]
Answer = tuple[int, float, bytes]
"""Status (0: no answer), seconds since it was due, body."""


class Connection(asyncio.Protocol):
    """A connection that is kept, and answers one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write to."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None

    def data_received(self, data: bytes) -> None:
        """Collect an answer, and hand it over when it is whole."""
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        lengths = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        if found and self.answer and len(body) >= int(lengths[0].partition(b":")[2]):
            self.received = b""
            self.answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits that there is no answer."""
        if self.answer and not self.answer.done():
            self.answer.set_result((0, b""))


class Client:
    """Asks a service on a port of this machine, by as many connections as it takes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[Connection] = []

    async def ask(self, request: bytes, due: float) -> Answer:
        """Send a request; count from when it was due."""
        loop = asyncio.get_running_loop()
        while self.idle and self.idle[-1].transport.is_closing():
            self.idle.pop()
        try:
            connection = (
                self.idle.pop()
                if self.idle
                else (await loop.create_connection(Connection, "127.0.0.1", self.port))[1]
            )
        except OSError:
            return 0, time.perf_counter() - due, b""
        connection.answer = loop.create_future()
        connection.transport.write(request)
        status, body = await connection.answer
        self.idle.append(connection)
        return status, time.perf_counter() - due, body


def open_loop(port: int, requests: Sequence[bytes], rate: float) -> list[Answer]:
    """Send requests at fixed times, `rate` a second, however long the answers take."""

    async def run() -> list[Answer]:
        client = Client(port)
        start = time.perf_counter() + 0.05
        tasks = []
        for number, request in enumerate(requests):
            due = start + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(client.ask(request, due)))
        return list(await asyncio.gather(*tasks))

    return asyncio.run(run())


def closed_loop(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> float:
    """Return answers a second, where so many connections ask again as soon as they are answered."""
    done = 0

    async def ask(client: Client, end: float) -> None:
        nonlocal done
        while (now := time.perf_counter()) < end:
            status, _, _ = await client.ask(next(requests), now)
            done += status == 200
            await asyncio.sleep(0 if status == 200 else REFUSED_SECONDS)

    async def run() -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(ask(Client(port), end) for _ in range(connections)))

    asyncio.run(run())
    return done / seconds


class Texts:
    """Requests about the texts of a file, in an order of their own, again and again."""

    def __init__(self, file: Path) -> None:
        with file.open(encoding="utf-8", newline="") as rows:
            self.rows = [(row["title"], row["description"]) for row in csv.DictReader(rows)]
        random.Random(0).shuffle(self.rows)
        self.next = 0

    def request(self, path: str, count: int = 1) -> bytes:
        """Return a request about so many items; one that is to be kept has a key of its own."""
        items = []
        for _ in range(count):
            title, description = self.rows[self.next % len(self.rows)]
            # The second time round they would all be duplicates.
            title = title if self.next < len(self.rows) else f"{title} {uuid4().hex}"
            items.append({"id": str(uuid4()), "title": title, "description": description})
            self.next += 1
        body = json.dumps({"items": items}).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nIdempotency-Key: {items[0]['id']}\r\n\r\n"
        )
        return head.encode() + body

    def requests(self, path: str, count: int = 1) -> Iterator[bytes]:
        """Yield requests without end."""
        while True:
            yield self.request(path, count)


def quantiles(answers: Sequence[Answer]) -> Figures:
    """Return milliseconds of what was answered with 200, and the share that was."""
    taken = sorted(seconds for status, seconds, _ in answers if status == 200) or [float("nan")]
    at = {"p50 ms": 0.5, "p99 ms": 0.99}
    figures = {name: 1_000 * taken[int(q * (len(taken) - 1) + 0.5)] for name, q in at.items()}
    return figures | {"answered": sum(a[0] == 200 for a in answers) / len(answers)}


@contextmanager
def served(command: Sequence[str], ready: str) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """Start a service on a free port; yield it once it says that it is ready."""
    cores = os.cpu_count() or 1
    pinned = ["taskset", "-c", f"1-{cores - 1}"] if cores > 1 else []
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*pinned, *command], stderr=log, text=True)
        try:
            while True:
                log.seek(0)
                said = [line for line in log.read().splitlines() if ready in line]
                if said:
                    break
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"the service did not start:\n{log.read()}")
                time.sleep(0.01)
            yield int(said[0].rpartition(":")[2].split()[0]), process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def tagger_serve(options: argparse.Namespace, store: str) -> Any:
    """Serve the run with a store; its limits on requests are out of the way."""
    settings = options.out.parent / "service-benchmark.yaml"
    most = "{requests_per_second: 1000000, requests_per_second_by_address: 1000000}"
    settings.write_text(f"store: {json.dumps(store)}\nlimits: {most}\nport: 0\n")
    main = "from tagger.cli import main; main()"
    given = ["--run", str(options.run), "--config", str(settings)]
    return served([sys.executable, "-c", main, "serve", *given], "ready: ")


@contextmanager
def new_store(engine: str, postgresql: str | None) -> Iterator[str]:
    """Yield the address of an empty store, which is removed afterwards."""
    if engine == "sqlite":
        folder = Path(tempfile.mkdtemp(dir="."))  # on a disk: /tmp may be memory
        yield f"sqlite:///{folder / 'store.db'}"
        shutil.rmtree(folder)
        return
    import psycopg

    assert postgresql is not None
    name = f"bench_{uuid4().hex}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgresql.rpartition('/')[0]}/{name}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    for file in Path().glob(f"{name}.meaning*"):
        file.unlink()


def cpu_seconds(pid: int) -> float:
    """Return for how long a process has computed."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def warm_up(port: int, texts: Texts, path: str) -> None:
    """Ask a little, and wait for the answers."""
    open_loop(port, [texts.request(path) for _ in range(100)], 50)


def measure_classify(port: int, texts: Texts, options: argparse.Namespace) -> Figures:
    """Ask one item a request, at a fixed rate."""
    count = int(options.rate * options.seconds)
    return quantiles(
        open_loop(port, [texts.request("/v1/classify") for _ in range(count)], options.rate)
    )


def measure_submit(port: int, texts: Texts, options: argparse.Namespace) -> Figures:
    """Submit one item a request, at a fixed rate; each answer means that it is on disk."""
    count = int(options.rate * options.seconds)
    return quantiles(
        open_loop(port, [texts.request("/v1/items") for _ in range(count)], options.rate)
    )


def measure_capacity(port: int, texts: Texts, options: argparse.Namespace) -> Figures:
    """Ask as much as is answered, one item a request."""
    requests = texts.requests("/v1/classify")
    return {"requests/s": closed_loop(port, requests, SINGLES, options.seconds)}


def measure_batches(port: int, texts: Texts, options: argparse.Namespace) -> Figures:
    """Ask as much as is answered, 64 items a request: one is computed while one waits."""
    requests = texts.requests("/v1/classify", 64)
    return {"items/s": 64 * closed_loop(port, requests, 2, options.seconds)}


def measure_overload(port: int, texts: Texts, options: argparse.Namespace) -> Figures:
    """Ask twice as much as is answered, then wait until an answer takes 20 ms again."""
    rate = 2 * closed_loop(port, texts.requests("/v1/classify"), SINGLES, min(3, options.seconds))
    requests = [texts.request("/v1/classify") for _ in range(int(rate * options.seconds))]
    answers = open_loop(port, requests, rate)
    ended = time.perf_counter()
    while quantiles(open_loop(port, [texts.request("/v1/classify")], 1))["p50 ms"] > 20:
        pass
    statuses = Counter(status for status, _, _ in answers)
    other = sum(count for status, count in statuses.items() if status not in {200, 429})
    return quantiles(answers) | {
        "offered/s": rate,
        "other statuses": other,
        "normal after s": time.perf_counter() - ended,
    }


def measure_kills(engine: str, texts: Texts, options: argparse.Namespace) -> Figures:
    """Kill the service under load at random moments; compare what it answered with its store."""
    acknowledged: dict[str, int] = {}
    ready = []
    rng = random.Random(1)
    with new_store(engine, options.postgresql) as store:
        for _ in range(options.kills):
            began = time.perf_counter()
            with tagger_serve(options, store) as (port, process):
                ready.append(time.perf_counter() - began)
                requests = [texts.request("/v1/items") for _ in range(200)]
                Timer(rng.uniform(0.2, 1.8), process.kill).start()
                for status, _, body in open_loop(port, requests, options.rate):
                    if status == 200:
                        (item,) = json.loads(body)["items"]
                        acknowledged[item["id"]] = item["item"]
        with closing(open_store(store)) as opened, opened.reading() as connection:
            kept = [e for e in every_event(connection) if e.kind == "submitted"]
    item_of = {event.data["id"]: event.item for event in kept}
    lost = sum(item_of.get(name) != item for name, item in acknowledged.items())
    return {
        "kills": options.kills,
        "acknowledged": len(acknowledged),
        "lost": lost,
        "doubled": len(kept) - len(item_of),
        "ready s, median": statistics.median(ready),
        "ready s, longest": max(ready),
    }


def serve_predecessor(folder: Path) -> None:
    """Serve a model of BERT-base's size with random weights, as is usual: eager, one at a time."""
    import socket

    import torch
    import transformers
    import uvicorn
    from fastapi import FastAPI

    from tagger.models.tokenization import load_tokenizer
    from tagger.service.bodies import ClassifyIn

    tokenizer = load_tokenizer(folder, 128)
    config = transformers.BertConfig(vocab_size=max(30_522, tokenizer.get_vocab_size()))
    config.num_labels = 4
    model = transformers.BertForSequenceClassification(config).eval()
    app = FastAPI()

    @app.post("/v1/classify")
    def classify(body: ClassifyIn) -> list[list[float]]:
        answers = []
        with torch.inference_mode():
            for item in body.items:
                ids = tokenizer.encode(f"{item.title}. {item.description}").ids
                answers.append(model(torch.tensor([ids])).logits.softmax(-1)[0].tolist())
        return answers

    listening = socket.create_server(("127.0.0.1", 0))
    print(f"ready: http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


def measure_predecessor(texts: Texts, options: argparse.Namespace) -> Figures:
    """Ask BERT-base what it can answer, and how long that takes at half of it."""
    command = [sys.executable, __file__, "--serve-predecessor", str(options.run / "model")]
    path = "/v1/classify"
    with served(command, "ready: ") as (port, _):
        open_loop(port, [texts.request(path) for _ in range(20)], 5)
        most = closed_loop(port, texts.requests(path), 8, options.seconds)
        count = max(10, int(most / 2 * options.seconds))
        at_half = open_loop(port, [texts.request(path) for _ in range(count)], most / 2)
    return {"requests/s": most} | {f"at half, {k}": v for k, v in quantiles(at_half).items()}


@exit_on_user_error
def main() -> None:
    """Measure the parts that are asked for, print a table, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder of the run that is served")
    parser.add_argument("--texts", type=Path, help="CSV with title and description")
    parser.add_argument("--postgresql", metavar="URL")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--kills", type=int, default=50, help="on each engine")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/service.json"))
    parser.add_argument("--serve-predecessor", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_predecessor:
        serve_predecessor(options.serve_predecessor)
        return
    if not (options.run and options.texts):
        parser.error("--run and --texts are needed")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count() or 1
    if cores > 1:
        os.sched_setaffinity(0, {0})  # the client's core; the service has the others
    texts = Texts(options.texts)
    engines = ["sqlite", *(["postgresql"] if options.postgresql else [])]
    measured: dict[str, list[Figures]] = {}

    def serve_and_measure(part: str, engine: str, measure: Callable[..., Figures]) -> None:
        path = "/v1/items" if part == "submit" else "/v1/classify"
        rows = measured.setdefault(f"{part}, {engine}" if part == "submit" else part, [])
        with (
            new_store(engine, options.postgresql) as store,
            tagger_serve(options, store) as (port, process),
        ):
            warm_up(port, texts, path)
            for _ in range(options.repeats):
                cpu, asked = cpu_seconds(process.pid), texts.next
                figures = measure(port, texts, options)
                cpu, asked = cpu_seconds(process.pid) - cpu, texts.next - asked
                rows.append(figures | {"CPU ms": 1_000 * cpu / asked})

    for part, measure in (
        ("classify", measure_classify),
        ("capacity", measure_capacity),
        ("batches", measure_batches),
        ("overload", measure_overload),
    ):
        if part in options.parts:
            serve_and_measure(part, "sqlite", measure)
    for engine in engines:
        if "submit" in options.parts:
            serve_and_measure("submit", engine, measure_submit)
        if "kill" in options.parts:
            measured[f"kill, {engine}"] = [measure_kills(engine, texts, options)]
    if "predecessor" in options.parts:
        measured["predecessor"] = [
            measure_predecessor(texts, options) for _ in range(options.repeats)
        ]

    print("| part | figures (medians) |\n|---|---|")
    for part, rows in measured.items():
        medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        print(f"| {part} | " + ", ".join(f"{k} {v:.4g}" for k, v in medians.items()) + " |")
    write_json(
        options.out,
        {
            "environment": describe_environment().model_dump(),
            "cores": cores,
            "run": options.run.name,
            "rate": options.rate,
            "seconds": options.seconds,
            "measured": measured,
        },
    )
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
