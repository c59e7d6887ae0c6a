"""Finds what says the same as an item among those that the store keeps."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from tagger.data.duplicates import shingles
from tagger.service.database import execute_text
from tagger.service.events import DUPLICATE, state_of
from tagger.service.fingerprints import BANDS, comparable, fingerprints, numbered, overlap
from tagger.service.meaning import MeaningIndex, Vector
from tagger.service.settings import DuplicatesConfig
from tagger.service.tables import EVENT

MOST_SHARING = 50
"""Most items that are looked at of those which share a fingerprint, the oldest: a template that
thousands share takes no longer."""
MOST_COMPARED = 20
"""Most items that are compared as texts: those that share most fingerprints, then the oldest."""

MOST_NEAR = 10
"""Most items that are looked at of those which mean nearly the same."""

SHARING = " UNION ALL ".join(
    "SELECT item FROM (SELECT item FROM fingerprint "
    f"WHERE value = :value{at} AND item > :after ORDER BY item LIMIT {MOST_SHARING}) AS of{at}"
    for at in range(BANDS + 1)
)
KEPT = select(EVENT.c.sequence, EVENT.c.data).where(
    EVENT.c.sequence.in_(bindparam("items", expanding=True))
)


@dataclass(frozen=True)
class Match:
    """The item that is most like another.

    Attributes:
        item: Its number. It is one that is kept, so that of a group of duplicates one always is.
        overlap: Of their texts, 0 to 1; or the cosine of their vectors.
        doubt: Whether a person decides however close it is: numbers in the texts differ, as those
            of versions and parts do, or they are alike by meaning only.
    """

    item: int
    overlap: float
    doubt: bool = False

    def is_certain(self, certain: float) -> bool:
        """Whether the items are the same from this overlap on."""
        return self.overlap >= certain and not self.doubt


def find_match(
    connection: Connection, title: str, description: str, after: int = 0
) -> Match | None:
    """Return the kept item that is most like this, the oldest of several; None where none is.

    Args:
        connection: To the store.
        title: Of the item.
        description: Of the item.
        after: Only items with higher numbers are looked at.
    """
    ours = comparable(title, description)
    values = numbered(fingerprints(ours))
    shared = Counter(execute_text(connection, SHARING, values | {"after": after}).scalars())
    likely = sorted(shared, key=lambda item: (-shared[item], item))[:MOST_COMPARED]
    if not likely:
        return None
    matches = []
    for item, stored in connection.execute(KEPT, {"items": likely}):
        data = json.loads(stored)
        theirs = comparable(data["title"], data["description"])
        alike = 1.0 if theirs == ours else overlap(shingles(ours), shingles(theirs))
        one, two = _numbers(ours), _numbers(theirs)
        matches.append(Match(item, alike, doubt=not (one <= two or two <= one)))
    return closest(matches)


def find_meant(
    connection: Connection, meaning: MeaningIndex, vector: Vector, limits: DuplicatesConfig
) -> Match | None:
    """Return the kept item whose vector is nearest, if a person is to compare the two."""
    for item, cosine in meaning.nearest(vector, MOST_NEAR):
        if cosine >= limits.meaning and state_of(connection, item)[0] != DUPLICATE:
            return Match(item, max(cosine, limits.likely), doubt=True)
    return None


def _numbers(text: str) -> set[str]:
    return {word for word in text.split() if any(sign.isdigit() for sign in word)}


def closest(matches: Iterable[Match | None]) -> Match | None:
    """Return the closest of some matches, of several the oldest; None where there is none."""
    found = [match for match in matches if match is not None]
    return max(found, key=lambda match: (match.overlap, -match.item), default=None)
