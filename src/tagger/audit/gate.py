"""Holds an audit to conditions, so that a build can fail by it (`--fail-on`)."""

import re
from collections.abc import Callable, Sequence

from tagger.audit.report import AuditReport
from tagger.data.problems import Problems, did_you_mean


def parse_conditions(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Read conditions such as `conflicts` (none allowed) or `label-errors>0.05`.

    Returns:
        For each a measure of `MEASURES` and the largest value that it may have.

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
            conditions.append((match[1], float(match[2] or 0)))
    problems.raise_if_any("--fail-on cannot be read:", "In a shell, quote conditions with a >.")
    return conditions


def failed_conditions(audit: AuditReport, conditions: Sequence[tuple[str, float]]) -> list[str]:
    """Describe each condition that does not hold, with what was found, in a sentence.

    What could not be measured counts as a failure: a gate must not pass by accident.
    """
    failures = []
    for name, limit in conditions:
        value = MEASURES[name](audit)
        if value is None:
            failures.append(f"{name} could not be measured in this file")
        elif value > limit:
            failures.append(f"{name} is {value:.6g}, allowed is {limit:g}")
    return failures


def _open_label_errors(audit: AuditReport) -> float | None:
    """Return the share of tagged rows that are suspected and that nobody has decided on."""
    if audit.labels is None:
        return None
    suspects = [row for row in audit.labels.rows if row.suspected and row.settled is None]
    return len(suspects) / sum(audit.tags.rows.values())


def _open_groups(audit: AuditReport, mark: str) -> int:
    # Rows with the same text are near-duplicates too, and count once.
    return sum(
        getattr(group, mark) and not group.settled
        for group in audit.repeats.groups
        if group.kind in ("near", "meaning")
    )


MEASURES: dict[str, Callable[[AuditReport], float | None]] = {
    "schema": lambda audit: audit.problems.count,
    "repeats": lambda audit: audit.repeats.kinds["near"].repeated_rows,
    "conflicts": lambda audit: _open_groups(audit, "conflict"),
    "leakage": lambda audit: _open_groups(audit, "across"),
    "label-errors": _open_label_errors,
    "absent-tags": lambda audit: len(audit.tags.absent),
    "thin-slices": lambda audit: sum(
        value.thin for values in audit.coverage.values() for value in values.values()
    ),
    "drift": lambda audit: None if audit.drift is None else audit.drift.auc,
}
