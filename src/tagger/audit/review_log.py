"""Keeps the log of reviewers' decisions on suspected rows: who, when, why, what changed.

It lies beside the data as `<name>.decisions.csv`, is only ever appended to, and belongs under
version control with the data. A decision settles a row for as long as its text and its tag are
what was decided on; when either changes, the row is open again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from tagger.audit.table import Table
from tagger.data.problems import Problems, did_you_mean
from tagger.data.readers import read_rows
from tagger.files import csv_text, write_text

KEEP, RELABEL, DROP = "keep", "relabel", "drop"
ACTIONS = (KEEP, RELABEL, DROP)


@dataclass(frozen=True)
class ReviewDecision:
    """One decision about one row.

    Attributes:
        id: The row's id.
        content_hash: `Item.content_hash` of what was decided on.
        action: `keep`, `relabel` or `drop`.
        tag_before: Its tag until then.
        tag_after: Its tag from then on; "" for a dropped row.
        by: Who decided.
        on: When, ISO 8601 in UTC.
        why: The reason, in words.
        data_before: Version of the data that was reviewed (SHA-256).
        data_after: Version of the data with all decisions of the same import.
    """

    id: str
    content_hash: str
    action: str
    tag_before: str
    tag_after: str
    by: str
    on: str
    why: str
    data_before: str
    data_after: str


COLUMNS = tuple(field.name for field in fields(ReviewDecision))


def read_values(
    path: Path, columns: Sequence[str], problems: Problems
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield place and values of the rows of a table that needs all of some columns."""
    for row in read_rows(path, columns, problems):
        missing = [name for name in columns if name not in row.values]
        if missing:
            problems.add(f"no column {missing[0]!r}{did_you_mean(missing[0], row.columns)}")
            return
        yield row.place, {name: row.values[name] or "" for name in columns}


def decisions_path(data: Path) -> Path:
    """Return where the decisions about a data file are kept."""
    return data.with_name(f"{data.stem}.decisions.csv")


def read_decisions(data: Path) -> list[ReviewDecision]:
    """Read all decisions about a data file, oldest first; none if there is no log.

    Raises:
        UserError: when the log is not what `append_decisions` writes.
    """
    path = decisions_path(data)
    if not path.exists():
        return []
    problems = Problems()
    decisions = []
    for place, values in read_values(path, COLUMNS, problems):
        decisions.append(ReviewDecision(**values))
        if values["action"] not in ACTIONS:
            expected = ", ".join(ACTIONS)
            problems.add(f"{place}: action is {values['action']!r}, expected {expected}")
    problems.raise_if_any(
        f"{path} is no log of decisions:", "Take it back from version control, or move it away."
    )
    return decisions


def append_decisions(data: Path, decisions: Sequence[ReviewDecision]) -> None:
    """Add decisions to the log of a data file."""
    every = [*read_decisions(data), *decisions]
    write_text(decisions_path(data), csv_text([COLUMNS, *map(astuple, every)]))


def settled_rows(table: Table, decisions: Sequence[ReviewDecision]) -> dict[int, ReviewDecision]:
    """Return the decision that settles a row, by the row's index; the latest where several do."""
    by_content = {
        (one.id, one.content_hash, one.tag_after): one for one in decisions if one.action != DROP
    }
    contents = [(item.id, item.content_hash, item.tag or "") for item in table.items]
    return {row: by_content[one] for row, one in enumerate(contents) if one in by_content}
