"""Makers of small inputs for the tests of the data layer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagger.config.schema import DataConfig, SplitConfig
from tagger.data.items import Item

TAGS = ("red", "green", "blue")


@pytest.fixture
def tag_names() -> tuple[str, ...]:
    return TAGS


@pytest.fixture
def make_split() -> Callable[..., SplitConfig]:
    def make(**changes: Any) -> SplitConfig:
        values = {"validation": 0.15, "test": 0.15, "seed": 0}
        values |= {"column": None, "folds": None, "fold": None, "per_tag": None}
        return SplitConfig(**{**values, **changes})

    return make


@pytest.fixture
def make_data(make_split: Callable[..., SplitConfig]) -> Callable[..., DataConfig]:
    def make(**changes: Any) -> DataConfig:
        values: dict[str, Any] = {
            "name": "toy",
            "source": "file",
            "path": "items.csv",
            "test_path": None,
            "hub_id": None,
            "hub_subset": None,
            "hub_split": "train",
            "hub_test_split": None,
            "hub_revision": None,
            "url": None,
            "sha256": None,
            "extra": [],
            "extra_weight": 1.0,
            "columns": {},
            "delimiter": None,
            "dates": "iso",
            "tags": "tags.yaml",
            "split": make_split(),
        }
        return DataConfig(**{**values, **changes})

    return make


@pytest.fixture
def make_item() -> Callable[..., Item]:
    """Items whose texts share nothing, unless a text is given."""

    def make(number: int, tag: str | None = "red", title: str = "", description: str = "") -> Item:
        # Digits spelled as letters, repeated: no two numbers share a word or a run of letters.
        letters = "".join(chr(ord("a") + int(digit)) * 4 for digit in f"{number:05}")
        own = f"{letters} {letters[::-1]}x{number}"
        return Item(str(number), title or own, description, tag=tag)

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file
