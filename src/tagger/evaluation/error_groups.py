"""Groups wrong predictions by what they have in common, beside the nearest training items.

A person reads errors to learn one of two things: what the model cannot do, or which labels are
wrong. For the first, errors are grouped. For the second, each shows the training items nearest to
it, and a label that both the model and those items contradict is marked as a suspected error.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tagger.data.items import Item
from tagger.evaluation.intervals import measure_share, wilson_interval
from tagger.evaluation.parts import Part
from tagger.evaluation.predictions import LabelledPredictions
from tagger.evaluation.report import ErrorGroup, Errors, NearestItem, WrongItem
from tagger.oof.label_check import find_label_errors
from tagger.scores import BoolArray, FloatArray, IntArray

MOST_SHOWN = 300
LEVEL = 0.05
FEWEST_ERRORS = 3
"""Errors that make a group by what they have in common; others are put together by their tags."""

NEAREST = 5

Neighbours = Sequence[tuple[Item, float]]
"""Items with their similarity to a row, the nearest first."""


def describe_errors(
    predictions: LabelledPredictions,
    parts: Sequence[Part],
    nearest: Sequence[Neighbours] | None,
) -> Errors:
    """Group the wrong predictions, of which the `MOST_SHOWN` most confident ones are shown.

    Args:
        predictions: Of all rows evaluated.
        parts: What errors may have in common.
        nearest: For each row, the training items that are nearest to it, with their similarities;
            None when they are not known.
    """
    items, wrong, confidence = predictions.items, predictions.wrong, predictions.confidence
    suspected = suspected_label_errors(predictions, nearest)
    order = np.flatnonzero(wrong)
    order = order[np.argsort(-confidence[order], kind="stable")][:MOST_SHOWN]

    def describe(row: int) -> WrongItem:
        near = [] if nearest is None else nearest[row]
        return WrongItem(
            id=items[row].id,
            title=items[row].title,
            description=items[row].description,
            **predictions.shown(row),
            probability=float(confidence[row]),
            suspected_label_error=bool(suspected[row]),
            nearest_items=[
                NearestItem(title=item.title or item.text, tag=item.tag, similarity=round(value, 3))
                for item, value in near
            ],
        )

    groups = [
        ErrorGroup(
            name=name,
            num_samples=None if part is None else len(part.rows),
            error_rate=None
            if part is None
            else measure_share(int(wrong[part.rows].sum()), len(part.rows)),
            errors=[describe(row) for row in rows],
        )
        for name, part, rows in _group(order, predictions, parts)
    ]
    return Errors(
        total=int(wrong.sum()),
        shown=len(order),
        suspected_label_errors=int(suspected[order].sum()),
        groups=groups,
    )


def suspected_label_errors(
    predictions: LabelledPredictions, nearest: Sequence[Neighbours] | None
) -> BoolArray:
    """Mark the rows whose label looks wrong: by confident learning, and by the nearest items.

    The run did not see these rows, so its probabilities are what confident learning asks for. Of
    the nearest items, more must carry the predicted tag than the label.

    Returns:
        (n,); nothing is marked where fewer than two tags occur.
    """
    true, tags = predictions.true, predictions.tags
    if len(np.unique(true)) < 2:
        return np.zeros(len(true), dtype=np.bool_)
    found = find_label_errors(predictions.probabilities, true.tolist())
    marked: BoolArray = found.suspected & predictions.wrong
    if nearest is not None:
        for row in np.flatnonzero(marked).tolist():
            votes = Counter(item.tag for item, _ in nearest[row])
            marked[row] = votes[tags[predictions.predicted[row]]] > votes[tags[true[row]]]
    return marked


def nearest_items(
    vectors: FloatArray, known: Sequence[Item], known_vectors: FloatArray
) -> list[Neighbours]:
    """Find for each row the `NEAREST` known items with the highest cosine, the nearest first.

    Args:
        vectors: Of the rows, (n_rows, width).
        known: Items to find.
        known_vectors: Of these, (n_known, width).
    """
    from sklearn.neighbors import NearestNeighbors

    if not known:
        return [[] for _ in vectors]
    index = NearestNeighbors(n_neighbors=min(NEAREST, len(known)), metric="cosine")
    distances, places = index.fit(known_vectors).kneighbors(vectors)
    return [
        [(known[at], 1 - distance) for at, distance in zip(*row, strict=True)]
        for row in zip(places.tolist(), distances.tolist(), strict=True)
    ]


def _group(
    errors: IntArray, predictions: LabelledPredictions, parts: Sequence[Part]
) -> list[tuple[str, Part | None, list[int]]]:
    """Assign each error, given the surest first, to one group.

    The part with the highest error rate, by the lower end of its interval, takes its errors; then
    the next one, by those that are left. What no part of at least `FEWEST_ERRORS` takes is put
    together by true and predicted tag. A group is a help for reading: that a part has more errors
    than its share is tested part by part here; weak slices are what holds for all of them together.
    """
    from scipy.stats import hypergeom

    wrong = predictions.wrong
    total, errors_in_all = len(wrong), int(wrong.sum())
    left = np.zeros(len(wrong), dtype=np.bool_)
    left[errors] = True
    many = np.array([wrong[part.rows].sum() for part in parts], dtype=np.int64)
    sizes = np.array([len(part.rows) for part in parts], dtype=np.int64)
    chances = hypergeom.sf(many - 1, total, errors_in_all, sizes)
    rich = np.flatnonzero((many >= FEWEST_ERRORS) & (chances <= LEVEL))
    lowest_rate, _ = wilson_interval(many[rich], sizes[rich])
    groups: list[tuple[str, Part | None, list[int]]] = []
    for part in (parts[place] for place in rich[np.argsort(-lowest_rate, kind="stable")].tolist()):
        own = part.rows[left[part.rows]]
        if len(own) >= FEWEST_ERRORS:
            left[own] = False
            taken = set(own.tolist())
            groups.append((part.name, part, [row for row in errors.tolist() if row in taken]))
    pairs: dict[str, list[int]] = {}
    for row in errors[left[errors]].tolist():
        pairs.setdefault(
            "{true} taken for {predicted}".format(**predictions.shown(row)), []
        ).append(row)
    for name, rows in sorted(pairs.items(), key=lambda one: -len(one[1])):
        groups.append((name, None, rows))
    return groups
