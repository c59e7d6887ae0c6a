"""Chooses the rows that a run is evaluated on: unless asked, none that it was trained on."""

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from tagger.config.schema import EvaluateConfig
from tagger.data.items import Item
from tagger.data.sources import data_sha256, load_extra, load_labelled, read_columns
from tagger.data.splits import unseen_items
from tagger.data.tags import list_tags
from tagger.errors import UserError
from tagger.evaluation.slices import Slice, build_slices, slices_by_column
from tagger.runs import RunFolder
from tagger.scores import BoolArray


@dataclass(frozen=True)
class EvaluationRows:
    """The rows to evaluate on, and where they come from.

    Attributes:
        items: Labelled, at least one, every tag known to the run.
        source: Name of the data source.
        sha256: Hash of all of the source's items.
        loaded: Number of items in the source.
        own: Whether the source is the one that the run was trained on.
        explanation: A sentence that says which rows these are.
        warning: Why scores on them may be too good, in a sentence; None where nothing is known.
        slices: Those that apply to the items.
    """

    items: list[Item]
    source: str
    sha256: str
    loaded: int
    own: bool
    explanation: str
    warning: str | None
    slices: list[Slice]


def load_rows(run: RunFolder, config: EvaluateConfig) -> EvaluationRows:
    """Load the items that an evaluation is about.

    Raises:
        UserError: for data that cannot be used, tags that the run does not know, or when no row
            is left.
    """
    data = config.data or run.data_config
    if config.data is None:
        items = own_items(run)
    else:
        labelled = load_labelled(data, known=run.columns)
        # What was found says how further columns of the table are read too.
        for note in labelled.notes:
            print(f"note: {note}", file=sys.stderr)
        items, data = labelled.items, data.model_copy(update={"columns": labelled.columns})
        _check_tags(items, run)
    found = data_sha256(items)
    own = found == run.meta.data.sha256
    if config.rows == "all":
        explanation = f"all {len(items)} rows"
        if own:
            explanation += ", those that the run was trained on among them"
        chosen = items
    elif own:
        chosen = [items[index] for index in np.flatnonzero(rows_in(run, items, {"test"}))]
        explanation = f"the run's own {len(chosen)} test rows of {len(items)}"
    else:
        chosen, dropped = drop_seen(run, items)
        explanation = f"{len(chosen)} of {len(items)} rows; {dropped}"
    if not chosen:
        raise UserError(
            f"no row of {data.name} is left to evaluate {run.name} on: {explanation}",
            hint="Give another source (data=...), train with test rows (data.split.test=0.15), or "
            "take rows=all, knowing that scores on rows that the run has seen are too good.",
        )
    if not any(item.created_on for item in chosen):
        explanation += "; none has a date, so there are no slices by year"
    slices = build_slices(chosen, train_counts(run))
    if config.slice_columns:
        slices += slices_by_column(read_columns(data, config.slice_columns))
    warning = _warn_of_duplicates(run, chosen)
    return EvaluationRows(chosen, data.name, found, len(items), own, explanation, warning, slices)


def own_items(run: RunFolder) -> list[Item]:
    """Read all items of the source that a run was made from.

    Raises:
        UserError: when it cannot be read, or holds other items by now.
    """
    run.check_source()
    data = run.data_config
    items = load_labelled(data, run.tags).items
    found, expected = data_sha256(items), run.meta.data.sha256
    if found != expected:
        raise UserError(
            f"the items of {data.name} are not those that {run.name} was made from:",
            [f"found sha256 {found}, expected {expected}"],
            "Bring the old items back; evaluate.py alone can take what is there now, by its name: "
            f"data={data.name}",
        )
    return items


def rows_in(run: RunFolder, items: Sequence[Item], splits: Collection[str]) -> BoolArray:
    """Say which items of a run's own source went into one of these splits, (n_items,)."""
    chosen = {(row.id, row.content_hash) for row in run.split_rows() if row.split in splits}
    return np.array([(item.id, item.content_hash) in chosen for item in items], dtype=np.bool_)


def drop_seen(run: RunFolder, items: Sequence[Item]) -> tuple[list[Item], str]:
    """Leave out what a run was trained or stopped on, and near-duplicates of it.

    Returns:
        The remaining items in order, and a sentence part that says how many were left out.
    """
    recorded = {row.content_hash for row in run.split_rows() if row.split != "test"}
    unequal = [item for item in items if item.content_hash not in recorded]
    equal = len(items) - len(unequal)
    if run.data_config.split.group == "off":
        return unequal, (
            f"left out {equal} that {run.name} has seen; near-duplicates of these were not looked "
            "for (data.split.group=off)"
        )
    try:
        seen = items_of(run, recorded)
    except UserError as error:
        return unequal, (
            f"left out {equal} that {run.name} has seen; near-duplicates of these could not be "
            f"found, as its source cannot be read: {error.summary}"
        )
    chosen = [unequal[index] for index in unseen_items(unequal, seen)]
    similar = len(unequal) - len(chosen)
    part = f"left out {equal} that {run.name} has seen and {similar} near-duplicates of these"
    missing = len(recorded) - len({item.content_hash for item in seen})
    if missing:
        part += f" ({missing} rows that it has seen are not in its source)"
    return chosen, part


def items_of(run: RunFolder, hashes: Collection[str]) -> list[Item]:
    """Return the items of a run's sources that have these content hashes.

    A run folder keeps hashes, not texts: its sources are read again.

    Raises:
        UserError: when they cannot be read.
    """
    run.check_source()
    data = run.data_config
    known = [*load_labelled(data, run.tags).items, *load_extra(data, run.tags)]
    return [item for item in known if item.content_hash in hashes]


def trained_on(run: RunFolder) -> list[Item]:
    """Return the items that a run was trained on; none where its sources cannot be read."""
    hashes = {row.content_hash for row in run.split_rows() if row.split in ("train", "extra")}
    try:
        return items_of(run, hashes)
    except UserError:
        return []


def train_counts(run: RunFolder) -> dict[str, int]:
    """Count the rows that a run was trained on, for every tag that it knows."""
    counts = Counter(row.tag for row in run.split_rows() if row.split == "train")
    return {tag: counts[tag] for tag in run.tags}


def _warn_of_duplicates(run: RunFolder, items: Sequence[Item]) -> str | None:
    """Say that near-duplicates may be on both sides, where a run was divided without regard."""
    if run.data_config.split.group != "off":
        return None
    known = {row.content_hash for row in run.split_rows() if row.split != "test"}
    equal = sum(item.content_hash in known for item in items)
    return (
        f"near-duplicates were not kept apart (data.split.group=off): {equal} of these "
        f"{len(items)} rows have the very text of a row that {run.name} was trained or stopped on, "
        "and others may say the same in nearly the same words. The scores may be too good"
    )


def _check_tags(items: Sequence[Item], run: RunFolder) -> None:
    used = sorted({str(item.tag) for item in items})
    unknown = [tag for tag in used if tag not in run.tags]
    if unknown:
        raise UserError(
            f"the data has tags that {run.name} does not know:",
            [
                f"tags of the data: {list_tags(used)}",
                f"tags of the run: {list_tags(run.tags)}",
                f"unknown to the run: {list_tags(unknown)}",
            ],
            "Rename or leave out these rows, or train a run on data that has these tags.",
        )
