"""Embeds texts with a pretrained encoder as it is: to compare meanings, not to classify."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import EncoderConfig, TrainConfig
from tagger.data.items import Item
from tagger.errors import UserError
from tagger.progress import progress_bar
from tagger.scores import FloatArray

EMBEDDED_AT_ONCE = 512
"""Items between two steps of the progress bar."""


def unit_rows(vectors: npt.NDArray[np.floating]) -> FloatArray:
    """Scale vectors, (n, width), to length 1; what is zero stays zero."""
    units: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return units


def embed_items(items: Sequence[Item], model: str, tags: Sequence[str]) -> FloatArray:
    """Return the vectors, (n_items, width), of the encoder that `configs/model/<model>.yaml` names.

    Raises:
        UserError: when that model has no encoder, or it cannot be loaded.
    """
    # torch alone takes seconds to import, and audits without embeddings do without it.
    from tagger.models.transformer import TransformerClassifier

    config = load_config(TrainConfig, compose_config("train", [f"model={model}"]))
    if not isinstance(config.model, EncoderConfig):
        raise UserError(
            f"model {model} has no encoder to compare meanings with",
            hint="Take one that has, such as minilm; `tagger audit --no-embeddings` does without.",
        )
    classifier = TransformerClassifier.build_frozen(config.model, tags)
    parts = [np.empty((0, classifier.module.encoder.config.hidden_size))]
    with progress_bar(len(items), "embedding", "row") as bar:
        for start in range(0, len(items), EMBEDDED_AT_ONCE):
            chosen = items[start : start + EMBEDDED_AT_ONCE]
            parts.append(classifier.embed(chosen))
            bar.update(len(chosen))
    return np.concatenate(parts)
