"""Divides the rows into parts: named slices and tags, and parts found by word, length and meaning.

The search for weak slices and the guards against another run test all of them. What is found
depends on the texts and their tags alone, never on what a model predicted; so a test of any part
is a fair one, once multiple comparisons are accounted for.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
    words = [frozenset(_content_words(item.text)) for item in items]
    parts = [*_by_word(words), *_by_length(items)]
    if vectors is not None:
        units = unit_rows(vectors)
        groups: dict[str, tuple[IntArray, Sequence[int]]] = {
            "": (np.arange(len(items)), ROWS_A_CLUSTER)
        }
        for position, tag in enumerate(tags):
            groups[f"{tag} "] = (np.flatnonzero(true == position), ROWS_A_CLUSTER_OF_A_TAG)
        frequency = Counter(word for own in words for word in own)
        parts += _by_cluster(units, words, frequency, groups)
    return [part for part in parts if len(part.rows) >= FEWEST_ROWS]


def membership(parts: Sequence[Part], n_rows: int) -> "csr_array[np.float32]":
    """Return which part has which row as ones of a sparse array, (n_parts, n_rows)."""
    ends = np.cumsum([0, *(len(part.rows) for part in parts)])
    columns = np.concatenate([part.rows for part in parts]) if parts else np.empty(0, np.int64)
    ones = np.ones(len(columns), dtype=np.float32)
    return csr_array((ones, columns, ends), shape=(len(parts), n_rows))


def _content_words(text: str) -> Iterable[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return (word for word in _WORD.findall(text.casefold()) if word not in ENGLISH_STOP_WORDS)


def _by_word(words: Sequence[frozenset[str]]) -> list[Part]:
    rows = defaultdict(list)
    for row, own in enumerate(words):
        for word in sorted(own):
            rows[word].append(row)
    return [Part("word", f'word "{word}"', np.array(rows[word])) for word in sorted(rows)]


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


def _by_cluster(
    units: FloatArray,
    words: Sequence[frozenset[str]],
    frequency: Mapping[str, int],
    groups: Mapping[str, tuple[IntArray, Sequence[int]]],
) -> list[Part]:
    """Cluster groups of rows, each at several resolutions, by k-means on vectors of length 1.

    Args:
        units: (n_rows, width).
        words: Of each row.
        frequency: In how many rows each word is.
        groups: What names of clusters begin with, rows, and the average sizes of their clusters.
    """
    from sklearn.cluster import KMeans

    parts = []
    for prefix, (rows, sizes) in groups.items():
        for size in sizes:
            many = min(len(rows) // size, MOST_CLUSTERS)
            if many < 2:
                continue
            place = KMeans(many, n_init=2, max_iter=100, random_state=0).fit_predict(units[rows])
            for number in range(many):
                own = rows[place == number]
                about = ", ".join(_characteristic(words, frequency, own))
                parts.append(Part("cluster", f"{prefix}about {about}", own))
    return parts


def _characteristic(
    words: Sequence[frozenset[str]], frequency: Mapping[str, int], rows: IntArray
) -> list[str]:
    """Name the words that set some rows apart from the others: frequent here, rare elsewhere."""
    inside = Counter(word for row in rows.tolist() for word in words[row])
    others = max(len(words) - len(rows), 1)

    def weight(word: str) -> float:
        here = inside[word] / len(rows)
        there = (frequency[word] - inside[word]) / others
        return here * math.log((here + 0.01) / (there + 0.01))

    return sorted(inside, key=lambda word: (-weight(word), word))[:SHOWN_WORDS]
