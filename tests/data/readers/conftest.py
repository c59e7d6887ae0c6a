"""Reads a table with the problems that are found in it."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from tagger.data.problems import Problems
from tagger.data.readers import Row, read_rows

WANTED = ("id", "title")


@pytest.fixture(scope="session")
def read() -> Callable[..., tuple[list[Row], list[str]]]:
    def read_all(
        path: Path, wanted: Collection[str] = WANTED, **settings: Any
    ) -> tuple[list[Row], list[str]]:
        problems = Problems()
        return list(read_rows(path, wanted, problems, **settings)), problems.first

    return read_all


@pytest.fixture(scope="session")
def values(read: Callable[..., tuple[list[Row], list[str]]]) -> Callable[..., list[Any]]:
    """Reads a table without problems, and returns the wanted values of each row."""

    def read_values(path: Path, wanted: Collection[str] = WANTED, **settings: Any) -> list[Any]:
        rows, problems = read(path, wanted, **settings)
        assert problems == []
        return [tuple(row.values.get(name) for name in wanted) for row in rows]

    return read_values
