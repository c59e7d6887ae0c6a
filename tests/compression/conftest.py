"""What tests of compression share: a tiny model with weights that matter, and configs for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import CompressConfig, ExportConfig, TrainConfig
from tagger.data.items import Item

if TYPE_CHECKING:
    from tagger.models.transformer import TransformerClassifier

TAGS = ("fruit", "metal", "weather")


@pytest.fixture(scope="session")
def compress_config() -> Callable[..., CompressConfig]:
    """Makes `compress` sections; overrides as on the command line, without the prefix."""

    def make(*overrides: str) -> CompressConfig:
        given = ["run=any", *(f"compress.{override}" for override in overrides)]
        return load_config(ExportConfig, compose_config("export", given)).compress

    return make


@pytest.fixture(scope="session")
def make_classifier(
    tiny_config: Callable[..., TrainConfig],
) -> Callable[..., "TransformerClassifier"]:
    """Makes an untrained tiny model whose every weight, biases too, has an effect."""

    def make(*overrides: str, normalize: bool = False) -> "TransformerClassifier":
        import torch

        from tagger.models.transformer import TransformerClassifier

        config = tiny_config("training.head_init=random", *overrides).model
        torch.manual_seed(0)
        classifier = TransformerClassifier.build(config, TAGS)
        classifier.module.normalize = normalize
        with torch.no_grad():
            for parameter in classifier.module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        classifier.module.eval()
        return classifier

    return make


@pytest.fixture(scope="session")
def items() -> list[Item]:
    """Forty texts of 1 to 60 words, in no order of length."""
    words = [
        "apple",
        "iron",
        "rain",
        "copper",
        "storm",
        "orchard",
        "ärger",
        "東京",
        "🍏",
        "zinc",
        "fog",
    ]
    texts = [
        " ".join(words[(number * 5 + place * 7) % len(words)] for place in range(length))
        for number, length in enumerate([9, 1, 30, 2, 14, 60, 5, 3] * 5)
    ]
    return [Item(str(number), text, "") for number, text in enumerate(texts)]
