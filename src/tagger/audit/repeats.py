"""Finds repeated rows: equal fields, near-duplicates, and paraphrases by their vectors.

Kinds from plain to subtle; a row may be in a group of each:

* `text`: title and description are the same but for case, spacing and Unicode form;
* `title`, `description`: that field is, however short it is;
* `near`: near-duplicates as splits keep them together, by words and characters; see
  `tagger.data.duplicates`;
* `meaning`: the encoder's vectors are so close that one is probably a paraphrase of the other.

Groups of kind `text`, `near` and `meaning` with different tags contradict themselves. A title such
as "Introduction" may well be shared by different things, so the other kinds do not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item, fold
from tagger.models.embedding import unit_rows

MEANING = 0.85
"""Cosine from which two rows count as one thing told twice; benchmarks/RESULTS.md has its error
rates on planted paraphrases."""

KINDS = ("text", "title", "description", "near", "meaning")
SAME_SUBJECT = frozenset({"text", "near", "meaning"})
BLOCK = 1024


@dataclass(frozen=True)
class Repeat:
    """A group of rows that repeat each other.

    Attributes:
        kind: `text`, `title`, `description`, `near` or `meaning`.
        rows: Indices of its members, ascending, at least two.
        conflict: Whether they have different tags although they are about one thing.
        across: Whether they are in different parts (splits or files): a leak.
    """

    kind: str
    rows: tuple[int, ...]
    conflict: bool
    across: bool


def find_repeats(
    items: Sequence[Item],
    parts: Sequence[str],
    vectors: npt.NDArray[np.floating] | None,
) -> list[Repeat]:
    """List all groups of rows that repeat each other, by kind and first row.

    Args:
        items: All rows of all files at hand.
        parts: The split or file that each belongs to.
        vectors: (n, width), an encoder's vectors of the items; None to leave `meaning` out.
    """
    near = group_near_duplicates(items)
    groups = {
        "text": _equal(fold(item.text) for item in items),
        "title": _equal(fold(item.title) for item in items),
        "description": _equal(fold(item.description) for item in items),
        "near": _equal(map(str, near)),
    }
    if vectors is not None:
        # What words and characters show already is not told again.
        pairs = close_pairs(vectors, MEANING)
        groups["meaning"] = [(one, two) for one, two in pairs if near[one] != near[two]]
    return [
        Repeat(
            kind,
            rows,
            conflict=kind in SAME_SUBJECT and len({items[row].tag for row in rows} - {None}) > 1,
            across=kind in SAME_SUBJECT and len({parts[row] for row in rows}) > 1,
        )
        for kind, lists in groups.items()
        for rows in lists
    ]


def close_pairs(vectors: npt.NDArray[np.floating], threshold: float) -> list[tuple[int, int]]:
    """List the pairs of rows, the first index smaller, whose cosine is at least `threshold`.

    Exact: n (n - 1) / 2 products in blocks of `BLOCK` rows; 12,000 rows of width 384 take seconds.
    """
    units = unit_rows(vectors).astype(np.float32)
    pairs = []
    for start in range(0, len(units), BLOCK):
        block = units[start : start + BLOCK] @ units[start:].T
        for one, two in np.argwhere(block >= threshold):
            if one < two:
                pairs.append((start + int(one), start + int(two)))
    return pairs


def _equal(keys: Iterable[str]) -> list[tuple[int, ...]]:
    """Group the rows whose keys are equal and not empty; groups of one are left out."""
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key:
            rows.setdefault(key, []).append(row)
    return [tuple(members) for members in rows.values() if len(members) > 1]
