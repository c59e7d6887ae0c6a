from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tagger.config.composition import CONFIG_DIR
from tagger.config.schema import DecisionConfig


@pytest.fixture(scope="session")
def asked() -> Callable[..., DecisionConfig]:
    """Makes decision configs: those of `decision=argmax`, with changes."""
    defaults = yaml.safe_load((CONFIG_DIR / "decision" / "argmax.yaml").read_text(encoding="utf-8"))

    def make(**changes: Any) -> DecisionConfig:
        return DecisionConfig(**(defaults | changes))

    return make
