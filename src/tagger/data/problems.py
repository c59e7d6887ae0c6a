"""A list of problems that stays small however many there are."""

import difflib
from collections.abc import Iterable

from tagger.errors import UserError

SHOWN = 50


class Problems:
    """Collects what is wrong with an input, so that one message can list all of it.

    Only the first `SHOWN` are kept, the rest are counted: a file of ten million bad rows must not
    fill the memory with complaints.
    """

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, problem: str) -> None:
        """Note one problem: where it is, what was found, what was expected."""
        if self.count < SHOWN:
            self.first.append(problem)
        self.count += 1

    def extend(self, other: "Problems") -> None:
        """Note all problems of another list."""
        self.first += other.first[: max(0, SHOWN - self.count)]
        self.count += other.count

    def raise_if_any(self, summary: str, hint: str = "") -> None:
        """Raise one `UserError` that lists the problems, if there are any."""
        if not self.count:
            return
        rest = self.count - len(self.first)
        shown = [*self.first, f"... and {rest:,} more"] if rest else self.first
        raise UserError(summary, shown, hint)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean X?)" for the name that is nearest, or nothing when none is near."""
    by_lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
