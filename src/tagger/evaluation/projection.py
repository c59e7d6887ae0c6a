"""A map of the rows: what means the same lies together."""

import numpy as np

from tagger.models.embedding import unit_rows
from tagger.scores import FloatArray

PERPLEXITY = 30.0
FEWEST_ROWS = 10
MOST_ROWS = 5000


def project(vectors: FloatArray, seed: int) -> FloatArray | None:
    """Lay vectors out in the plane by t-SNE (van der Maaten and Hinton, JMLR 2008).

    Distances within a crowd mean something, those between crowds little.

    Args:
        vectors: (n, width).
        seed: Of the layout.

    Returns:
        Coordinates from 0 to 1, (n, 2); None for fewer than `FEWEST_ROWS`, or equal, vectors.
    """
    from sklearn.manifold import TSNE

    units = unit_rows(vectors)
    # Equal vectors have no directions to lay out, and end in a crash of the library.
    if len(units) < FEWEST_ROWS or np.ptp(units, axis=0).max() < 1e-9:
        return None
    perplexity = min(PERPLEXITY, (len(units) - 1) / 3)
    layout = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(units)
    low, high = layout.min(axis=0), layout.max(axis=0)
    places: FloatArray = (layout - low) / np.maximum(high - low, 1e-12)
    return places
