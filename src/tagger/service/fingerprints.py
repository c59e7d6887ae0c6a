"""Gives texts fingerprints: texts that say nearly the same share at least one of them.

One is of the whole text after case, spacing and punctuation are taken away. The others are the
bands of its MinHash signature: two texts whose shingles overlap by 0.7 share a band in 97 of 100
cases, by 0.9 always, by 0.3 in 5.
"""

import hashlib
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from tagger.data.duplicates import normalise, shingles

BANDS = 20
ROWS = 5
COMPARED = 8_000
"""Characters; more say little of what two texts share, and two megabytes take five seconds."""


def comparable(title: str, description: str) -> str:
    """Return the text that items are compared by, of no more than `COMPARED` characters."""
    return normalise(f"{title} {description}"[:COMPARED])


@lru_cache(maxsize=256)  # they are asked for before, while and after an item is kept
def fingerprints(text: str) -> tuple[int, ...]:
    """Return the fingerprints of a comparable text, `BANDS` + 1 signed numbers of 64 bits."""
    values = np.array([*shingles(text)], np.uint64)
    # Multiply-shift hashing: the upper half of the product is as good as random.
    factors, addends = _hash_functions()
    signature = ((factors * values + addends) >> np.uint64(32)).min(axis=1).astype("<u4")
    bands = signature.reshape(BANDS, ROWS)
    return (
        _hash(b"text" + text.encode()),
        *(_hash(b"band %d " % number + band.tobytes()) for number, band in enumerate(bands)),
    )


@cache
def _hash_functions() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return odd factors and addends, each (`BANDS` * `ROWS`, 1): fingerprints are kept by them."""
    numbers = np.random.default_rng(20)
    shape = (BANDS * ROWS, 1)
    factors = numbers.integers(1, 2**63, shape, np.uint64) * np.uint64(2) + np.uint64(1)
    return factors, numbers.integers(0, 2**63, shape, np.uint64)


def numbered(values: tuple[int, ...]) -> dict[str, int]:
    """Return fingerprints by the names that statements give them: value0, value1, ..."""
    return {f"value{at}": value for at, value in enumerate(values)}


def overlap(ours: frozenset[int], theirs: frozenset[int]) -> float:
    """Return the Jaccard similarity of the shingles of two comparable texts, 0 to 1."""
    shared = len(ours & theirs)
    return shared / (len(ours) + len(theirs) - shared)


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)
