"""Scores how far items lie from those that were trained on (out-of-distribution, OOD).

A model is confidently wrong on content of a kind that it was not trained on, because softmax
probabilities only compare tags with each other. Distance to the training items tells more: one
minus the mean cosine to the `NEIGHBOURS` nearest of them, in the vectors of the model's encoder
(Sun et al., ICML 2022). benchmarks/shift.py compares it with others on content from another source.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.models.base import Classifier, embedder_of
from tagger.models.embedding import unit_rows
from tagger.runs import current_or_old
from tagger.scores import FloatArray

OOD_FILE = "ood.safetensors"

NEIGHBOURS = 10


class OodDetector:
    """Scores vectors by their distance to those of the training items; higher is less familiar.

    Args:
        units: The training items' vectors at length 1, (n_known, width).
    """

    def __init__(self, units: npt.NDArray[np.float32]) -> None:
        self.units = units

    @classmethod
    def fit(cls, vectors: FloatArray) -> Self:
        """Remember the training items' vectors (n, width)."""
        return cls(unit_rows(vectors).astype(np.float32))

    def score(self, vectors: FloatArray) -> FloatArray:
        """Return one minus the mean cosine of each vector (n, width) to its nearest ones, (n,)."""
        similarity = unit_rows(vectors).astype(np.float32) @ self.units.T
        nearest = min(NEIGHBOURS, len(self.units))
        top = np.partition(similarity, -nearest, axis=1)[:, -nearest:]
        distances: FloatArray = 1.0 - top.mean(axis=1, dtype=np.float64)
        return distances

    def save(self, path: Path) -> None:
        """Write the vectors as safetensors."""
        save_file({"units": np.ascontiguousarray(self.units)}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: when it is missing or damaged.
        """
        try:
            arrays = load_file(current_or_old(path))
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read: {error}") from None
        if set(arrays) != {"units"}:
            raise UserError(
                f"{path} holds {sorted(arrays)}, not what OOD scores are computed from",
                hint="Train again with decision.ood=knn.",
            )
        return cls(arrays["units"])


def fit_detector(classifier: Classifier, known: Sequence[Item]) -> OodDetector:
    """Fit a detector to the items that a classifier with an encoder was trained on."""
    embedder = embedder_of(classifier)
    assert embedder is not None  # the config's own check
    return OodDetector.fit(embedder.embed(known))


def score_items(
    kind: str, classifier: Classifier, known: Sequence[Item], items: Sequence[Item]
) -> FloatArray | None:
    """Return the OOD scores of items, (n,); None where none are asked for.

    Args:
        kind: `none` or `knn`.
        classifier: With an encoder, unless the kind is `none`.
        known: What it was trained on.
        items: To score.
    """
    if kind == "none" or not items:
        return None
    embedder = embedder_of(classifier)
    assert embedder is not None
    return fit_detector(classifier, known).score(embedder.embed(items))
