"""Builds the page of an audit."""

from collections.abc import Sequence
from textwrap import shorten

from tagger.audit.report import AuditReport, ChangedWord, Drift, Labels, RepeatGroup, SuspectedLabel
from tagger.reporting.numbers import number, plural, share
from tagger.reporting.page import (
    Block,
    Cell,
    Column,
    Columns,
    Details,
    Heading,
    Listing,
    Number,
    Numbers,
    Page,
    Row,
    Table,
    Text,
    numeric,
)

SUMMARY_ROWS = 15
PAGE_ROWS = 200
GROUP_ROWS = 20
SURE = 0.01
"""P-value under which tags are said to differ in date or in length."""


def audit_page(audit: AuditReport) -> Page:
    """Build the page of an audit; its summary says what a reader should know first."""
    data, labels, problems = audit.data, audit.labels, audit.problems
    repeated = f"{audit.repeats.kinds['near'].repeated_rows:,}"
    numbers = [
        Number("Rows", f"{data.rows:,}", "that can be used"),
        Number("Schema", f"{problems.count:,}", "problems"),
        Number("Near-duplicates", repeated, "rows beyond the first"),
    ]
    if labels:
        suspected = f"{share(labels.share)} of the tagged rows"
        numbers.append(Number("Suspected label errors", f"{labels.suspected:,}", suspected))
        numbers.append(Number("Settled", f"{audit.decisions:,}", "rows, by a person"))
    against = f", against {', '.join(data.against)}" if data.against else ""
    made = f"Version {data.version[:12]}, examined on {audit.made_on}{against}."
    head = f"{data.path}: {data.rows:,} rows, version {data.version[:12]}"
    notes = [Text(f"note: {note}") for note in data.notes]
    tags, repeats = _tags(audit), _repeats(audit)
    drift, words = _drift(audit.drift), _differences(audit)
    blocks = [
        Text(made), *notes, Numbers(numbers), *_problems(audit, len(problems.first)), tags,
        *words, *_years(audit), repeats, *_groups(audit.repeats.groups), *_labels(labels),
        *_coverage(audit), *drift,
    ]  # fmt: skip
    fit = Text("Schema: every row can be used.")
    summary = [
        Text(head), *notes, *(_problems(audit, SUMMARY_ROWS) or [fit]), tags, Text(_dates(audit)),
        *words, repeats, *_label_summary(audit), Text(_thin(audit)),
        drift[-1],
    ]  # fmt: skip
    return Page(f"Audit of {data.path}", blocks, summary)


_NOT_CHECKED = "Labels: not checked; that takes two tags and ten different rows at least."


def _problems(audit: AuditReport, shown: int) -> list[Block]:
    count, first = audit.problems.count, audit.problems.first[:shown]
    if not count:
        return []
    more = [f"and {count - len(first):,} more"] if count > len(first) else []
    told = f"Schema: {plural(count, 'problem')}; the rows concerned are left out."
    return [Text(told, "warning"), Listing([*first, *more])]


def _tags(audit: AuditReport) -> Table:
    rows = []
    for tag, count in [*audit.tags.rows.items(), ("(none)", audit.tags.untagged)]:
        lengths = [""] * 3
        if words := audit.sample.words.get(tag):
            medians = (one[3] if one else 0.0 for one in (words.title, words.description))
            lengths = [*(number(one, 0) for one in medians)]
            lengths.append(f"{audit.sample.no_description[tag]:,}")
        if count or tag != "(none)":
            rows.append([tag, f"{count:,}", share(count / audit.data.rows), *lengths])
    head = ["rows", "share", "title", "description", "no description"]
    caption = "Rows of each tag, and the median words of their titles and descriptions."
    return Table(["tag", *numeric(head)], rows, "Tags", caption)


def _differences(audit: AuditReport) -> list[Block]:
    tests = audit.sample.p_values
    return [
        Text(f"The tags differ in {what} (Kruskal-Wallis p = {p_value:.1g}).")
        for what, p_value in (("date", tests.created_on), ("length", tests.words))
        if p_value is not None and p_value < SURE
    ]


def _dates(audit: AuditReport) -> str:
    years = audit.sample.years
    if not years:
        return "Years: no row has a date (column created_on)."
    counts = ", ".join(f"{year}: {sum(tags.values()):,}" for year, tags in years.items())
    return f"Years: {counts}; {audit.sample.undated:,} rows without a date."


def _years(audit: AuditReport) -> list[Block]:
    tags = list(audit.tags.rows)
    rows = [
        [year, f"{sum(counts.values()):,}", *_counts(counts, tags)]
        for year, counts in audit.sample.years.items()
    ]
    caption = f"{audit.sample.undated:,} rows have no date."
    return [Table(["year", *numeric(["rows", *tags])], rows, "Years", caption)] if rows else []


def _repeats(audit: AuditReport) -> Table:
    rows = [
        [kind, *map("{:,}".format, (one.groups, one.repeated_rows, one.conflicts, one.across))]
        for kind, one in audit.repeats.kinds.items()
    ]
    if audit.model is None:
        rows = [
            [*row[:1], "not looked for", "", "", ""] if row[0] == "meaning" else row for row in rows
        ]
    head = ["groups", "rows beyond the first", "conflicts", "across parts"]
    caption = (
        "Rows that repeat another row. A conflict is one thing with two tags; across parts is a "
        "leak."
    )
    return Table(["same", *numeric(head)], rows, "Repeats", caption)


def _groups(groups: Sequence[RepeatGroup]) -> list[Block]:
    ranked = sorted(groups, key=lambda one: (one.conflict, one.across), reverse=True)
    rows: list[Row] = []
    for group in ranked[:PAGE_ROWS]:
        known = {"conflict": group.conflict, "leak": group.across, "(settled)": group.settled}
        members = []
        for row in group.rows[:GROUP_ROWS]:
            part = f", {row.part}" if row.part else ""
            tag = f": {row.tag}" if row.tag else ""
            members.append(f"{row.title or row.id} ({row.id}, {row.place}{part}{tag})")
        if len(group.rows) > GROUP_ROWS:
            members.append(f"and {len(group.rows) - GROUP_ROWS} more")
        marks = " ".join(mark for mark, holds in known.items() if holds)
        rows.append([group.kind, marks, Cell(items=members)])
    if not rows:
        return []
    table = Table(["same", "mark", Column("rows", "prose")], rows, label="Groups of repeats")
    first = f", the first {PAGE_ROWS} shown" if len(groups) > PAGE_ROWS else ""
    opened = ranked[0].conflict or ranked[0].across
    return [Details(f"Groups: {len(groups):,}{first}", [table], opened)]


def _labels(labels: Labels | None) -> list[Block]:
    if labels is None:
        return [Heading("Labels"), Text(_NOT_CHECKED)]
    rows = []
    for tag, one in labels.by_tag.items():
        taken = ", ".join(f"{other} {count}" for other, count in one.taken_for.items())
        agreed = share(one.agreed / one.rows)
        rows.append([tag, f"{one.rows:,}", agreed, f"{one.suspected:,}", taken])
    columns = numeric(["rows", "agreed with", "suspected"])
    caption = (
        f"Cross-validated models predict a row's own tag in {share(labels.agreement)} of the rows. "
        f"{labels.unlearned} rows are not learned by any."
    )
    head: Columns = ["tag", *columns, Column("taken for", "prose")]
    by_tag = Table(head, rows, "Labels by tag", caption)
    caption = "The least credible first."
    if len(labels.rows) > PAGE_ROWS:
        caption += f" The first {PAGE_ROWS} of {len(labels.rows):,}."
    return [by_tag, _suspected(labels.rows[:PAGE_ROWS], "Suspected label errors", caption)]


def _label_summary(audit: AuditReport) -> list[Block]:
    labels = audit.labels
    if labels is None:
        return [Text(_NOT_CHECKED)]
    told = (
        f"Labels: {labels.suspected} rows ({share(labels.share)}) are probably wrong; "
        f"{labels.unlearned} that no model learns; models that did not see them agree with "
        f"{share(labels.agreement)}. {audit.decisions} rows are settled by a person."
    )
    unsettled = [row for row in labels.rows if row.settled is None][:SUMMARY_ROWS]
    return [Text(told), *([_suspected(unsettled)] if unsettled else [])]


def _suspected(rows: Sequence[SuspectedLabel], title: str = "", caption: str = "") -> Table:
    cells: list[Row] = []
    for row in rows:
        found = {"suspected": row.suspected, "not learned": row.unlearned}
        why = ", ".join(name for name, holds in found.items() if holds)
        if row.settled is not None:
            why = f"settled by {row.settled.by}: {row.settled.why}"
        description = shorten(row.description, 300, placeholder="...")
        item = Cell(row.title or row.id, description, items=[f"{row.id}, {row.place}"])
        predictions = [f"{name} {tag} {p:.2f}" for name, (tag, p) in row.predictions.items()]
        suggested = Cell(f"{row.suggested} {row.probability:.2f}", items=predictions)
        cells.append([f"{row.rank}", item, row.tag, suggested, why])
    prose = [Column(heading, "prose") for heading in ("item", "suggested, by each model", "why")]
    head: Columns = [Column("rank", "number"), prose[0], "tag", *prose[1:]]
    return Table(head, cells, title, caption, "Suspected label errors")


def _coverage(audit: AuditReport) -> list[Block]:
    tags = list(audit.tags.rows)
    tables: list[Block] = []
    for facet, values in audit.coverage.items():
        rows = []
        for value, one in values.items():
            agreement = "" if one.agreement is None else share(one.agreement)
            cells = [f"{one.rows:,}", agreement, *_counts(one.tags, tags)]
            rows.append([value, *cells, "thin" if one.thin else ""])
        columns: Columns = ["value", *numeric(["rows", "models agree", *tags]), ""]
        tables.append(Table(columns, rows, f"Coverage: {facet}"))
    return tables


def _thin(audit: AuditReport) -> str:
    thin = [
        f"{facet} {value!r} ({one.rows})"
        for facet, values in audit.coverage.items()
        for value, one in values.items()
        if one.thin
    ]
    if not thin:
        return "Coverage: no slice is thin."
    more = len(thin) - SUMMARY_ROWS
    end = f" and {more} more." if more > 0 else "."
    return f"Coverage: thin slices: {', '.join(thin[:SUMMARY_ROWS])}{end}"


def _drift(drift: Drift | None) -> list[Block]:
    """Build the blocks of drift; the last one sums it up in a sentence."""
    if drift is None:
        told = "Drift: not measured; that takes 40 rows with different dates at least."
        return [Heading("Drift"), Text(told)]
    tags = list(drift.periods[0].tags)
    rows = []
    for one in drift.periods:
        distance = "" if one.tag_distance is None else f"{one.tag_distance:.3f}"
        cells = [one.last_day, f"{one.rows:,}", *_counts(one.tags, tags), distance]
        rows.append([one.first_day, *cells])
    auc = "not measured" if drift.auc is None else f"{drift.auc:.2f}"
    caption = (
        "Four periods with the same number of rows. AUC says how well a linear model tells the "
        "texts of the first from those of the last; 0.5 is not at all."
    )
    head: Columns = ["from", "to", *numeric(["rows", *tags, "distance of tags"])]
    first, last = drift.periods[0], drift.periods[-1]
    told = (
        f"Drift from {first.first_day}..{first.last_day} to {last.first_day}..{last.last_day}: "
        f"texts told apart with AUC {auc}; rising {_words(drift.rise)}; falling "
        f"{_words(drift.fall)}."
    )
    return [Table(head, rows, "Drift", caption), Text(told)]


def _words(changed: Sequence[ChangedWord]) -> str:
    return ", ".join(f"{one.word} ({one.before} to {one.after})" for one in changed) or "none"


def _counts(counts: dict[str, int], tags: Sequence[str]) -> list[str]:
    return [f"{counts.get(tag, 0):,}" for tag in tags]
