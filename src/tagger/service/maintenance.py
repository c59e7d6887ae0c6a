"""Upgrades, backs up, verifies and rebuilds a store."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, MetaData, Table, TableClause, func, insert, select, text

from tagger.errors import UserError
from tagger.files import replacing
from tagger.service.database import (
    Store,
    database_file,
    latest_version,
    migrate,
    only_user,
    open_store,
    shown,
    version_of,
)
from tagger.service.events import CHUNK, INDEXES, rebuild_indexes
from tagger.service.meaning import base_of, remove_files
from tagger.service.tables import ANSWER, EVENT, ITEM_STATE

NOT_COPIED = {"alembic_version"}
"""Tables that a new store has rows in already."""


def upgrade_store(url: str, say: Callable[[str], None]) -> None:
    """Bring a store to the schema version of this code, after a backup; make one that is not there.

    Raises:
        UserError: when another process uses it, or it is of a later version.
    """
    file = database_file(url)
    with only_user(url):
        if file is not None and not file.exists():
            open_store(url, create=True).close()
            say(f"made: {file}, schema version {latest_version()}")
            return
        with closing(Store(url)) as store:
            with store.reading() as connection:
                found = version_of(connection)
            if found == latest_version():
                say(f"{shown(url)} is of schema version {found} already")
                return
            if found is not None:
                stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
                out = Path(f"{file or 'tagger-store'}.{found}.{stamp}.backup")
                backup_store(url, out)
                say(f"backup: {out}")
            with store.writing() as connection:
                migrate(connection, latest_version())
            say(f"{shown(url)}: schema version {found or 'none'} became {latest_version()}")


def backup_store(url: str, out: Path) -> int:
    """Copy a store of any version, in use or not, into a SQLite file, which is whole or absent.

    The file is a store itself: it can be verified, and served.

    Returns:
        The number of rows.

    Raises:
        UserError: when there is nothing to copy, or the file exists.
    """
    if out.exists():
        raise UserError(f"{out} exists already", hint="Choose another name: --out FILE")
    file = database_file(url)
    if file is not None and not file.exists():
        raise UserError(f"there is no store {file}")
    with closing(Store(url)) as source, source.reading() as connection:
        if file is None:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        version = version_of(connection)
        if version is None:
            raise UserError(f"{shown(url)} is empty: there is nothing to back up")
        with replacing(out) as temporary, closing(Store(f"sqlite:///{temporary}")) as target:
            with target.writing() as copy:
                migrate(copy, version)
                rows = _copy_rows(connection, copy)
            target.close()  # which moves the log of what was written into the file
            return rows


def _copy_rows(source: Connection, target: Connection) -> int:
    tables = MetaData()
    tables.reflect(target)
    copied = 0
    for table in tables.sorted_tables:
        if table.name not in NOT_COPIED:
            copied += _copy_table(table, source, target)
    return copied


def _copy_table(table: Table, source: Connection, target: Connection) -> int:
    copied = 0
    found = source.execute(select(table).execution_options(yield_per=CHUNK))
    for chunk in found.partitions():
        target.execute(insert(table), [dict(row._mapping) for row in chunk])
        copied += len(chunk)
    return copied


def rebuild_store(url: str) -> int:
    """Make the indexes of a store anew from its events; return how many events there are.

    That of meaning is removed: the next run that is served makes it, by its encoder.

    Raises:
        UserError: when another process uses it.
    """
    with only_user(url), closing(open_store(url)) as store, store.writing() as connection:
        remove_files(base_of(url))
        return rebuild_indexes(connection)


def verify_store(url: str) -> str:
    """Examine a store, and say in a sentence what it holds.

    Raises:
        UserError: naming all that is wrong with it, or when another process uses it.
    """
    with only_user(url), closing(open_store(url)) as store:
        with store.reading() as connection:
            problems = _wrong_events(connection)
            counts = connection.execute(
                select(ITEM_STATE.c.status, func.count())
                .group_by(ITEM_STATE.c.status)
                .order_by(ITEM_STATE.c.status)
            ).all()
            events = connection.scalar(select(func.count()).select_from(EVENT))
            answers = connection.scalar(select(func.count()).select_from(ANSWER))
        if not problems:
            problems = _wrong_indexes(store)
    if problems:
        raise UserError(f"{shown(url)} is damaged:", problems)
    states = ", ".join(f"{count:,} {status}" for status, count in counts) or "none"
    return f"{events:,} events, {answers:,} answers to idempotency keys; items: {states}"


def _wrong_events(connection: Connection) -> list[str]:
    problems = []
    if connection.dialect.name == "sqlite":
        found = connection.scalars(text("PRAGMA integrity_check")).all()
        problems += [f"SQLite says: {line}" for line in found if line != "ok"]
    count, last = connection.execute(select(func.count(), func.max(EVENT.c.sequence))).one()
    if count != (last or 0):
        problems.append(f"event: the last one is number {last}, but there are {count}")
    return problems


def _wrong_indexes(store: Store) -> list[str]:
    """Compare the indexes with what the events make of them, and leave them as they are."""
    with store.writing() as connection:
        rebuilding = connection.begin_nested()
        before = [_rows(connection, index) for index in INDEXES]
        rebuild_indexes(connection)
        differing = [
            (index.name, len(rows ^ _rows(connection, index)))
            for index, rows in zip(INDEXES, before, strict=True)
        ]
        rebuilding.rollback()
    return [
        f"{name}: {rows} rows are not what the events say; `tagger store rebuild` makes it anew"
        for name, rows in differing
        if rows
    ]


def _rows(connection: Connection, index: TableClause) -> set[tuple[object, ...]]:
    return {tuple(row) for row in connection.execute(select(index))}
