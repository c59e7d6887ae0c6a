"""Quick approaches, compared on the toy file."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tagger.compare.approaches import Approaches
from tagger.compare.cross_validation import OutOfFold, cross_validate
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


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs of `results`."""
    return tmp_path_factory.mktemp("comparisons")


@pytest.fixture(scope="session")
def results(approaches: Approaches, source: LabelledFile, out: Path) -> Mapping[str, OutOfFold]:
    """The approaches, cross-validated once: 3 folds of one seed."""
    return cross_validate(approaches, source, out, seeds=1, folds=3)
