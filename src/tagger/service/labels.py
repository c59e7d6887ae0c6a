"""Writes people's labels as tables that `tagger audit` and `train.py data=file` take as they are.

Of each item that was settled the table for training has one row, under the tag of its last review.
Beside it there are a table of the random sample, under the tags of the blind looks, and one of all
labels of the items whose labels differ.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import Connection, func, select

from tagger.data.columns import INCLUSION
from tagger.data.guards import guard
from tagger.files import csv_text, sha256_of, write_text
from tagger.service.content import REPORTED, SAMPLE
from tagger.service.events import NO_TAG, Event, events_of, every_event, read_event
from tagger.service.keys import shown_time
from tagger.service.tables import REVIEW_QUEUE

COLUMNS = (
    "id", "source_id", "created_on", "title", "description", "tag", "source", INCLUSION,
    "labelled_by", "labelled_at", "run", "version", "would_publish",
)  # fmt: skip
SOURCES = {SAMPLE: "sample", REPORTED: "report"}
"""What is written for the reason that an item was looked at for; `review` for any other."""


def pull_labels(connection: Connection, out: Path, *, sample_for_training: bool) -> Iterator[str]:
    """Write the three tables, the others with `.sample` and `.conflicts` in their names.

    The same labels give the same bytes.

    Yields:
        What each holds, and its version; how many rejected items are left out; and how many
        reported items have no label yet.
    """
    training: list[list[str]] = []
    sample: list[list[str]] = []
    conflicts: list[list[str]] = []
    rejected: list[bool] = []  # whether it was a row of the sample
    for reviews in _by_item(every_event(connection, "labelled", "undone")):
        every = [label for labels in reviews for label in labels]
        if len({label.data["labels"][-1][1] for label in every}) > 1:
            conflicts += [_row(connection, [label]) for label in every]
        settled = [labels for labels in reviews if labels[-1].data["settles"]]
        blind = [labels for labels in settled if _source(labels) == "sample"]
        for labels in (blind or settled)[-1:]:
            own = labels[-1].data["labels"][-1][1]
            if own == NO_TAG:
                rejected.append(bool(blind))
            elif own is not None:  # else the kept item has the same text
                row = _row(connection, labels)
                sample += [row] if blind else []
                training += [row] if sample_for_training or not blind else []
    for path, rows, what in (
        (out.with_suffix(".conflicts.csv"), conflicts, "labels that differ"),
        (out.with_suffix(".sample.csv"), sample, "rows of the random sample"),
        (out, training, "rows for training"),
    ):
        write_text(path, csv_text([COLUMNS, *rows]))
        yield f"{path}: {len(rows):,} {what}, version {sha256_of(path)[:12]}"
    if rejected:
        drawn = f"{sum(rejected):,} of them in the sample"
        yield f"rejected items, left out: {len(rejected):,}, {drawn}"
    waiting = select(func.count()).where(REVIEW_QUEUE.c.reason == REPORTED)
    if count := connection.scalar(waiting):
        yield f"reported items that wait for people, without a label: {count:,}"


def reviews_of(connection: Connection, item: int) -> list[list[Event]]:
    """Return the labels of each review of an item, those that were taken back left out."""
    both = [*events_of(connection, item, "labelled"), *events_of(connection, item, "undone")]
    return next(_by_item(sorted(both, key=lambda event: event.sequence)), [])


def _by_item(events: Iterable[Event]) -> Iterator[list[list[Event]]]:
    """Yield for each item the labels of its reviews that were not taken back, in their order."""
    items: dict[int, dict[int, list[Event]]] = {}
    for event in events:
        of_review = items.setdefault(event.item, {}).setdefault(event.data["queued"]["review"], [])
        if event.kind == "labelled":
            of_review.append(event)
        else:
            of_review.pop()
    for _, reviews in sorted(items.items()):
        yield [labels for labels in reviews.values() if labels]


def _row(connection: Connection, labels: Sequence[Event]) -> list[str]:
    """Return the row of an item under the last label of a review."""
    last, source = labels[-1], _source(labels)
    own = last.data["labels"][-1][1]
    submitted = read_event(connection, last.item, "submitted")
    assert submitted is not None
    data = submitted.data
    probability = str(data[INCLUSION]) if source == "sample" else ""
    people = " ".join(one.actor for one in labels if one.data["labels"][-1][1] == own)
    cells = [
        str(last.item), data["id"] or "", shown_time(submitted.at), data["title"],
        data["description"], own or "", source, probability, people, shown_time(last.at),
        data["run"], data["version"], would_publish(submitted) or "",
    ]  # fmt: skip
    return [guard(cell) for cell in cells]


def would_publish(submitted: Event) -> str | None:
    """Return the tag under which the run published an item, or would have but for a hold.

    None where a person was asked: by the run, or since the item is likely a duplicate.
    """
    tag: str | None = submitted.data.get("would_publish", submitted.tag)  # older events have none
    return tag


def _source(labels: Sequence[Event]) -> str:
    return SOURCES.get(labels[0].data["queued"]["reason"], "review")
