"""Where a run errs, and what the rows around its errors look like."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tagger.data.items import Item
from tagger.evaluation.error_groups import describe_errors, nearest_items
from tagger.evaluation.parts import FEWEST_ROWS, found_parts, named_parts
from tagger.evaluation.projection import MOST_ROWS, project
from tagger.evaluation.results import Results
from tagger.evaluation.rows import trained_on
from tagger.evaluation.slices import Slice
from tagger.evaluation.weak_slices import describe_weak_slices, find_weak_slices
from tagger.models.embedding import embed_items
from tagger.runs import RunFolder
from tagger.scores import FloatArray

ENCODER = "minilm"
"""One encoder for every run, as it was pretrained: maps and clusters of runs can be compared."""

MOST_EMBEDDED = 20_000
SHOWN_CHARACTERS = 300


def embed_rows(items: Sequence[Item], tags: Sequence[str]) -> FloatArray | None:
    """Return vectors of texts, (n, width), or None where there are too many of them."""
    if len(items) > MOST_EMBEDDED:
        return None
    return embed_items(items, ENCODER, tags)


def explore(
    run: RunFolder,
    results: Results,
    slices: Sequence[Slice],
    vectors: FloatArray | None,
    seed: int,
) -> dict[str, Any]:
    """Look for weak slices, group the errors, and draw a map.

    Args:
        run: Whose training items are shown beside its errors.
        results: Of the rows evaluated, n.
        slices: Those that have a name.
        vectors: (n, width); None to do without meaning: then there are no clusters, no neighbours
            and no map.
        seed: Of the search and of the map.

    Returns:
        Ready for JSON: `weak_slices`, `errors` and `map`.
    """
    items, tags = results.items, results.tags
    named = [
        part
        for part in named_parts(items, tags, slices)
        if FEWEST_ROWS <= len(part.rows) < len(items)
    ]
    parts = [*named, *found_parts(items, results.true, tags, vectors)]
    weak = find_weak_slices(parts, results.wrong, seed)
    neighbours = None
    if vectors is not None:
        known = trained_on(run)[:MOST_EMBEDDED]
        if known:
            neighbours = nearest_items(vectors, known, embed_items(known, ENCODER, tags))
    return {
        "weak_slices": describe_weak_slices(weak, len(parts), results),
        "errors": describe_errors(results, parts, neighbours),
        "map": None if vectors is None else draw_map(results, vectors, seed),
    }


def draw_map(results: Results, vectors: FloatArray, seed: int) -> list[dict[str, Any]] | None:
    """Place the rows on a map: all of them, or all errors and a random choice of the others.

    Returns:
        Ready for JSON, for each row its `id`, `x` and `y` from 0 to 1, `title`, the beginning of
        its `description`, its `true` and `predicted` tag and the `probability` of the latter. None
        where there are too few rows for a map.
    """
    items, tags = results.items, results.tags
    order = np.random.default_rng(seed).permutation(len(items))
    order = order[np.argsort(~results.wrong[order], kind="stable")]  # the errors first
    rows = np.sort(order[:MOST_ROWS])
    places = project(vectors[rows], seed)
    if places is None:
        return None
    return [
        {
            "id": items[row].id,
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "title": items[row].title,
            "description": items[row].description[:SHOWN_CHARACTERS],
            "true": tags[results.true[row]],
            "predicted": tags[results.predicted[row]],
            "probability": round(float(results.confidence[row]), 4),
        }
        for row, (x, y) in zip(rows.tolist(), places, strict=True)
    ]
