"""A ladder of quick rungs on the toy file."""

from pathlib import Path

import pytest

from tagger.ladder.cells import Source
from tagger.ladder.rungs import Ladder

TINY = [
    "model=tiny",
    "model.freeze_embeddings=false",
    "training.mixed_precision=fp32",
    "training.threads=1",
    "training.epochs=1",
]


@pytest.fixture(scope="session")
def source(toy_folder: Path) -> Source:
    return Source.load(toy_folder / "items.csv", toy_folder / "tags.yaml")


@pytest.fixture(scope="session")
def ladder() -> Ladder:
    return Ladder(
        {"linear": ["model=linear", "training.threads=1"], "tiny": TINY},
        {"linear + tiny": ("linear", "tiny")},
    )
