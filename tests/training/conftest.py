from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.config.schema import TrainConfig


@pytest.fixture
def config(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., TrainConfig]:
    """Makes configs of a run of one epoch, named `run`; overrides as on the command line."""

    def make(*overrides: str) -> TrainConfig:
        short = ("training.epochs=1", "name=run", f"runs_dir={tmp_path}")
        return tiny_config(*short, *overrides)

    return make
