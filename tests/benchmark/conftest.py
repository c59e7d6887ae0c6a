"""What tests of benchmarks share: a run that needs no torch."""

from pathlib import Path

import pytest

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.runs import RunFolder


@pytest.fixture(scope="session")
def linear_run(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run named `linear`, which needs no torch to answer."""
    from tagger.training.train_run import train

    overrides = ["data=file", f"data.path={toy_folder / 'items.csv'}", "model=linear"]
    overrides += [f"data.tags={toy_folder / 'tags.yaml'}", "training.threads=1", "name=linear"]
    overrides.append(f"runs_dir={tmp_path_factory.mktemp('linear')}")
    return RunFolder(train(load_config(TrainConfig, compose_config("train", overrides))))
