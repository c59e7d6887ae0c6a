from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.config import OptimizeConfig, compose_config, load_config


@pytest.fixture(scope="session")
def toy_sweep(toy_folder: Path) -> Callable[..., list[str]]:
    """Gives the command line of a sweep over a linear model on the toy file: 0.2 s a trial."""

    def make(sweeps_dir: Path, *overrides: str) -> list[str]:
        return [
            "search=linear",
            "model=linear",
            "data=file",
            "data.name=toy",
            f"data.path={toy_folder / 'items.csv'}",
            f"data.tags={toy_folder / 'tags.yaml'}",
            f"sweeps_dir={sweeps_dir}",
            "search.folds=3",
            "search.repeats=1",
            "search.trials=6",
            "search.confirm=0",
            *overrides,
        ]

    return make


@pytest.fixture(scope="session")
def sweep_config(toy_sweep: Callable[..., list[str]]) -> Callable[..., OptimizeConfig]:
    """Makes the config of such a sweep, in a folder."""

    def make(sweeps_dir: Path, *overrides: str) -> OptimizeConfig:
        return load_config(
            OptimizeConfig, compose_config("optimize", toy_sweep(sweeps_dir, *overrides))
        )

    return make
