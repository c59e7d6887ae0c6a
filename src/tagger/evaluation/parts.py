"""Divides the rows into parts: named slices and tags, and parts found by word, length and meaning.

The search for weak slices and the guards against another run test all of them. What is found
depends on the texts and their tags alone, never on what a model predicted; so a test of any part
is a fair one, once multiple comparisons are accounted for.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from tagger.data.items import Item
from tagger.evaluation.slices import Slice, slice_mask
from tagger.models.embedding import unit_rows
from tagger.scores import FloatArray, IntArray

ALL_ROWS = "all rows"
NAMED_KINDS = ("all", "slice", "tag")
FEWEST_ROWS = 8
"""A found part has at least so many: of fewer, hardly anything can be proven."""

ROWS_A_CLUSTER = (100, 50, 25, 12)
"""Average sizes of clusters over all rows, coarse to fine."""

ROWS_A_CLUSTER_OF_A_TAG = (60, 30, 15)
MOST_CLUSTERS = 100
SHOWN_WORDS = 3

_WORD = re.compile(r"[^\W\d_](?:[\w+#-]*[^\W_]|[+#]+)")


@dataclass(frozen=True)
class Part:
    """A subset of the rows.

    Attributes:
        kind: `all`, `tag` or `slice` (those with a name); `word`, `length` or `cluster` (found).
        name: What reports call it.
        rows: Positions of its rows, ascending.
    """

    kind: str
    name: str
    rows: IntArray


def named_parts(items: Sequence[Item], tags: Sequence[str], slices: Sequence[Slice]) -> list[Part]:
    """List all rows, each named slice and each tag; some may have no row.

    Args:
        items: The rows.
        tags: The approved tags.
        slices: Those that have a name.
    """
    parts = [Part("all", ALL_ROWS, np.arange(len(items)))]
    parts += [Part("slice", one.name, np.flatnonzero(slice_mask(one, items))) for one in slices]
    true = np.array([item.tag for item in items])
    parts += [Part("tag", tag, np.flatnonzero(true == tag)) for tag in tags]
    return parts


def found_parts(
    items: Sequence[Item], true: IntArray, tags: Sequence[str], vectors: FloatArray | None
) -> list[Part]:
    """Find parts of at least `FEWEST_ROWS` rows: by a word, by length, by meaning.

    Args:
        items: The rows.
        true: Position of each row's tag, (n_items,).
        tags: Names of the tags.
        vectors: Vectors of the texts, (n_items, width); None to leave clusters out.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
    from sklearn.preprocessing import MultiLabelBinarizer

    binarizer = MultiLabelBinarizer(sparse_output=True)
    found = (set(_WORD.findall(item.text.casefold())) for item in items)
    words = binarizer.fit_transform([own - ENGLISH_STOP_WORDS for own in found]).tocsc()
    rows_of_words = np.split(words.indices.astype(np.int64), words.indptr[1:-1])
    parts = [
        Part("word", f'word "{word}"', rows)
        for word, rows in zip(binarizer.classes_, rows_of_words, strict=False)
    ]
    parts += _by_length(items)
    if vectors is not None:
        units, words = unit_rows(vectors), words.tocsr()
        groups = {f"{tag} ": np.flatnonzero(true == at) for at, tag in enumerate(tags)}
        for prefix, rows in {"": np.arange(len(items)), **groups}.items():
            for own in _cluster(units, rows, ROWS_A_CLUSTER_OF_A_TAG if prefix else ROWS_A_CLUSTER):
                about = ", ".join(binarizer.classes_[_characteristic(words, own)])
                parts.append(Part("cluster", f"{prefix}about {about}", own))
    return [part for part in parts if len(part.rows) >= FEWEST_ROWS]


def membership(parts: Sequence[Part], n_rows: int) -> "csr_array[np.float32]":
    """Return which part has which row as ones of a sparse array, (n_parts, n_rows)."""
    ends = np.cumsum([0, *(len(part.rows) for part in parts)])
    columns = np.concatenate([part.rows for part in parts]) if parts else np.empty(0, np.int64)
    ones = np.ones(len(columns), dtype=np.float32)
    return csr_array((ones, columns, ends), shape=(len(parts), n_rows))


def _by_length(items: Sequence[Item]) -> list[Part]:
    """Cut at the quartiles of the number of words."""
    lengths = np.array([len(item.text.split()) for item in items])
    cuts = np.unique(np.quantile(lengths, (0.25, 0.5, 0.75), method="lower"))
    place = np.searchsorted(cuts, lengths)  # 0 for those up to the first cut
    parts = []
    for number in np.unique(place).tolist():
        rows = np.flatnonzero(place == number)
        low, high = lengths[rows].min(), lengths[rows].max()
        parts.append(Part("length", f"{low} to {high} words", rows))
    return parts


def _cluster(units: FloatArray, rows: IntArray, sizes: Sequence[int]) -> Iterator[IntArray]:
    """Cluster some rows, once for each average size, by k-means on vectors of length 1."""
    from sklearn.cluster import KMeans

    for size in sizes:
        many = min(len(rows) // size, MOST_CLUSTERS)
        if many >= 2:
            place = KMeans(many, n_init=2, max_iter=100, random_state=0).fit_predict(units[rows])
            yield from (rows[place == number] for number in np.unique(place))


def _characteristic(words: "csr_array[np.int64]", rows: IntArray) -> IntArray:
    """Choose the words that set some rows apart from the others: frequent here, rare elsewhere.

    Args:
        words: Which row has which word, (n_rows, n_words).
        rows: Some of the rows.
    """
    inside = np.asarray(words[rows].sum(axis=0)).ravel()
    outside = np.asarray(words.sum(axis=0)).ravel() - inside
    here, there = inside / len(rows), outside / max(words.shape[0] - len(rows), 1)
    weight = here * np.log((here + 0.01) / (there + 0.01))
    order: IntArray = np.argsort(-weight, kind="stable")
    return order[inside[order] > 0][:SHOWN_WORDS]
