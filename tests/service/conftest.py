"""What tests of the service share; they are skipped where its requirements are missing."""

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tagger.service.database import Store, open_store
from tagger.service.events import Status, append

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


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a store that is not there yet, of each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    server = str(request.getfixturevalue("postgresql"))
    name = f"store_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.removesuffix("postgres") + name
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


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
