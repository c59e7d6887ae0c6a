"""Groups near-duplicate items, so that none is trained on and tested on at once.

Two items are near-duplicates when one of these holds, after case, spacing and punctuation are
taken away:

* they have the same text;
* they have the same words, at least `TITLE_WORDS`, but for their order and slips of spelling;
* they share a title of at least `TITLE_WORDS` words, or a description of at least
  `DESCRIPTION_WORDS` words, that is rare in the set;
* their texts overlap by `OVERLAP` or more, and so does what is specific to them.

Overlap is the Jaccard similarity of shingle sets: words, and character 4-grams across word
borders. Words alone miss spelling variants ("pre-trained", "pretrained"), and characters alone are
swayed by one long shared name.

What the texts of a set have in common, such as a footer, a signature or the frame of a sentence,
is no sign that two of them say the same. So the second overlap weighs each shingle by its rarity:
1 if one text has it, 0 if the square root of the number of texts or more have it, by the logarithm
in between. `SPECIFIC_OVERLAP` of that weight must agree; `DOUBT` counts as different in each pair,
or a word that 40 short questions share would make them one. Titles and descriptions count if fewer
texts than that square root share them.

Linked texts are joined into groups, the closest first, and no group holds more different texts
than the square root of their number: a chain of texts that change little by little can't swallow
a set.

The thresholds come from reading pairs of two real sets (764 tagged and 12,049 untagged items);
`benchmarks/near_duplicates.py` measures what they do there, and with questions, footers and frames.
From an overlap of 0.5 upwards, a pair that shares what is rare is nearly always one project told
twice, or one template with a word changed. The builds of one package (42 of the 12,049) stay one
group; "a Python library for reinforcement learning" and its like do not become one.

All pairs that share something specific are compared exactly, by the product of a sparse matrix and
its transpose. A shingle that counts is in less than the square root of n texts, so this takes at
most n * sqrt(n) steps for each shingle of a text, whatever frame the texts share.
"""

import itertools
import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, diags_array

from tagger.data.items import Item, fold

OVERLAP = 0.5
TITLE_WORDS = 3
DESCRIPTION_WORDS = 5
CHARACTERS = 4
SPELT_LETTERS = 4
RARE = 2
SLIP = 20

SPECIFIC_OVERLAP = 0.125
DOUBT = 15.0
"""Weight that is taken for different in every pair, in shingles that one text alone has: as much
as a long word or two short ones."""
FREQUENT = 4
"""What fewer texts share is never too frequent to count, however small the set is."""

ROWS = 1024


def group_near_duplicates(items: Sequence[Item]) -> list[int]:
    """Number the groups of items that say the same thing.

    Returns:
        The group of each item, `len(items)` numbers; groups are numbered by their first item.
    """
    text_of, links = _find_links(items)
    group_of_text = _join(links, _too_frequent(len(set(text_of))))
    numbers: dict[int, int] = {}
    groups = (group_of_text.get(text, text) for text in text_of)
    return [numbers.setdefault(group, len(numbers)) for group in groups]


def near_duplicates_of(items: Sequence[Item], seen: Sequence[Item]) -> list[bool]:
    """Say of each item whether it is a near-duplicate of one of the seen ones, with no chain."""
    text_of, links = _find_links([*seen, *items])
    known = set(text_of[: len(seen)])
    near = known | {two for one, two in links if one in known}
    near |= {one for one, two in links if two in known}
    return [text in near for text in text_of[len(seen) :]]


def _find_links(items: Sequence[Item]) -> tuple[list[int], dict[tuple[int, int], float]]:
    """Find the near-duplicates among the distinct texts of a set.

    Returns:
        The text of each item, as its place among the sorted distinct texts; and pairs of texts, the
        smaller place first, with their similarity, from `OVERLAP` to 1.
    """
    titles = [normalise(item.title) for item in items]
    descriptions = [normalise(item.description) for item in items]
    whole = [f"{title} {rest}".strip() for title, rest in zip(titles, descriptions, strict=True)]
    # In the order of the alphabet, so that nothing depends on the order of the items.
    texts = sorted(set(whole))
    place = {text: at for at, text in enumerate(texts)}
    text_of = [place[text] for text in whole]

    links = _similar(texts)
    links |= _sharing(_sorted_words(texts), range(len(texts)), TITLE_WORDS)
    links |= _sharing(titles, text_of, TITLE_WORDS)
    links |= _sharing(descriptions, text_of, DESCRIPTION_WORDS)
    return text_of, links


def normalise(text: str) -> str:
    """Keep the words; a text without any (only signs or emoji) stays as it is."""
    folded = fold(text)
    return " ".join(re.findall(r"\w+", folded)) or folded


def _too_frequent(n_texts: int) -> float:
    """Return the number of texts from which on something that they share says nothing of them."""
    return max(FREQUENT, math.sqrt(n_texts))


def _sharing(
    keys: Sequence[str], text_of: Sequence[int], at_least: int
) -> dict[tuple[int, int], float]:
    """Link the texts that share a key of so many words, if not too many texts do."""
    too_frequent = _too_frequent(len(set(text_of)))
    sharing: dict[str, set[int]] = defaultdict(set)
    for key, text in zip(keys, text_of, strict=True):
        if key.count(" ") + 1 >= at_least:
            sharing[key].add(text)
    return {
        pair: 1.0
        for texts in sharing.values()
        if len(texts) < too_frequent
        for pair in itertools.combinations(sorted(texts), 2)
    }


def _sorted_words(texts: Sequence[str]) -> list[str]:
    """Return the words of each text in the order of the alphabet, without slips of spelling.

    A word counts as the most frequent one that differs from it in a letter more, a letter less,
    another letter or two letters swapped (found by the words less a letter, as in SymSpell), if it
    is in at most `RARE` texts or that one is in `SLIP` times as many. Only texts that agree in all
    other words are alike by this.
    """
    words = [text.split() for text in texts]
    frequency = Counter(word for one in words for word in set(one))
    alike = defaultdict(list)
    for word in frequency:
        if len(word) >= SPELT_LETTERS and word.isalpha():
            for key in {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}:
                alike[key].append(word)
    meant = {word: word for word in frequency}
    for others in alike.values():
        if len(others) > 1:
            best = min(others, key=lambda word: (-frequency[word], word))
            for word in others:
                old, most = meant[word], frequency[best]
                is_slip = frequency[word] <= max(RARE, most / SLIP)
                if is_slip and (-most, best) < (-frequency[old], old):
                    meant[word] = best
    return [" ".join(sorted(meant[word] for word in one)) for one in words]


def _similar(texts: Sequence[str]) -> dict[tuple[int, int], float]:
    """Link the texts that overlap, as a whole and in what is specific to them."""
    if not texts:
        return {}
    shingles = _shingle_matrix(texts)
    sizes = np.diff(shingles.indptr)
    frequency = np.bincount(shingles.indices, minlength=shingles.shape[1])
    weights = 1 - np.log(frequency) / math.log(_too_frequent(len(texts)))
    rare = weights > 0
    # Of two rows of this, the product is the weight of what they share.
    specific = (shingles[:, rare] @ diags_array(np.sqrt(weights[rare]))).tocsr()
    across = specific.T.tocsr()
    totals = specific.power(2).sum(axis=1)
    links = {}
    for start in range(0, len(texts), ROWS):
        shared = (specific[start : start + ROWS] @ across).tocoo()
        one, two = shared.row + start, shared.col
        overlap = shared.data / (totals[one] + totals[two] - shared.data + DOUBT)
        close = (overlap >= SPECIFIC_OVERLAP) & (one < two)
        one, two = one[close], two[close]
        shared = shingles[one].multiply(shingles[two]).sum(axis=1)
        whole = shared / (sizes[one] + sizes[two] - shared)
        for at in np.flatnonzero(whole >= OVERLAP):
            links[int(one[at]), int(two[at])] = float(whole[at])
    return links


def _shingle_matrix(texts: Sequence[str]) -> csr_array:
    """Return which text has which shingle, (n_texts, n_shingles) of ones and zeros."""
    sets = [shingles(text) for text in texts]
    ends = np.cumsum([0, *(len(one) for one in sets)])
    every = np.fromiter((shingle for one in sets for shingle in one), np.uint32, ends[-1])
    names, columns = np.unique(every, return_inverse=True)
    ones = np.ones(len(columns), np.float32)
    return csr_array((ones, columns, ends), shape=(len(sets), len(names)))


def shingles(text: str) -> frozenset[int]:
    """Return 32-bit hashes of the words and of the character 4-grams of a text."""
    padded = f" {text} "
    grams = (padded[i : i + CHARACTERS] for i in range(len(padded) - CHARACTERS + 1))
    return frozenset(
        [zlib.crc32(gram.encode()) for gram in grams]
        + [zlib.crc32(f"word {word}".encode()) for word in text.split()]
    )


def _join(links: dict[tuple[int, int], float], largest: float) -> dict[int, int]:
    """Join linked texts into groups, the closest first, none beyond `largest` texts.

    Returns:
        For each linked text the group that it is in.
    """
    group_of = {text: text for pair in links for text in pair}
    members = {text: [text] for text in group_of}
    for one, two in sorted(links, key=lambda pair: (-links[pair], pair)):
        into, other = group_of[one], group_of[two]
        if into != other and len(members[into]) + len(members[other]) <= largest:
            if len(members[into]) < len(members[other]):
                into, other = other, into
            for text in members[other]:
                group_of[text] = into
            members[into] += members.pop(other)
    return group_of
