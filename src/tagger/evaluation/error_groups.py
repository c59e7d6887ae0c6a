"""The wrong decisions, put together by what they have in common, each beside what was trained on.

A person reads errors to learn one of two things: what the model cannot do, or which labels are
wrong. For the first, errors are grouped. For the second, each shows the training items nearest to
it, and a label that both the model and those items contradict is marked.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tagger.data.items import Item
from tagger.evaluation.intervals import measure_share, wilson_interval
from tagger.evaluation.parts import Part
from tagger.evaluation.results import Results
from tagger.models.embedding import unit_rows
from tagger.oof.label_check import find_label_errors
from tagger.scores import BoolArray, FloatArray, IntArray

MOST_SHOWN = 300
LEVEL = 0.05
FEWEST_ERRORS = 3
"""Errors that make a group by what they have in common; others are put together by their tags."""

NEIGHBOURS = 5
BLOCK = 1024

Neighbours = Sequence[tuple[Item, float]]
"""Items with their similarity to a row, the nearest first."""


def describe_errors(
    results: Results, parts: Sequence[Part], neighbours: Sequence[Neighbours] | None
) -> dict[str, Any]:
    """Group the wrong decisions.

    Args:
        results: Of all rows evaluated.
        parts: What errors may have in common.
        neighbours: For each row, the items trained on that are nearest to it, with their
            similarities; None when they are not known.

    Returns:
        Ready for JSON: `total`; `shown`, at most `MOST_SHOWN`, the surest; `doubtful_labels`, how
        many of these are marked; and `groups`, each with `name`, `num_samples` and `error_rate` (of
        the part, None for a pair of tags) and `errors`, the surest first: `id`, `title`,
        `description`, `true`, `predicted`, `probability`, `label_doubtful` and `neighbours`.
    """
    items, tags, wrong, confidence = results.items, results.tags, results.wrong, results.confidence
    doubtful = doubtful_labels(results, neighbours)
    order = np.flatnonzero(wrong)
    order = order[np.argsort(-confidence[order], kind="stable")][:MOST_SHOWN]

    def describe(row: int) -> dict[str, Any]:
        near = [] if neighbours is None else neighbours[row]
        return {
            "id": items[row].id,
            "title": items[row].title,
            "description": items[row].description,
            "true": tags[results.true[row]],
            "predicted": tags[results.predicted[row]],
            "probability": float(confidence[row]),
            "label_doubtful": bool(doubtful[row]),
            "neighbours": [
                {"title": item.title or item.text, "tag": item.tag, "similarity": round(value, 3)}
                for item, value in near
            ],
        }

    groups: list[dict[str, Any]] = []
    for name, part, rows in _group(order, results, parts):
        rate = None
        if part is not None:
            rate = measure_share(int(wrong[part.rows].sum()), len(part.rows))
        groups.append(
            {
                "name": name,
                "num_samples": None if part is None else len(part.rows),
                "error_rate": rate,
                "errors": [describe(row) for row in rows],
            }
        )
    return {
        "total": int(wrong.sum()),
        "shown": len(order),
        "doubtful_labels": int(doubtful[order].sum()),
        "groups": groups,
    }


def doubtful_labels(results: Results, neighbours: Sequence[Neighbours] | None) -> BoolArray:
    """Mark the rows whose label looks wrong: by confident learning, and by what is near them.

    The run did not see these rows, so its probabilities are what confident learning asks for. Of
    the neighbours, more must carry the tag that the run decided than the label.

    Returns:
        (n,); nothing is marked where fewer than two tags occur.
    """
    true, tags = results.true, results.tags
    if len(np.unique(true)) < 2:
        return np.zeros(len(true), dtype=np.bool_)
    found = find_label_errors(results.probabilities, true.tolist())
    marked: BoolArray = found.suspected & results.wrong
    if neighbours is not None:
        for row in np.flatnonzero(marked).tolist():
            votes = Counter(item.tag for item, _ in neighbours[row])
            decided = tags[results.predicted[row]]
            marked[row] = votes[decided] > votes[tags[true[row]]]
    return marked


def nearest_items(
    vectors: FloatArray, known: Sequence[Item], known_vectors: FloatArray
) -> list[Neighbours]:
    """Find for each row the `NEIGHBOURS` known items with the highest cosine, the nearest first.

    Args:
        vectors: Of the rows, (n_rows, width).
        known: Items to find.
        known_vectors: Theirs, (n_known, width).
    """
    many = min(NEIGHBOURS, len(known))
    result: list[Neighbours] = []
    if not many:
        return [[] for _ in vectors]
    known_units = unit_rows(known_vectors)
    for start in range(0, len(vectors), BLOCK):
        similarity = unit_rows(vectors[start : start + BLOCK]) @ known_units.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :many]
        result += [
            [(known[place], float(row[place])) for place in nearest.tolist()]
            for row, nearest in zip(similarity, order, strict=True)
        ]
    return result


def _group(
    errors: IntArray, results: Results, parts: Sequence[Part]
) -> list[tuple[str, Part | None, list[int]]]:
    """Assign each error, given the surest first, to one group.

    The part with the highest error rate, by the lower end of its interval, takes its errors; then
    the next one, by those that are left. What no part of at least `FEWEST_ERRORS` takes is put
    together by true and decided tag. A group is a help for reading: that a part has more errors
    than its share is tested part by part here; weak slices are what holds for all of them together.
    """
    from scipy.stats import hypergeom

    wrong, tags = results.wrong, results.tags
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
        name = f"{tags[results.true[row]]} taken for {tags[results.predicted[row]]}"
        pairs.setdefault(name, []).append(row)
    for name, rows in sorted(pairs.items(), key=lambda one: -len(one[1])):
        groups.append((name, None, rows))
    return groups
