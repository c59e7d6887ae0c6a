"""An ensemble of trained models: the mean of their probabilities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tagger.data.items import Item
from tagger.files import write_json
from tagger.models.base import SETTINGS, Classifier, embedder_of, read_settings

MEMBER = "member-{:02d}"
"""Name of a member's folder in that of the ensemble."""


class EnsembleClassifier:
    """A `Classifier` whose probabilities are the mean of those of its members."""

    def __init__(self, members: Sequence[Classifier]) -> None:
        self.members = list(members)
        self.tags = members[0].tags

    def predict_proba(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return mean probabilities of shape (n_items, n_tags)."""
        mean: NDArray[np.float64] = np.mean(
            [member.predict_proba(items) for member in self.members], axis=0
        )
        return mean

    @property
    def vector_width(self) -> int:
        """Length of the vectors of the first member that has an encoder; 0 where none has."""
        return next((one.vector_width for one in map(embedder_of, self.members) if one), 0)

    def embed(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return the vectors of the first member that has an encoder."""
        return next(one for one in map(embedder_of, self.members) if one).embed(items)

    def predict_and_embed(
        self, items: Sequence[Item]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what `predict_proba` and `embed` do; no member is asked twice."""
        parts, vectors = [], None
        for member in self.members:
            embedder = embedder_of(member) if vectors is None else None
            if embedder is None:
                parts.append(member.predict_proba(items))
            else:
                probabilities, vectors = embedder.predict_and_embed(items)
                parts.append(probabilities)
        assert vectors is not None  # `vector_width` is not 0
        return np.mean(parts, axis=0), vectors

    def save(self, folder: Path) -> None:
        """Write a folder that holds all members, so that the runs they came from may go."""
        for number, member in enumerate(self.members):
            member.save(folder / MEMBER.format(number))
        write_json(
            folder / SETTINGS,
            {"approach": "ensemble", "tags": list(self.tags), "members": len(self.members)},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        settings = read_settings(folder)
        from tagger.models.registry import load_classifier

        members = [
            load_classifier(folder / MEMBER.format(number)) for number in range(settings["members"])
        ]
        if not members:
            raise ValueError(f"{SETTINGS} speaks of no members")
        return cls(members)
