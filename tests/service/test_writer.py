import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import IntegrityError

from tagger.service.database import (
    LockLostError,
    Store,
    StoreUnavailableError,
    only_user,
    open_store,
)
from tagger.service.events import append
from tagger.service.tables import EVENT
from tagger.service.writer import QueueFullError, Writer


@pytest.fixture
def writer(store: Store) -> Iterator[Writer]:
    started = Writer(store, most_waiting=1_000)
    started.start()
    yield started
    started.stop()


def report(connection: Connection) -> int:
    return append(connection, "reported", at=1, actor="us", data={}).sequence


def test_what_many_threads_write_is_all_there_and_numbered_once(
    store: Store, writer: Writer
) -> None:
    futures: list[Future[int]] = []

    def write() -> None:
        futures.extend([writer.submit(report) for _ in range(50)])

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(future.result(10) for future in futures) == [*range(1, 401)]
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(EVENT)) == 400


def test_a_work_that_fails_leaves_nothing_and_harms_no_other(store: Store, writer: Writer) -> None:
    def broken(connection: Connection) -> None:
        report(connection)
        raise ValueError("a defect")

    def wrong(connection: Connection) -> None:
        connection.execute(text("INSERT INTO fingerprint VALUES (1, 1), (1, 1)"))

    hold = threading.Event()
    first = writer.submit(lambda connection: hold.wait(5))
    futures = [writer.submit(work) for work in (report, broken, report)]  # one batch
    hold.set()
    first.result(5)
    assert [futures[0].result(5), futures[2].result(5)] == [1, 2]
    with pytest.raises(ValueError, match="a defect"):
        futures[1].result(5)
    with pytest.raises(IntegrityError):
        writer.submit(wrong).result(5)
    assert writer.submit(report).result(5) == 3


def test_a_cancelled_work_is_not_done(store: Store, writer: Writer) -> None:
    hold = threading.Event()
    first = writer.submit(lambda connection: hold.wait(5))
    assert writer.submit(report).cancel()
    hold.set()
    first.result(5)
    assert writer.submit(report).result(5) == 1


def test_too_many_works_are_refused(store: Store) -> None:
    writer = Writer(store, most_waiting=2)
    futures = [writer.submit(report) for _ in range(2)]
    with pytest.raises(QueueFullError):
        writer.submit(report)
    assert writer.waiting == 2
    writer.start()
    assert [future.result(5) for future in futures] == [1, 2]
    writer.stop()


@pytest.mark.slow
def test_nothing_is_acknowledged_while_the_store_is_locked(store: Store, writer: Writer) -> None:
    other = Store(store.url)
    with other.writing() as connection:  # which in SQLite locks by itself
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE event"))
        with pytest.raises(StoreUnavailableError):
            writer.submit(report).result(10)
    other.close()
    assert writer.submit(report).result(10) == 1


CHILD = """
import sys
from tagger.service.database import open_store
from tagger.service.events import append
from tagger.service.writer import Writer

writer = Writer(open_store(sys.argv[1]), 1_000)
writer.start()
while True:
    futures = [
        writer.submit(lambda c: append(c, "reported", at=1, actor="us", data={}).sequence)
        for _ in range(20)
    ]
    for future in futures:
        print(future.result(), flush=True)
"""


@pytest.mark.slow
def test_a_killed_process_loses_nothing_that_was_acknowledged(store: Store) -> None:
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, store.url], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        last = [int(child.stdout.readline()) for _ in range(100)][-1]
        child.kill()
        last = max([last, *(int(line) for line in child.stdout if line.endswith("\n"))])
        child.wait(30)
        with store.reading() as connection:
            count, highest = connection.execute(
                select(func.count(), func.max(EVENT.c.sequence))
            ).one()
        assert count == highest >= last


TRACED = """
import os, sys
from tagger.service.database import open_store
from tagger.service.events import append
from tagger.service.writer import Writer

writer = Writer(open_store(sys.argv[1]), 10)
writer.start()
for _ in range(3):
    writer.submit(lambda c: append(c, "reported", at=1, actor="us", data={})).result()
    os.write(1, b"answer")
"""


@pytest.mark.slow
def test_a_commit_reaches_the_disk_before_its_answer(tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    url = f"sqlite:///{tmp_path / 'store.db'}"
    open_store(url, create=True).close()
    trace = tmp_path / "trace"
    traced = ["strace", "-f", "-e", "trace=fdatasync,fsync,write", "-o", str(trace)]
    done = subprocess.run(
        [*traced, sys.executable, "-c", TRACED, url], capture_output=True, text=True, check=False
    )
    if "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    calls = re.findall(r'(sync)\(\d+|"(answer)"', trace.read_text(errors="replace"))
    between = "".join(a or b for a, b in calls).split("answer")
    assert len(between) == 4
    assert all("sync" in calls for calls in between[:3])


def test_a_server_that_was_started_again_ends_the_writer_before_it_writes(store: Store) -> None:
    if not store.url.startswith("postgresql"):
        pytest.skip("the lock of a file is the system's")
    with only_user(store.url) as check:
        writer = Writer(store, most_waiting=1_000, check=check)
        writer.start()
        assert writer.submit(report).result(10) == 1
        with psycopg.connect(store.url, autocommit=True) as other:  # as a restart ends all of them
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with only_user(store.url):  # another process, which found nobody there
            with pytest.raises(LockLostError, match=r"lock of .* is lost"):
                writer.submit(report).result(10)
            writer.join(10)
            assert not writer.is_alive()
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(EVENT)) == 1
