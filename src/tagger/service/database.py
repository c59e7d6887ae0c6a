"""Opens the store: SQLite or PostgreSQL, with settings by which what is committed is on disk."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, CursorResult, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tagger.errors import UserError, first_line
from tagger.files import only_process

MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE_SECONDS = 2
"""How long a statement waits for another process that holds the store."""
WAL_PAGES = 10_000
"""Pages (40 MB) that SQLite writes ahead before a commit itself moves them into the file, and they
start anew; it finds little left to move, as `Store.checkpoint` does so all the time."""
SERVING_LOCK = 7_305_217_001
"""Number of PostgreSQL's advisory lock of the one process that uses a store."""

UNAVAILABLE = (OperationalError, InterfaceError, InternalError, PoolTimeout)
"""What SQLAlchemy raises when a database does not answer; its other errors are defects of ours."""


class StoreUnavailableError(UserError):
    """The store does not answer: it is locked, its disk is full, its server is gone."""


class LockLostError(StoreUnavailableError):
    """The lock of the one process is gone: another one may be using the store by now."""


class Store:
    """A database, of whatever engine.

    Attributes:
        url: Where it is.
        engine: SQLAlchemy's.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _make_engine(make_url(url))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one state of the store."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that is committed, on disk, when this returns."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        try:
            with self.engine.begin() as connection:
                # Not by a listener: with one, SQLAlchemy looks for more at each statement.
                if connection.dialect.name == "sqlite":
                    connection.exec_driver_sql(begin)
                yield connection
        except UNAVAILABLE as error:
            raise self._unavailable(error) from error
        except DatabaseError as error:
            if type(error) is DatabaseError:  # a file that is damaged
                raise self._unavailable(error) from error
            raise

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        reason = first_line(getattr(error, "orig", None) or error)
        return StoreUnavailableError(f"the store {shown(self.url)} cannot be used: {reason}")

    def checkpoint(self) -> None:
        """Move what SQLite wrote ahead into its file, beside a writer: no commit waits for it."""
        if self.engine.dialect.name == "sqlite":
            with suppress(DatabaseError), closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def execute_text(
    connection: Connection, statement: str, values: Mapping[str, Any]
) -> CursorResult[Any]:
    """Execute a statement in which values stand as `:name`, past SQLAlchemy's compiler.

    It is for the few statements that every submitted item needs, with up to 22 values each:
    with `text()` they take twice as long.
    """
    return connection.exec_driver_sql(_styled(statement, connection.dialect.paramstyle), values)


@cache
def _styled(statement: str, style: str) -> str:
    """Write the names of values as a driver reads them: that of SQLite knows `:name` too."""
    return re.sub(r":(\w+)", r"%(\1)s", statement) if style == "pyformat" else statement


def shown(url: str) -> str:
    """Return the address of a store without its password."""
    return make_url(url).render_as_string(hide_password=True)


def database_file(url: str) -> Path | None:
    """Return the file that a store is in; None for a server."""
    address = make_url(url)
    return Path(str(address.database)) if address.get_backend_name() == "sqlite" else None


def latest_version() -> str:
    """Return the schema version that this code reads and writes."""
    return str(_migrations().get_current_head())


def version_of(connection: Connection) -> str | None:
    """Return the schema version of a store; None for one without tables.

    Raises:
        UserError: when it holds the tables of another program.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None and inspect(connection).get_table_names():
        raise UserError(
            f"{shown(str(connection.engine.url))} holds the tables of another program",
            hint="Give the service a file or database of its own.",
        )
    return found


def open_store(url: str, *, create: bool = False) -> Store:
    """Open a store of this schema version.

    Args:
        url: Where it is.
        create: Make the tables where there are none.

    Raises:
        UserError: when there is none, or it is of another version; nothing is migrated here.
    """
    file = database_file(url)
    if file is not None:
        if not create and not file.exists():
            raise UserError(f"there is no store {file}", hint="`tagger store upgrade` makes it.")
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
    store = Store(url)
    try:
        with store.reading() as connection:
            found = version_of(connection)
        if found is None and create:
            with store.writing() as connection:
                migrate(connection, latest_version())
        elif found != latest_version():
            raise UserError(
                f"the store {shown(url)} is of schema version {found}, "
                f"this version of tagger uses {latest_version()}",
                hint="`tagger store upgrade` brings an older one up to date, after a backup.",
            )
    except BaseException:
        store.close()
        raise
    return store


def migrate(connection: Connection, version: str) -> None:
    """Bring a store to a schema version, in the transaction of the connection.

    Raises:
        UserError: when it is of a version that this code does not know.
    """
    scripts = _migrations()
    known = {script.revision for script in scripts.walk_revisions()}
    found = version_of(connection)
    if found is not None and found not in known:
        raise UserError(
            f"the store is of schema version {found}, which this version of tagger does not know",
            hint="Use the version of tagger that wrote it, or a later one.",
        )

    def steps(revision: Any, context: Any) -> Any:
        return scripts._upgrade_revs(version, revision)

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        environment.run_migrations()


@contextmanager
def only_user(url: str) -> Iterator[Callable[[], None]]:
    """Keep other processes from serving or changing the same store.

    Yields:
        A function that raises `LockLostError` where others are kept out no longer. A server that
        was started again knows nothing of the lock; that of a file is the system's, and stays.

    Raises:
        UserError: when another one does.
    """

    def check() -> None:
        try:
            if connection is not None:
                connection.scalar(text("SELECT 1"))
        except UNAVAILABLE as error:
            raise LockLostError(f"the lock of {shown(url)} is lost: {first_line(error)}") from error

    connection: Connection | None = None
    file = database_file(url)
    with ExitStack() as stack:
        if file is not None:
            stack.enter_context(only_process(file, "using"))
        else:
            store = Store(url)
            stack.callback(store.close)
            with store.reading():
                pass  # that a server which is not there is told of as such
            connection = stack.enter_context(store.engine.connect())
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            lock = text("SELECT pg_try_advisory_lock(:number)")
            if not connection.scalar(lock, {"number": SERVING_LOCK}):
                raise UserError(f"another process is using {shown(url)}")
        yield check


def _migrations() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS))


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        options = f"-c synchronous_commit=on -c lock_timeout={PATIENCE_SECONDS}s"
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={"options": options, "connect_timeout": PATIENCE_SECONDS},
            pool_pre_ping=True,
            pool_timeout=PATIENCE_SECONDS,
        )
    engine = create_engine(
        url,
        connect_args={"timeout": PATIENCE_SECONDS, "check_same_thread": False},
        pool_timeout=PATIENCE_SECONDS,
    )

    def prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # transactions begin as above, not as Python guesses
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")

    event.listen(engine, "connect", prepare)
    return engine
