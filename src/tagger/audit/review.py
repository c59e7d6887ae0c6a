"""Exports suspected rows for a reviewer, and imports the reviewer's decisions into the data.

`export_review` writes a table with one row for each suspected item and three empty columns:
`decision` (keep, relabel or drop), `new_tag` and `why`. Who fills it in needs a spreadsheet and no
Python. `import_review` checks the whole table before it touches anything, then changes the data
file and writes down each decision beside it (`tagger.audit.review_log`).
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tagger.audit.report import AuditReport
from tagger.audit.review_log import (
    ACTIONS,
    DROP,
    KEEP,
    RELABEL,
    ReviewDecision,
    append_decisions,
    read_decisions,
    read_values,
)
from tagger.audit.table import Table, read_table
from tagger.data.columns import UNSAID, TableFormat
from tagger.data.problems import Problems, did_you_mean
from tagger.data.sources import data_sha256
from tagger.data.tags import list_tags
from tagger.errors import UserError
from tagger.files import csv_text, replacing, write_text

REVIEW_COLUMNS = (
    "id", "content_hash", "title", "description", "tag", "finding", "suggested", "evidence",
    "decision", "new_tag", "why",
)  # fmt: skip
NEEDED = ("id", "content_hash", "tag", "decision", "new_tag", "why")


def export_review(audit: AuditReport, path: Path) -> int:
    """Write the suspected rows that nobody has decided on, and return how many they are.

    Args:
        audit: What `audit_file` returned, with the data file still as it was then.
        path: A CSV file; one that is there already is not overwritten.

    Raises:
        UserError: when the file exists: it may hold somebody's work.
    """
    if path.exists():
        raise UserError(
            f"{path} exists already, and may hold decisions",
            hint="Import it (--import), or choose another name.",
        )
    data = Path(audit.data.path)
    table = read_table(data, list(audit.tags.rows), TableFormat(audit.data.fields))
    if table.version != audit.data.version:
        raise UserError(f"{data} has changed since it was audited", hint="Audit it again.")
    findings: dict[int, tuple[str, str, str]] = {}  # finding, suggested tag, evidence
    for one in audit.labels.rows if audit.labels else ():
        if one.settled is None:
            evidence = "; ".join(
                f"{name}: {tag} {probability:.2f}"
                for name, (tag, probability) in one.predictions.items()
            )
            finding = "label" if one.suspected else "not learned"
            findings[one.row] = (finding, one.suggested, evidence)
    for group in audit.repeats.groups:
        if not (group.conflict or group.across) or group.settled:
            continue
        evidence = f"{group.kind}: " + ", ".join(f"{row.id} ({row.tag})" for row in group.rows)
        for row in group.rows:
            if row.file == str(data):
                finding = "conflict" if group.conflict else "leak"
                findings.setdefault(row.row, (finding, "", evidence))
    rows = [
        (
            item.id, item.content_hash, item.title, item.description, item.tag or "",
            *found, "", "", "",
        )
        for item, found in ((table.items[row], found) for row, found in findings.items())
    ]  # fmt: skip
    write_text(path, csv_text([REVIEW_COLUMNS, *rows]))
    return len(rows)


def import_review(
    data: Path, review: Path, *, tags: Sequence[str] | None, by: str, how: TableFormat = UNSAID
) -> list[ReviewDecision]:
    """Carry out the decisions of a reviewed table, and return them.

    Rows whose `decision` is empty are left for later. Importing the same table again changes
    nothing, so an import that was killed is simply repeated.

    Args:
        data: The file that was audited. Other columns and the order of its rows stay as they are.
        review: What `export_review` wrote, with decisions filled in.
        tags: The approved tags; None: those that the data has.
        how: How to read the data.
        by: Who decided.

    Raises:
        UserError: listing everything that is wrong with the table; then nothing was changed.
    """
    if not by.strip():
        raise UserError("a decision needs a name: give --by NAME")
    table = read_table(data, tags, how)
    if missing := [field for field in ("id", "tag") if field not in table.fields]:
        raise UserError(
            f"{data} has no column for {' and '.join(missing)}: decisions could not be put into it",
            hint="Add it, audit the file again, and decide on the rows of that audit.",
        )
    table.problems.raise_if_any(f"{data} must be in order before decisions can be put into it:")
    wanted = _read_review(review, table, read_decisions(data))
    changes = {
        one.id: None if one.action == DROP else one.tag_after
        for one in wanted
        if one.action != KEEP
    }
    kept = [item for item in table.items if changes.get(item.id, "") is not None]
    if not kept:
        raise UserError(f"{review} drops every row of {data}: nothing was changed")
    version = data_sha256([replace(item, tag=changes.get(item.id, item.tag)) for item in kept])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    decisions = [replace(one, by=by.strip(), on=now, data_after=version) for one in wanted]
    # The log first: after a kill in between, the same import finds the data still to be changed.
    logged = {(one.id, one.content_hash, one.data_before) for one in read_decisions(data)}
    fresh = [one for one in decisions if (one.id, one.content_hash, one.data_before) not in logged]
    if fresh:
        append_decisions(data, fresh)
    if changes:
        _rewrite(table, changes)
    return decisions


def _read_review(
    path: Path, table: Table, decisions: Sequence[ReviewDecision]
) -> list[ReviewDecision]:
    """Read the decisions that are still to be carried out, without who, when and to what end."""
    problems = Problems()
    current = {item.id: item for item in table.items}
    done = {(one.id, one.content_hash, one.action, one.tag_after) for one in decisions}
    wanted: dict[str, ReviewDecision] = {}
    for place, written in read_values(path, NEEDED, problems):
        value = {name: one.strip() for name, one in written.items()}
        action, new_tag = value["decision"].lower(), value["new_tag"]
        if not action:
            continue
        before = problems.count
        if action not in ACTIONS:
            expected = ", ".join(ACTIONS)
            problems.add(f"decision is {action!r}, expected {expected} or nothing", place)
        elif action == RELABEL and new_tag not in table.tags:
            near = did_you_mean(new_tag, table.tags)
            expected = list_tags(table.tags)
            problems.add(f"new_tag is {new_tag!r}{near}, expected one of {expected}", place)
        elif action != RELABEL and new_tag:
            problems.add(f"new_tag is {new_tag!r}, but only relabel takes one", place)
        if not value["why"]:
            problems.add("why is empty, expected the reason in words", place)
        if value["id"] in wanted:
            problems.add(f"a second decision about {value['id']!r}", place)
        if problems.count > before:
            continue
        after = {KEEP: value["tag"], RELABEL: new_tag, DROP: ""}[action]
        item = current.get(value["id"])
        has_it = item is None if action == DROP else item is not None and item.tag == after
        if has_it and (value["id"], value["content_hash"], action, after) in done:
            continue
        if item is None:
            problems.add(f"{table.path} has no row with the id {value['id']!r}", place)
        elif item.content_hash != value["content_hash"] or (item.tag or "") != value["tag"]:
            told = f"{value['id']!r} has changed since it was exported; export again"
            problems.add(told, place)
        else:
            wanted[value["id"]] = ReviewDecision(
                value["id"], value["content_hash"], action, value["tag"], after,
                by="", on="", why=value["why"], data_before=table.version, data_after="",
            )  # fmt: skip
    problems.raise_if_any(f"{path} cannot be imported; nothing was changed:")
    return list(wanted.values())


def _rewrite(table: Table, changes: Mapping[str, str | None]) -> None:
    """Give rows of a data file another tag by their id, or leave them out (None)."""
    rewrite = {".csv": _rewrite_csv, ".parquet": _rewrite_parquet, ".jsonl": _rewrite_jsonl}.get(
        table.path.suffix.lower()
    )
    try:
        if rewrite is None:
            raise ValueError(f"it ends in {table.path.suffix!r}")
        rewrite(table.path, table.fields["id"], table.fields["tag"], changes)
    except ValueError as error:
        raise UserError(
            f"{table.path} can't be written anew: {error}",
            hint="Decisions are put into plain CSV with commas and its header first, into JSON "
            "Lines, and into Parquet: save it as one of these, under its name and that ending.",
        ) from None


def _rewrite_csv(
    data: Path, id_column: str, tag_column: str, changes: Mapping[str, str | None]
) -> None:
    with data.open(encoding="utf-8-sig", newline="") as file:
        header, *records = (record for record in csv.reader(file, strict=True) if record)
    at_id, at_tag = header.index(id_column), header.index(tag_column)
    rows = [header]
    for record in records:
        tag = changes.get(record[at_id].strip(), record[at_tag])
        if tag is not None:
            rows.append([*record[:at_tag], tag, *record[at_tag + 1 :]])
    write_text(data, csv_text(rows))


def _rewrite_jsonl(
    data: Path, id_column: str, tag_column: str, changes: Mapping[str, str | None]
) -> None:
    lines = []
    for line in data.read_text(encoding="utf-8-sig").split("\n"):
        row = json.loads(line) if line.strip() else {}
        identifier = str(row.get(id_column, "")).strip()
        if identifier not in changes:
            lines.append(line)
        elif (tag := changes[identifier]) is not None:
            lines.append(json.dumps(row | {tag_column: tag}, ensure_ascii=False))
    write_text(data, "\n".join(lines))


def _rewrite_parquet(
    data: Path, id_column: str, tag_column: str, changes: Mapping[str, str | None]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pq.read_table(data)
    ids = [str(one).strip() for one in content.column(id_column).to_pylist()]
    tags = [
        changes.get(one, tag)
        for one, tag in zip(ids, content.column(tag_column).to_pylist(), strict=True)
    ]
    at = content.schema.get_field_index(tag_column)
    content = content.set_column(at, tag_column, pa.array(tags, pa.string()))
    content = content.filter(pa.array([changes.get(one, "") is not None for one in ids]))
    with replacing(data) as temporary:
        pq.write_table(content, temporary)
