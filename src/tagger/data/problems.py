"""Collects the problems of an input by kind, so that one message can tell all of them."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from tagger.errors import UserError

KINDS = 10
PLACES = 3


@dataclass
class _Kind:
    """Problems of one kind: the words for the first, the first places, and how many there are."""

    text: str
    places: list[str] = field(default_factory=list)
    count: int = 0
    uniform: bool = True  # whether the same words hold for all

    def __str__(self) -> str:
        if not self.places:
            return self.text if self.count == 1 else f"{self.text} ({self.count:,} times)"
        if self.uniform:
            return f"{_listed(self.places, self.count)}: {self.text}"
        others = _listed(self.places[1:], self.count - 1)
        return f"{self.places[0]}: {self.text}; likewise {others}"


class Problems:
    """Collects what is wrong with an input.

    Only the first `KINDS` kinds with their first `PLACES` places are kept, the rest is counted: a
    file of ten million bad rows must fill neither the memory nor the screen with complaints.

    Attributes:
        count: How many problems there are.
        skipped: How many blank rows a reader passed over, which is no problem but worth saying.
    """

    def __init__(self) -> None:
        self.count = 0
        self.skipped = 0
        self._kinds: dict[str, _Kind] = {}

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def first(self) -> list[str]:
        """One line for each of the first kinds."""
        return [str(kind) for kind in self._kinds.values()]

    def add(self, problem: str, place: str = "", kind: str = "") -> None:
        """Note one problem.

        Args:
            problem: What was found, what was expected.
            place: Where, such as "row 3 (line 4)". Left out where there is one place only.
            kind: What problems have in common that are told in one line, where their words differ:
                those of the first are shown. By default equal words make a kind.
        """
        self.count += 1
        key = kind or problem
        if key not in self._kinds and len(self._kinds) < KINDS:
            self._kinds[key] = _Kind(problem)
        if known := self._kinds.get(key):
            known.count += 1
            known.uniform &= problem == known.text
            if place and len(known.places) < PLACES:
                known.places.append(place)

    def raise_if_any(self, summary: str, hint: str = "") -> None:
        """Raise one `UserError` that lists the problems, if there are any."""
        if not self.count:
            return
        rest = self.count - sum(kind.count for kind in self._kinds.values())
        raise UserError(summary, [*self.first, *([f"... and {rest:,} more"] if rest else [])], hint)


def _listed(places: list[str], count: int) -> str:
    rest = [f"{count - len(places):,} more"] if count > len(places) else []
    return " and ".join([", ".join(places), *rest] if places else rest)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean X?)" for the name that is nearest, or nothing when none is near."""
    by_lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
