import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.service.conftest import Submit

from tagger.errors import UserError
from tagger.service.database import (
    Store,
    StoreUnavailableError,
    execute_text,
    latest_version,
    migrate,
    only_user,
    open_store,
    shown,
    version_of,
)


def test_what_is_committed_is_on_disk(store: Store) -> None:
    with store.writing() as connection:
        if connection.dialect.name == "sqlite":
            assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
            assert connection.scalar(text("PRAGMA synchronous")) == 2  # FULL
        else:
            assert connection.scalar(text("SHOW synchronous_commit")) == "on"


def test_values_are_given_to_the_driver_by_their_names(store: Store) -> None:
    values = {"first": "a:b %s 'ä'", "second": 2**40, "third": "not asked for"}
    with store.reading() as connection:
        found = execute_text(connection, "SELECT :second, CAST(:first AS TEXT), :second", values)
        assert tuple(found.one()) == (2**40, "a:b %s 'ä'", 2**40)


@pytest.mark.parametrize("table", ["event", "answer"])
@pytest.mark.parametrize("change", ["UPDATE {} SET at = 0", "DELETE FROM {}"])
def test_what_happened_cannot_be_changed(
    store: Store, submit: Submit, table: str, change: str
) -> None:
    submit()
    with store.writing() as connection:
        connection.execute(text("INSERT INTO answer VALUES ('us', 'k', 'hash', '{}', 1)"))
    with pytest.raises((DBAPIError, UserError), match="append-only"), store.writing() as connection:
        connection.execute(text(change.format(table)))
    with store.reading() as connection:
        assert connection.scalar(text(f"SELECT at FROM {table}")) in (1, 1_000)


def test_a_store_is_made_where_it_is_asked_for_and_opened_again(store_url: str) -> None:
    open_store(store_url, create=True).close()
    opened = open_store(store_url)
    with opened.reading() as connection:
        assert version_of(connection) == latest_version()
    opened.close()


def test_a_store_that_is_not_there_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no store"):
        open_store(f"sqlite:///{tmp_path / 'none.db'}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["0000", "9999"])
def test_a_store_of_another_version_is_refused_and_left_as_it_is(
    store_url: str, version: str
) -> None:
    store = open_store(store_url, create=True)
    with store.writing() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
    store.close()
    for create in (False, True):
        with pytest.raises(UserError, match=f"is of schema version {version}"):
            open_store(store_url, create=create)
    store = Store(store_url)
    with (
        pytest.raises(UserError, match="does not know"),
        store.writing() as connection,
    ):
        migrate(connection, latest_version())
    store.close()


def test_another_programs_tables_are_refused(store_url: str) -> None:
    store = Store(store_url)
    with store.writing() as connection:
        connection.execute(text("CREATE TABLE mine (id INTEGER)"))
    store.close()
    with pytest.raises(UserError, match="tables of another program"):
        open_store(store_url, create=True)


def test_a_migration_that_fails_leaves_nothing(store_url: str) -> None:
    store = Store(store_url)
    with pytest.raises(RuntimeError), store.writing() as connection:
        migrate(connection, latest_version())
        raise RuntimeError
    with store.reading() as connection:
        assert version_of(connection) is None
    store.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    with pytest.raises(UserError, match="not a database"):
        open_store(f"sqlite:///{tmp_path / 'notes.txt'}", create=True)


def test_a_server_that_is_not_there_is_told_of_without_the_password() -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        open_store("postgresql://us:secret@127.0.0.1:1/none", create=True)
    assert "secret" not in str(caught.value)
    assert shown("postgresql://us:secret@h/d") == "postgresql://us:***@h/d"


@pytest.mark.slow
def test_a_locked_file_is_unavailable(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}", create=True)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"), store.writing():
        pass
    with store.reading() as connection:  # which goes on
        assert connection.scalar(text("SELECT count(*) FROM event")) == 0
    other.close()
    with store.writing():
        pass
    store.close()


def test_one_process_at_a_time_uses_a_store(store: Store) -> None:
    code = (
        "import sys\nfrom tagger.service.database import only_user\n"
        "with only_user(sys.argv[1]): print('in')"
    )
    with only_user(store.url):
        done = subprocess.run(
            [sys.executable, "-c", code, store.url], capture_output=True, text=True, check=False
        )
        assert "another process is using" in done.stderr
    done = subprocess.run(
        [sys.executable, "-c", code, store.url], capture_output=True, text=True, check=False
    )
    assert done.stdout == "in\n"
