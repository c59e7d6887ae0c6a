"""Finds near-duplicates of recent items in a stream, in constant memory.

Items that repeat are not exchangeable with those before: a text that is posted ten times would
count as ten items that agree. What is compared are b-bit MinHash signatures (Li & König, WWW 2010)
of the character 4-grams that `tagger.data.duplicates` goes by too.
"""

from functools import cache
from typing import Any

import numpy as np
from pydantic import Field

from tagger.data.duplicates import CHARACTERS, normalise
from tagger.monitoring.betting import Array, Kept

HASHES = 32
"""The share of those that agree estimates the overlap of two texts within 0.09."""

OVERLAP = 0.7
"""Estimated overlap from which an item repeats another."""

REMEMBERED = 2048
"""Distinct items that a new one is compared with, the latest."""


class Repeats(Kept):
    """The signatures of the latest distinct items.

    Attributes:
        signatures: (`HASHES`, `REMEMBERED`), a ring.
        distinct: Distinct items so far: where in the ring the next one goes.
    """

    signatures: Array = Field(default_factory=lambda: np.zeros((HASHES, REMEMBERED), np.uint8))
    distinct: int = 0

    def model_post_init(self, _: Any) -> None:
        """Make bytes of what was read as numbers."""
        self.signatures = self.signatures.astype(np.uint8)

    def repeats(self, text: str) -> bool:
        """Say whether an item repeats one of the latest; if not, remember it."""
        signature = sign(normalise(text))
        known = self.signatures[:, : self.distinct]
        agreeing = (known == signature[:, None]).sum(axis=0, dtype=np.uint8)
        if agreeing.max(initial=0) >= OVERLAP * HASHES:
            return True
        self.signatures[:, self.distinct % REMEMBERED] = signature
        self.distinct += 1
        return False


def sign(text: str) -> np.ndarray[Any, Any]:
    """Return 8 bits of `HASHES` MinHash values of a text, (HASHES,)."""
    letters = np.frombuffer(f" {text} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    count = max(0, len(letters) - CHARACTERS + 1)
    members = np.zeros(count, dtype=np.uint64)
    for at in range(CHARACTERS):
        members = members * np.uint64(0x9E3779B97F4A7C15) + letters[at : at + count]
    factors, shifts = _hash_functions()
    # What is least must not be told by the lowest bits alone, as it would be without the last step.
    mixed = members * factors + shifts
    mixed ^= mixed >> np.uint64(32)
    least: np.ndarray[Any, Any] = (mixed * factors).min(axis=1, initial=2**64 - 1)
    return (least >> np.uint64(40)).astype(np.uint8)


@cache
def _hash_functions() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return an odd factor and a shift of each hash function, (HASHES, 1) each."""
    draws = np.random.default_rng(0).integers(2**63, size=(2, HASHES, 1), dtype=np.uint64)
    return draws[0] | np.uint64(1), draws[1]
