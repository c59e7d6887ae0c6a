"""Text augmentation: typing errors and token dropout.

Both are drawn anew at every step: over the epochs a text is met in several forms, all with the one
tag.
"""

import re
from dataclasses import replace

import numpy as np

from tagger.data.items import Item

SHORTEST = 4
"""Letters of a word that may be misspelt: in a shorter one, a slip makes another word."""

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

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
