"""`Classifier`, the interface that every approach implements, and the settings of its folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tagger.data.items import Item


class Classifier(Protocol):
    """Gives each item a probability for each approved tag."""

    tags: tuple[str, ...]
    """The approved tags, in the order of the probability columns."""

    def predict_proba(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return probabilities of shape (n_items, n_tags); each row sums to 1."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load` needs into `folder`; never a pickle."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; `tagger.models.registry.load_classifier` explains failures."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """A classifier that may have an encoder, whose vectors say what a text is about."""

    vector_width: int
    """Length of its vectors; 0: it has none."""

    def embed(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return vectors, (n_items, vector_width)."""
        ...

    def predict_and_embed(
        self, items: Sequence[Item]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return probabilities, as `predict_proba` does, and vectors, computed in one pass."""
        ...


def embedder_of(classifier: object) -> Embeds | None:
    """Return a classifier that gives vectors of texts; None for one that has no encoder."""
    return classifier if isinstance(classifier, Embeds) and classifier.vector_width else None


SETTINGS = "tagger.json"
"""File of a model folder that says which approach wrote it, its tags, and what else it needs."""


def read_settings(folder: Path) -> dict[str, Any]:
    """Read a model folder's `tagger.json`; `load_classifier` explains what may go wrong."""
    settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    return settings
