"""Explores where a run errs: weak slices, groups of errors, and a map of the rows."""

from collections.abc import Sequence

import numpy as np

from tagger.data.items import Item
from tagger.evaluation.error_groups import describe_errors, nearest_items
from tagger.evaluation.parts import FEWEST_ROWS, found_parts, named_parts
from tagger.evaluation.predictions import LabelledPredictions
from tagger.evaluation.report import Errors, MapPoint, WeakSlices
from tagger.evaluation.rows import trained_on
from tagger.evaluation.slices import Slice
from tagger.evaluation.weak_slices import describe_weak_slices, find_weak_slices
from tagger.models.embedding import embed_items, unit_rows
from tagger.runs import RunFolder
from tagger.scores import FloatArray

ENCODER = "minilm"
"""One encoder for every run, as it was pretrained: maps and clusters of runs can be compared."""

MOST_EMBEDDED = 20_000
MOST_ON_MAP = 5000
FEWEST_ON_MAP = 10
PERPLEXITY = 30.0
SHOWN_CHARACTERS = 300


def embed_rows(items: Sequence[Item], tags: Sequence[str]) -> FloatArray | None:
    """Return vectors of texts, (n, width), or None where there are too many of them."""
    if len(items) > MOST_EMBEDDED:
        return None
    return embed_items(items, ENCODER, tags)


def explore(
    run: RunFolder,
    predictions: LabelledPredictions,
    slices: Sequence[Slice],
    vectors: FloatArray | None,
    seed: int,
) -> tuple[WeakSlices, Errors, list[MapPoint] | None]:
    """Look for weak slices, group the errors, and draw a map.

    Args:
        run: Whose training items are shown beside its errors.
        predictions: Of the rows evaluated, n.
        slices: Those that have a name.
        vectors: Of the texts, (n, width); None to do without: then there are no clusters, no
            nearest items and no map.
        seed: Of the search and of the map.
    """
    items, tags = predictions.items, predictions.tags
    named = [
        part
        for part in named_parts(items, tags, slices)
        if FEWEST_ROWS <= len(part.rows) < len(items)
    ]
    parts = [*named, *found_parts(items, predictions.true, tags, vectors)]
    weak = find_weak_slices(parts, predictions.wrong, seed)
    nearest = None
    if vectors is not None:
        known = trained_on(run)[:MOST_EMBEDDED]
        if known:
            nearest = nearest_items(vectors, known, embed_items(known, ENCODER, tags))
    return (
        describe_weak_slices(weak, len(parts), predictions),
        describe_errors(predictions, parts, nearest),
        None if vectors is None else draw_map(predictions, slices, vectors, seed),
    )


def draw_map(
    predictions: LabelledPredictions, slices: Sequence[Slice], vectors: FloatArray, seed: int
) -> list[MapPoint] | None:
    """Place the rows on a map: all of them, or all errors and a random choice of the others.

    Returns:
        None where there are too few rows for a map.
    """
    items = predictions.items
    order = np.random.default_rng(seed).permutation(len(items))
    order = order[np.argsort(~predictions.wrong[order], kind="stable")]  # the errors first
    rows = np.sort(order[:MOST_ON_MAP])
    places = project(vectors[rows], seed)
    if places is None:
        return None
    return [
        MapPoint(
            id=items[row].id,
            x=round(float(x), 4),
            y=round(float(y), 4),
            title=items[row].title,
            description=items[row].description[:SHOWN_CHARACTERS],
            **predictions.shown(row),
            probability=round(float(predictions.confidence[row]), 4),
            slices=tuple(one.name for one in slices if one.contains(items[row])),
        )
        for row, (x, y) in zip(rows.tolist(), places, strict=True)
    ]


def project(vectors: FloatArray, seed: int) -> FloatArray | None:
    """Lay vectors out in the plane by t-SNE (van der Maaten and Hinton, JMLR 2008).

    Distances within a cluster mean something, those between clusters little.

    Args:
        vectors: (n, width).
        seed: Of the layout.

    Returns:
        Coordinates from 0 to 1, (n, 2); None for fewer than `FEWEST_ON_MAP`, or equal, vectors.
    """
    from sklearn.manifold import TSNE

    units = unit_rows(vectors)
    # Equal vectors have no directions to lay out, and end in a crash of the library.
    if len(units) < FEWEST_ON_MAP or np.ptp(units, axis=0).max() < 1e-9:
        return None
    perplexity = min(PERPLEXITY, (len(units) - 1) / 3)
    layout = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(units)
    low, high = layout.min(axis=0), layout.max(axis=0)
    places: FloatArray = (layout - low) / np.maximum(high - low, 1e-12)
    return places
