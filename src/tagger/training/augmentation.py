"""Text augmentation: typing errors, token dropout, and changed copies for distillation.

Typing errors and token dropout are drawn anew at every step: over the epochs a text is met in
several forms, all with the one tag. Changed copies are made once, and a teacher predicts them.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tagger.data.items import Item

SHORTEST = 4
"""Letters of a word that may be misspelt: in a shorter one, a slip makes another word."""

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

DROPPED = 0.2
"""Share of words that a copy lacks."""

LONGEST_SPAN = 0.5
"""Share of a text's words that a swapped span has at most."""

_WORD = re.compile(rf"[^\W\d_]{{{SHORTEST},}}")


def misspell_item(item: Item, share: float, random: np.random.Generator) -> Item:
    """Return the item with typing errors in a share of the words of both fields."""
    return replace(
        item,
        title=misspell(item.title, share, random),
        description=misspell(item.description, share, random),
    )


def misspell(text: str, share: float, random: np.random.Generator) -> str:
    """Make one slip of the keyboard in a share of the words of at least four letters.

    A slip swaps two letters, leaves one out, doubles one, or hits the key beside it. The first
    letter stays, as it mostly does when people type.
    """

    def slip(match: re.Match[str]) -> str:
        word = match[0]
        if random.random() >= share:
            return word
        at = int(random.integers(1, len(word)))
        before, letter, after = word[:at], word[at], word[at + 1 :]
        kind = int(random.integers(4))
        if kind == 0 and after:
            return before + after[0] + letter + after[1:]
        if kind == 1:
            return before + after
        if kind == 2:
            return before + letter + letter + after
        return before + _adjacent_key(letter, random) + after

    return _WORD.sub(slip, text)


def _adjacent_key(letter: str, random: np.random.Generator) -> str:
    """Return the letter of a key beside; a letter that is not on the keyboard is left out."""
    row = next((row for row in KEYS if letter.lower() in row), None)
    if row is None:
        return ""
    place = row.index(letter.lower())
    near = row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
    chosen = near[int(random.integers(len(near)))]
    return chosen.upper() if letter.isupper() else chosen


def drop_tokens(row: list[int], share: float, random: np.random.Generator) -> list[int]:
    """Leave out a random share of a text's tokens, but not its first and last, which are special.

    A regulariser (word dropout, Iyyer et al. 2015) that makes a step cheaper instead of dearer.
    """
    inner = row[1:-1]
    kept = random.random(len(inner)) >= share
    return [row[0], *(token for token, keep in zip(inner, kept, strict=True) if keep), row[-1]]


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
