"""Out-of-distribution (OOD) scores: distances to the training items in the model's vectors.

A model is confidently wrong on content of a kind that it was not trained on, because softmax
probabilities only compare tags with each other. Distance to the training items tells more:

* `knn`: one minus the mean cosine to the `NEIGHBOURS` nearest training items (Sun et al.,
  ICML 2022);
* `mahalanobis`: distance to the nearest tag's mean under the shared covariance (Lee et al., NeurIPS
  2018).

benchmarks/shift.py compares them, and energy, on content from another source.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tagger.data.items import Item
from tagger.data.tags import tag_positions
from tagger.errors import UserError
from tagger.models.base import Classifier
from tagger.models.embedding import unit_rows
from tagger.runs import current_or_old
from tagger.scores import FloatArray

OOD_FILE = "ood.safetensors"

ARRAYS = {"knn": {"units"}, "mahalanobis": {"means", "whitening"}}
"""What each kind keeps."""

NEIGHBOURS = 10
SHRINKAGE = 0.1
"""Share of the covariance that is replaced by a round one of the same size."""


@runtime_checkable
class Embeds(Protocol):
    """A classifier that has an encoder."""

    def embed(self, items: Sequence[Item]) -> FloatArray:
        """Return vectors, (n_items, width)."""
        ...

    def predict_from_vectors(self, vectors: FloatArray) -> FloatArray:
        """Return the probabilities, (n_items, n_tags), of items with these vectors."""
        ...


class OodDetector:
    """Scores vectors by their distance to those of the training items; higher is less familiar.

    Args:
        kind: `knn` or `mahalanobis`.
        arrays: What the kind needs, by name.
    """

    def __init__(self, kind: str, arrays: dict[str, npt.NDArray[np.float32]]) -> None:
        self.kind = kind
        self.arrays = arrays

    @classmethod
    def fit(cls, kind: str, vectors: FloatArray, tags: Sequence[int]) -> Self:
        """Remember the training items' vectors, or their means and covariance.

        Args:
            kind: `knn` or `mahalanobis`.
            vectors: (n, width).
            tags: Position of each item's tag, (n,).
        """
        if kind == "knn":
            return cls(kind, {"units": unit_rows(vectors).astype(np.float32)})
        labels = np.asarray(tags)
        present = np.unique(labels)
        means = np.stack([vectors[labels == tag].mean(axis=0) for tag in present])
        centred = vectors - means[np.searchsorted(present, labels)]
        covariance = centred.T @ centred / len(vectors)
        width = vectors.shape[1]
        round_one = np.eye(width) * np.trace(covariance) / width
        covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * round_one
        # distance^2 = |(x - mean) W|^2 with W W^T the inverse of the covariance
        whitening = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(
            kind,
            {"means": means.astype(np.float32), "whitening": whitening.astype(np.float32)},
        )

    def score(self, vectors: FloatArray) -> FloatArray:
        """Return the OOD score of each vector: (n, width) to (n,)."""
        if self.kind == "knn":
            return knn_distance(vectors, self.arrays["units"])
        white = self.arrays["whitening"].astype(np.float64)
        projected, means = vectors @ white, self.arrays["means"].astype(np.float64) @ white
        distances = ((projected[:, None, :] - means[None]) ** 2).sum(axis=2)
        least: FloatArray = np.sqrt(distances.min(axis=1))
        return least

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        save_file(arrays, path)

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
        kind = next((kind for kind, names in ARRAYS.items() if names == set(arrays)), None)
        if kind is None:
            raise UserError(f"{path} holds {sorted(arrays)}, not what OOD scores are computed from")
        return cls(kind, arrays)


def knn_distance(vectors: FloatArray, units: npt.NDArray[np.float32]) -> FloatArray:
    """Return one minus the mean cosine of each vector to its nearest known ones, (n,).

    Args:
        vectors: (n, width).
        units: The known vectors at length 1, (n_known, width).
    """
    similarity = unit_rows(vectors).astype(np.float32) @ units.T
    nearest = min(NEIGHBOURS, len(units))
    top = np.partition(similarity, -nearest, axis=1)[:, -nearest:]
    distances: FloatArray = 1.0 - top.mean(axis=1, dtype=np.float64)
    return distances


def fit_detector(kind: str, classifier: Classifier, known: Sequence[Item]) -> OodDetector:
    """Fit a detector to the items that a classifier with an encoder was trained on."""
    assert isinstance(classifier, Embeds)  # the config's own check
    positions = tag_positions(known, classifier.tags)
    return OodDetector.fit(kind, classifier.embed(known), positions.tolist())


def score_items(
    kind: str, classifier: Classifier, known: Sequence[Item], items: Sequence[Item]
) -> FloatArray | None:
    """Return the OOD scores of items, (n,); None where none are asked for.

    Args:
        kind: `none`, `knn` or `mahalanobis`.
        classifier: With an encoder, unless the kind is `none`.
        known: What it was trained on.
        items: To score.
    """
    if kind == "none" or not items:
        return None
    detector = fit_detector(kind, classifier, known)
    assert isinstance(classifier, Embeds)
    return detector.score(classifier.embed(items))
