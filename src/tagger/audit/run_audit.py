"""Audits a file: schema, sample, repeats, label errors, coverage and drift."""

from collections.abc import Container, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tagger.audit.composition import describe_coverage, describe_sample, describe_tags
from tagger.audit.drift import describe_drift
from tagger.audit.labels import describe_labels
from tagger.audit.repeats import KINDS, Repeat, find_repeats
from tagger.audit.report import (
    AuditReport,
    DataFile,
    InvalidRows,
    RepeatCounts,
    RepeatedRow,
    RepeatGroup,
    Repeats,
)
from tagger.audit.review_log import read_decisions, settled_rows
from tagger.audit.table import Table, read_table
from tagger.data.columns import UNSAID, TableFormat
from tagger.data.duplicates import group_near_duplicates
from tagger.data.problems import did_you_mean
from tagger.environment import describe_environment
from tagger.errors import UserError
from tagger.files import sha256_of
from tagger.models.embedding import embed_items
from tagger.oof.label_check import check_labels, count_divisions
from tagger.oof.votes import FOLDS
from tagger.progress import progress_bar


def audit_file(
    path: Path,
    *,
    tags: Sequence[str] | None,
    how: TableFormat = UNSAID,
    against: Sequence[Path] = (),
    split_column: str | None = None,
    model: str | None = "minilm",
    device: str = "cpu",
) -> AuditReport:
    """Examine a labelled or unlabelled file.

    Args:
        path: Of any format that can be read.
        tags: The approved tags; None: those that its rows have.
        how: How to read it, and the further files.
        against: Further files, with the same tags or none, that must not share rows with it: a
            test set, say. Only repeats across files are looked for in them.
        split_column: A column of the file that says which part a row belongs to (train, test);
            rows of different parts must not repeat each other.
        model: Name of the model config whose encoder compares meanings; None to do without.
        device: What it computes on.

    Raises:
        UserError: for files that cannot be read, or a split column that is not there.
    """
    tables = [read_table(one, tags, how) for one in (path, *against)]
    table = tables[0]
    parts = _parts(tables, split_column)
    items = [item for one in tables for item in one.items]
    own = len(table.items)

    vectors = None if model is None else embed_items(items, model, table.tags, device)
    groups = group_near_duplicates(table.items)
    repeats = [
        one
        for one in find_repeats(items, parts, vectors)
        if one.rows[0] < own  # what other files repeat among themselves is not this one's concern
    ]
    check = None
    if tagged := sum(item.tag is not None for item in table.items):
        with progress_bar(FOLDS * count_divisions(tagged), "checking labels", "fold") as bar:
            check = check_labels(
                table.items,
                table.tags,
                groups=groups,
                vectors=None if vectors is None else vectors[:own],
                after_fold=bar.update,
            )
    decisions = settled_rows(table, read_decisions(path))
    credited = None
    if check is not None:
        agreed = dict(zip(check.rows, check.agreed, strict=True))
        credited = [agreed.get(row, False) for row in range(own)]
    return AuditReport(
        data=DataFile(
            path=str(path),
            file_sha256=sha256_of(path),
            version=table.version,
            rows=own,
            columns=list(table.columns),
            fields=table.fields,
            notes=table.notes,
            against=[str(one) for one in against],
            split_column=split_column,
        ),
        problems=InvalidRows(count=table.problems.count, first=table.problems.first),
        tags=describe_tags(table.items, table.tags),
        sample=describe_sample(table.items),
        repeats=_describe_repeats(repeats, tables, parts, decisions),
        labels=None if check is None else describe_labels(check, table, decisions),
        coverage=describe_coverage(table, credited),
        drift=describe_drift(table.items, groups),
        decisions=len(decisions),
        model=model,
        made_on=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=describe_environment(),
    )


def _parts(tables: Sequence[Table], split_column: str | None) -> list[str]:
    """Name the part that each row of each file belongs to."""
    first = tables[0]
    if split_column is None:
        parts = [""] * len(first.items)
    elif split_column in first.columns:
        parts = first.columns[split_column]
    else:
        raise UserError(
            f"{first.path} has no column {split_column!r}"
            + did_you_mean(split_column, first.columns),
            hint=f"It has, beside ours: {', '.join(first.columns) or 'none'}.",
        )
    return [*parts, *(str(one.path) for one in tables[1:] for _ in one.items)]


def _describe_repeats(
    repeats: Sequence[Repeat],
    tables: Sequence[Table],
    parts: Sequence[str],
    decided: Container[int],
) -> Repeats:
    """Count the groups and the rows beyond the first of each kind, and list the groups."""
    rows: list[RepeatedRow] = []
    for table in tables:
        for item, place in zip(table.items, table.places, strict=True):
            row = RepeatedRow(
                row=len(rows),
                id=item.id,
                file=str(table.path),
                place=place,
                part=parts[len(rows)],
                title=item.title,
                tag=item.tag,
            )
            rows.append(row)
    kinds = {}
    for kind in KINDS:
        members = [one for one in repeats if one.kind == kind]
        kinds[kind] = RepeatCounts(
            groups=len(members),
            repeated_rows=sum(len(one.rows) - 1 for one in members),
            conflicts=sum(one.conflict for one in members),
            across=sum(one.across for one in members),
        )
    groups = [
        RepeatGroup(
            kind=one.kind,
            conflict=one.conflict,
            across=one.across,
            settled=(one.conflict or one.across) and all(at in decided for at in one.rows),
            rows=[rows[at] for at in one.rows],
        )
        for one in repeats
    ]
    return Repeats(kinds=kinds, groups=groups)
