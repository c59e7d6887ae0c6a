"""Measures how far two people agree who labelled the same items."""

from collections import Counter
from collections.abc import Mapping


def cohen_kappa(pairs: Mapping[tuple[str, str], int]) -> float | None:
    """Return the share of agreement beyond that of chance (Cohen 1960).

    Args:
        pairs: How many items have this label of the first person and this one of the second.

    Returns:
        1 where they always agree, 0 where no more than by chance; None where it is undefined,
        without items or with one label alone.
    """
    total = sum(pairs.values())
    first, second, agreed = Counter[str](), Counter[str](), 0
    for (one, other), times in pairs.items():
        first[one] += times
        second[other] += times
        agreed += times * (one == other)
    chance = sum(first[one] * second[one] for one in first)
    return None if total**2 == chance else (total * agreed - chance) / (total**2 - chance)
