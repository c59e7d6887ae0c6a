"""Conditions under which an audit fails, so that a build can depend on it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tagger.data.problems import Problems, did_you_mean

Audit = Mapping[str, Any]


@dataclass(frozen=True)
class Condition:
    """A measure of `MEASURES` and the largest value that it may have."""

    name: str
    limit: float


def parse_conditions(texts: Sequence[str]) -> list[Condition]:
    """Read conditions such as `conflicts` (none allowed) or `label-errors>0.05`.

    Raises:
        UserError: listing all that are not valid.
    """
    problems = Problems()
    conditions = []
    for text in (part.strip() for one in texts for part in one.split(",")):
        match = re.fullmatch(r"([a-z-]+)\s*(?:>\s*(\d+(?:\.\d+)?))?", text)
        if match is None:
            problems.add(f"{text!r}: expected NAME or NAME>NUMBER, such as 'label-errors>0.05'")
        elif match[1] not in MEASURES:
            near = did_you_mean(match[1], MEASURES)
            problems.add(f"{match[1]!r} is no measure{near}; there are {', '.join(MEASURES)}")
        else:
            conditions.append(Condition(match[1], float(match[2] or 0)))
    problems.raise_if_any("--fail-on cannot be read:", "In a shell, quote conditions with a >.")
    return conditions


def failed_conditions(audit: Audit, conditions: Sequence[Condition]) -> list[str]:
    """Say in a sentence for each condition that is not met what was found.

    What could not be measured counts as a failure: a gate must not pass by accident.
    """
    failures = []
    for one in conditions:
        value = MEASURES[one.name](audit)
        if value is None:
            failures.append(f"{one.name} could not be measured in this file")
        elif value > one.limit:
            failures.append(f"{one.name} is {value:.6g}, allowed is {one.limit:g}")
    return failures


def open_label_errors(audit: Audit) -> float | None:
    """Return the share of tagged rows that are suspected and that nobody has decided on."""
    labels = audit["labels"]
    if labels is None:
        return None
    tagged = sum(audit["tags"]["rows"].values())
    suspects = [row for row in labels["rows"] if row["suspected"] and row["settled"] is None]
    return len(suspects) / float(tagged)


def _open_groups(mark: str) -> Callable[[Audit], float]:
    def count(audit: Audit) -> float:
        groups = audit["repeats"]["groups"]
        # Rows with the same text are near-duplicates too, and count once.
        kinds = ("near", "meaning")
        return float(sum(g[mark] and not g["settled"] for g in groups if g["kind"] in kinds))

    return count


def _thin_slices(audit: Audit) -> float:
    facets = audit["coverage"].values()
    return float(sum(value["thin"] for values in facets for value in values.values()))


MEASURES: dict[str, Callable[[Audit], float | None]] = {
    "schema": lambda audit: audit["schema"]["problems"],
    "repeats": lambda audit: audit["repeats"]["kinds"]["near"]["repeated_rows"],
    "conflicts": _open_groups("conflict"),
    "leakage": _open_groups("across"),
    "label-errors": open_label_errors,
    "absent-tags": lambda audit: len(audit["tags"]["absent"]),
    "thin-slices": _thin_slices,
    "drift": lambda audit: None if audit["drift"] is None else audit["drift"]["auc"],
}
