"""Builds of the toy file by models that are trained in a moment."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.compare.runs import LabelledFile
from tagger.config.schema import BuildConfig, BuildModel, BuildSteps

TINY = [
    "model=tiny",
    "model.freeze_embeddings=false",
    "distill=soft",
    "training.mixed_precision=fp32",
    "training.threads=1",
    "training.epochs=2",
]


@pytest.fixture
def source(toy_folder: Path) -> LabelledFile:
    """The toy file."""
    return LabelledFile.load(toy_folder / "items.csv", toy_folder / "tags.yaml")


@pytest.fixture
def toy_build(source: LabelledFile, tmp_path: Path) -> Callable[..., BuildConfig]:
    """Makes configs of builds of two linear models and a tiny student, in two folds."""

    def make(*, held_out: int = 1000, **given: object) -> BuildConfig:
        steps = BuildSteps(
            name="toy",
            models=[
                BuildModel(
                    name="words", overrides=["model=linear", "decision.folds=3"], passes=0.0
                ),
                BuildModel(name="rough", overrides=["model=linear", "model.C=0.1"], passes=1.0),
            ],
            student=BuildModel(name="small", overrides=TINY, passes=2.0),
            compress="int8",
            max_p99_ms=1000.0,
            held_out=held_out,
            folds=2,
            few_texts=10,
        )
        values = {
            "files": [str(source.path)],
            "tags": str(source.path.with_name("tags.yaml")),
            "transfer": [],
            "promise": 0.8,
            "confidence": 0.9,
            "budget_minutes": 10.0,
            "name": "built",
            "runs_dir": str(tmp_path / "runs"),
            "seed": 0,
            "train": [],
            "build": steps,
        }
        return BuildConfig.model_validate(values | given)

    return make
