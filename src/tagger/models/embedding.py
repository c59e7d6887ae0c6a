"""Embeds texts with a pretrained encoder as it is: to compare meanings, not to classify."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.base import Classifier
from tagger.progress import progress_bar
from tagger.scores import FloatArray

if TYPE_CHECKING:
    from tagger.config.schema import EncoderConfig, FrozenConfig
    from tagger.models.transformer import TransformerClassifier

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
    from tagger.config.composition import compose_config, load_config
    from tagger.config.schema import EncoderConfig, TrainConfig
    from tagger.models.transformer import TransformerClassifier

    config = load_config(TrainConfig, compose_config("train", [f"model={model}"]))
    if not isinstance(config.model, EncoderConfig):
        raise UserError(
            f"model {model} has no encoder to compare meanings with",
            hint="Take one that has, such as minilm; `tagger audit --no-embeddings` does without.",
        )
    return embed_with_progress(TransformerClassifier.build_frozen(config.model, tags), items)


def embed_with_progress(encoder: "TransformerClassifier", items: Sequence[Item]) -> FloatArray:
    """Return the encoder's vectors, (n_items, width), with a progress bar."""
    parts = [np.empty((0, encoder.module.encoder.config.hidden_size))]
    with progress_bar(len(items), "embedding", "text") as bar:
        for start in range(0, len(items), EMBEDDED_AT_ONCE):
            chosen = items[start : start + EMBEDDED_AT_ONCE]
            parts.append(encoder.embed(chosen))
            bar.update(len(chosen))
    return np.concatenate(parts)


class VectorCache:
    """Vectors of texts by encoders as they were pretrained, each computed once in a process.

    Several models of one build ask for those of the same texts, and nothing takes them longer.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[str, npt.NDArray[np.float32]]] = {}

    def embed(
        self, config: "EncoderConfig", encoder: "TransformerClassifier", items: Sequence[Item]
    ) -> FloatArray:
        """Return vectors, (n_items, width), and compute those that are not known.

        Args:
            config: Names the encoder. One that is drawn at random is another in each run.
            encoder: That encoder, loaded and frozen; its vectors have length 1.
            items: Whose texts are embedded.
        """
        if config.random is not None:
            return encoder.embed(items)
        keys = {"encoder", "revision", "sha256", "pooling", "max_length"}
        known = self._known.setdefault(config.model_dump_json(include=keys), {})
        missing = list({i.text: i for i in items if i.text not in known}.values())
        if missing:
            vectors = embed_with_progress(encoder, missing).astype(np.float32)
            known.update(zip((item.text for item in missing), vectors, strict=True))
        return np.array([known[item.text] for item in items], np.float64)

    def predict_proba(
        self, frozen: "FrozenConfig | None", classifier: Classifier, items: Sequence[Item]
    ) -> FloatArray:
        """Return a classifier's probabilities, (n_items, n_tags), by vectors that may be known.

        Args:
            frozen: How its frozen encoder is named; None: it has none, and is asked as any is.
            classifier: Ready to predict.
            items: What to predict.
        """
        from tagger.models.transformer import TransformerClassifier

        if frozen is None or not isinstance(classifier, TransformerClassifier):
            return classifier.predict_proba(items)
        return classifier.predict_from_vectors(self.embed(frozen, classifier, items))
