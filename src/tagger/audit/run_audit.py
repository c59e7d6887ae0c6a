"""From a file to its audit: one dictionary that the table, the page and the gate are made from."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tagger.audit.composition import describe_coverage, describe_sample, describe_tags
from tagger.audit.decisions import Decision, read_decisions, settled_rows
from tagger.audit.drift import describe_drift
from tagger.audit.label_report import describe_labels
from tagger.audit.repeats import KINDS, Repeat, find_repeats
from tagger.audit.table import Table, read_table
from tagger.data.columns import UNSAID, TableFormat
from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.data.problems import did_you_mean
from tagger.environment import describe_environment
from tagger.errors import UserError
from tagger.files import sha256_of
from tagger.models.embedding import embed_items
from tagger.models.label_check import LabelCheck, check_labels, count_divisions
from tagger.models.votes import FOLDS
from tagger.progress import progress_bar


def audit_file(
    path: Path,
    *,
    tags: Sequence[str] | None,
    how: TableFormat = UNSAID,
    against: Sequence[Path] = (),
    split_column: str | None = None,
    model: str | None = "minilm",
) -> dict[str, Any]:
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

    Returns:
        What `audit.json` holds; docs/audit.md explains each key.

    Raises:
        UserError: for files that cannot be read, or a split column that is not there.
    """
    tables = [read_table(one, tags, how) for one in (path, *against)]
    table = tables[0]
    tag_names = table.tags
    parts = _parts(tables, split_column)
    items = [item for one in tables for item in one.items]
    own = len(table.items)

    vectors = None if model is None else embed_items(items, model, tag_names)
    groups = group_near_duplicates(table.items)
    repeats = [
        one
        for one in find_repeats(items, parts, vectors)
        if one.rows[0] < own  # what other files repeat among themselves is not this one's concern
    ]
    own_vectors = None if vectors is None else vectors[:own]
    check = _check_labels(table.items, tag_names, groups, own_vectors)
    decisions = settled_rows(table, read_decisions(path))
    credited: list[bool] | None = None
    labels: dict[str, Any] | None = None
    if check is not None:
        labels = describe_labels(check, table.items)
        for one in labels["rows"]:
            item = table.items[one["row"]]
            one |= {"id": item.id, "place": table.places[one["row"]], "tag": item.tag}
            one |= {"title": item.title, "description": item.description}
            one["settled"] = _settled(decisions.get(one["row"]))
        agreed = dict(zip(check.rows, check.agreed, strict=True))
        credited = [agreed.get(row, False) for row in range(own)]
    return {
        "data": {
            "path": str(path),
            "file_sha256": sha256_of(path),
            "version": table.version,
            "rows": own,
            "columns": list(table.columns),
            "fields": table.fields,
            "notes": table.notes,
            "against": [str(one) for one in against],
            "split_column": split_column,
        },
        "schema": {"problems": table.problems.count, "first": table.problems.first},
        "tags": describe_tags(table.items, tag_names),
        "sample": describe_sample(table.items),
        "repeats": _describe_repeats(repeats, items, tables, parts, decisions),
        "labels": labels,
        "coverage": describe_coverage(table, credited),
        "drift": describe_drift(table.items, groups),
        "decisions": len(decisions),
        "model": model,
        "made_on": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment().model_dump(),
    }


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
    for one in tables[1:]:
        parts = parts + [str(one.path)] * len(one.items)
    return parts


def _check_labels(
    items: Sequence[Item],
    tag_names: Sequence[str],
    groups: Sequence[int],
    vectors: npt.NDArray[np.floating] | None,
) -> LabelCheck | None:
    tagged = sum(item.tag is not None for item in items)
    if not tagged:
        return None
    total = FOLDS * count_divisions(tagged)
    with progress_bar(total, "checking labels", "fold") as bar:
        return check_labels(items, tag_names, groups=groups, vectors=vectors, after_fold=bar.update)


def _describe_repeats(
    repeats: Sequence[Repeat],
    items: Sequence[Item],
    tables: Sequence[Table],
    parts: Sequence[str],
    decisions: Mapping[int, Decision],
) -> dict[str, Any]:
    """Count the groups and the rows beyond the first of each kind, and list the groups."""
    places = [(str(one.path), place) for one in tables for place in one.places]
    groups = []
    for one in repeats:
        settled = all(row in decisions for row in one.rows)
        groups.append(
            {
                "kind": one.kind,
                "conflict": one.conflict,
                "across": one.across,
                "settled": settled and (one.conflict or one.across),
                "rows": [
                    {
                        "row": row,
                        "id": items[row].id,
                        "file": places[row][0],
                        "place": places[row][1],
                        "part": parts[row],
                        "title": items[row].title,
                        "tag": items[row].tag,
                    }
                    for row in one.rows
                ],
            }
        )
    return {
        "kinds": {
            kind: {
                "groups": sum(one.kind == kind for one in repeats),
                "repeated_rows": sum(len(one.rows) - 1 for one in repeats if one.kind == kind),
                "conflicts": sum(one.conflict for one in repeats if one.kind == kind),
                "across": sum(one.across for one in repeats if one.kind == kind),
            }
            for kind in KINDS
        },
        "groups": groups,
    }


def _settled(decision: Decision | None) -> dict[str, str] | None:
    if decision is None:
        return None
    return {"by": decision.by, "on": decision.on, "why": decision.why}
