"""What a step does to a text before it is learnt from, so that a model does not lean on one word.

Every step draws anew: over the epochs a text is met in several forms, all with the one tag.
"""

import re
from dataclasses import replace

import numpy as np

from tagger.config.schema import TrainingConfig
from tagger.data.items import Item

SHORTEST = 4
"""Letters of a word that may be misspelt: in a shorter one, a slip makes another word."""

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

_WORD = re.compile(rf"[^\W\d_]{{{SHORTEST},}}")


def disturb(item: Item, config: TrainingConfig, random: np.random.Generator) -> Item:
    """Leave out a field, or misspell words, with the probabilities that the config gives."""
    both = item.title and item.description
    if config.field_dropout and both and random.random() < config.field_dropout:
        first = int(random.integers(2)) == 0
        item = replace(item, title="") if first else replace(item, description="")
    if config.typos:
        item = replace(
            item,
            title=misspell(item.title, config.typos, random),
            description=misspell(item.description, config.typos, random),
        )
    return item


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
        return before + _beside(letter, random) + after

    return _WORD.sub(slip, text)


def _beside(letter: str, random: np.random.Generator) -> str:
    """Return a neighbour on the keyboard; a letter that is not on it is left out."""
    row = next((row for row in KEYS if letter.lower() in row), None)
    if row is None:
        return ""
    place = row.index(letter.lower())
    near = row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
    chosen = near[int(random.integers(len(near)))]
    return chosen.upper() if letter.isupper() else chosen
