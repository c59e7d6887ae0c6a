"""Changed copies of texts, for a student to hear the teacher's opinion of more than is at hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tagger.data.items import Item

DROPPED = 0.2
"""Share of words that a copy lacks."""

LONGEST_SPAN = 0.5
"""Share of a text's words that a swapped span has at most."""


def drop_words(item: Item, other: Item, random: np.random.Generator) -> Item:
    """Leave out a fifth of the words of each field, but not all of them."""

    def thin(text: str) -> str:
        words = text.split()
        kept = [word for word in words if random.random() >= DROPPED]
        return " ".join(kept or words[:1])

    return replace(item, title=thin(item.title), description=thin(item.description))


def swap_span(item: Item, other: Item, random: np.random.Generator) -> Item:
    """Put a span of another description in the place of one as long."""
    words, theirs = item.description.split(), other.description.split()
    most = int(min(len(words), len(theirs)) * LONGEST_SPAN)
    if most < 1:
        return drop_words(item, other, random)
    length = int(random.integers(1, most + 1))
    to = int(random.integers(len(words) - length + 1))
    start = int(random.integers(len(theirs) - length + 1))
    words[to : to + length] = theirs[start : start + length]
    return replace(item, description=" ".join(words))


def cross_fields(item: Item, other: Item, random: np.random.Generator) -> Item:
    """Put another item's description under the title."""
    if not (item.title and other.description):
        return drop_words(item, other, random)
    return replace(item, description=other.description)


CHANGES: dict[str, Callable[[Item, Item, np.random.Generator], Item]] = {
    "drop": drop_words,
    "swap": swap_span,
    "cross": cross_fields,
}


def changed_copies(
    items: Sequence[Item], copies: int, changes: Sequence[str], seed: int
) -> list[Item]:
    """Return so many changed copies of each item, without tags.

    Args:
        items: At least one, where copies are wanted.
        copies: Of each item.
        changes: Names of `CHANGES`; each copy is changed in one of these ways.
        seed: Decides which way, and with which other item's words.
    """
    random = np.random.default_rng(seed)
    changed = []
    for item in [item for item in items for _ in range(copies)]:
        change = CHANGES[changes[int(random.integers(len(changes)))]]
        other = items[int(random.integers(len(items)))]
        changed.append(replace(change(item, other, random), tag=None))
    return changed
