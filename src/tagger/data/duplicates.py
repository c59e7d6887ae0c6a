"""Finds items that say the same thing, so that none of them is trained on and tested on at once.

Two items are near-duplicates when one of these holds, after case, spacing and punctuation are
taken away:

* they have the same text;
* they share a title of at least `TITLE_WORDS` words, or a description of at least
  `DESCRIPTION_WORDS` words: shorter ones ("Introduction", "A Python package") are shared by chance;
* their shingle sets (words, and character 4-grams across word borders) have a Jaccard similarity
  of at least `THRESHOLD`. Words alone miss spelling variants ("pre-trained", "pretrained"), and
  characters alone are swayed by one long shared name.

The threshold comes from reading pairs of two real sets (764 tagged and 12,049 untagged items).
From 0.5 upwards a pair is nearly always one project told twice, or one template with a word
changed; the tagged set has 8 such pairs, each with one tag. Between 0.4 and 0.5 most pairs only
share their subject and its stock phrases. At 0.43 stands "A collection of computer vision
pre-trained models" beside the same about NLP, two items with different tags.

Being linked is passed on: the neighbours of a neighbour belong to the group. The largest group of
the 12,049 has 42 items, the builds of one package.

Candidates come from MinHash signatures cut into bands (Broder 1997; Leskovec, Rajaraman & Ullman,
"Mining of Massive Datasets", chapter 3), and each is confirmed by its exact similarity. With 64
bands of 4 values a pair at the threshold becomes a candidate with probability
1 - (1 - 0.5^4)^64 = 0.98, a pair at 0.6 with 0.9999.
"""

import re
import zlib
from collections.abc import Iterable, Sequence

from tagger.data.items import Item, fold

THRESHOLD = 0.5
TITLE_WORDS = 3
DESCRIPTION_WORDS = 5
CHARACTERS = 4
BANDS = 64
BAND_VALUES = 4


def group_near_duplicates(items: Sequence[Item]) -> list[int]:
    """Number the groups of items that are linked by a chain of near-duplicates.

    Returns:
        The group of each item, `len(items)` numbers; groups are numbered by their first item.
    """
    titles = [_normalise(item.title) for item in items]
    descriptions = [_normalise(item.description) for item in items]
    texts = [f"{title} {rest}".strip() for title, rest in zip(titles, descriptions, strict=True)]

    forest = _Forest(len(items))
    _link_equal(forest, texts, at_least=0)
    _link_equal(forest, titles, TITLE_WORDS)
    _link_equal(forest, descriptions, DESCRIPTION_WORDS)
    _link_similar(forest, texts)

    numbers: dict[int, int] = {}
    return [numbers.setdefault(forest.root(index), len(numbers)) for index in range(len(items))]


def _normalise(text: str) -> str:
    """Keep the words; a text without any (only signs or emoji) stays as it is."""
    folded = fold(text)
    return " ".join(re.findall(r"\w+", folded)) or folded


def _link_equal(forest: "_Forest", keys: Iterable[str], at_least: int) -> None:
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key and key.count(" ") + 1 >= at_least:
            forest.link(first.setdefault(key, index), index)


def _link_similar(forest: "_Forest", texts: Sequence[str]) -> None:
    from datasketch import MinHash

    first_of: dict[str, int] = {}
    for index, text in enumerate(texts):
        first_of.setdefault(text, index)
    members = list(first_of.values())
    shingles = {index: _shingles(texts[index]) for index in members}
    signatures = MinHash.bulk(
        shingles.values(), num_perm=BANDS * BAND_VALUES, hashfunc=_as_it_is, seed=1
    )
    for band in range(BANDS):
        start = band * BAND_VALUES
        buckets: dict[bytes, list[int]] = {}
        for index, signature in zip(members, signatures, strict=True):
            key = signature.hashvalues[start : start + BAND_VALUES].tobytes()
            buckets.setdefault(key, []).append(index)
        for bucket in buckets.values():
            if len(bucket) > 1:
                _link_within(forest, bucket, shingles)


def _link_within(forest: "_Forest", bucket: list[int], shingles: dict[int, frozenset[int]]) -> None:
    """Link the similar ones among candidates, without comparing those that are linked already.

    A thousand variants of one template share their buckets. Keeping the candidates by group makes
    that cost a thousand comparisons rather than half a million.
    """
    by_root: dict[int, list[int]] = {}
    for index in bucket:
        root = forest.root(index)
        linked = [
            other_root
            for other_root, others in by_root.items()
            if other_root == root
            or any(_jaccard(shingles[index], shingles[other]) >= THRESHOLD for other in others)
        ]
        members = [index]
        for other_root in linked:
            members += by_root.pop(other_root)
            root = forest.link(root, other_root)
        by_root[root] = members


def _shingles(text: str) -> frozenset[int]:
    """Return 32-bit hashes of the words and of the character 4-grams of a text."""
    words = text.split()
    padded = f" {text} "
    grams = (padded[i : i + CHARACTERS] for i in range(len(padded) - CHARACTERS + 1))
    return frozenset(
        [zlib.crc32(gram.encode()) for gram in grams]
        + [zlib.crc32(f"word {word}".encode()) for word in words]
    )


def _jaccard(left: frozenset[int], right: frozenset[int]) -> float:
    shared = len(left & right)
    return shared / max(1, len(left) + len(right) - shared)


def _as_it_is(value: int) -> int:
    return value


class _Forest:
    """Disjoint sets of numbers (union-find), each named by its smallest member."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def root(self, index: int) -> int:
        parents = self._parents
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    def link(self, left: int, right: int) -> int:
        small, large = sorted((self.root(left), self.root(right)))
        self._parents[large] = small
        return small
