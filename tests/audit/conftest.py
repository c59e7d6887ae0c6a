"""The toy file as rows, and files made of changed ones."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Rows = Sequence[dict[str, str]]
TAGS = ("fruit", "metal", "weather")


@pytest.fixture(scope="session")
def tags() -> list[str]:
    return list(TAGS)


@pytest.fixture(scope="session")
def read_rows() -> Callable[[Path], list[dict[str, str]]]:
    def read(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture(scope="session")
def write_rows() -> Callable[[Path, Rows], Path]:
    def write(path: Path, rows: Rows) -> Path:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def toy_rows(
    toy_folder: Path, read_rows: Callable[[Path], list[dict[str, str]]]
) -> list[dict[str, str]]:
    """The 60 rows of the toy file: t00 to t59, with three tags in turn."""
    return read_rows(toy_folder / "items.csv")
