"""The one interface behind which every approach stands."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

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
        """Read what `save` wrote.

        Raises:
            UserError: when a file is missing or does not hold what it should.
        """
        ...
