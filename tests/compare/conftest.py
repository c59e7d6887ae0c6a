"""A approaches of quick approaches on the toy file."""

from pathlib import Path

import pytest

from tagger.compare.approaches import Approaches
from tagger.compare.runs import LabelledFile

TINY = [
    "model=tiny",
    "model.freeze_embeddings=false",
    "training.mixed_precision=fp32",
    "training.threads=1",
    "training.epochs=1",
]


@pytest.fixture(scope="session")
def source(toy_folder: Path) -> LabelledFile:
    return LabelledFile.load(toy_folder / "items.csv", toy_folder / "tags.yaml")


@pytest.fixture(scope="session")
def approaches() -> Approaches:
    return Approaches(
        {"linear": ["model=linear", "training.threads=1"], "tiny": TINY},
        {"linear + tiny": ("linear", "tiny")},
    )
