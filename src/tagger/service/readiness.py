"""Compares what a run answers on this machine with what it answered where it was made."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagger.data.columns import TableFormat
from tagger.data.items import Item
from tagger.data.sources import iter_unlabelled
from tagger.errors import UserError
from tagger.evaluation.rows import own_items
from tagger.models.base import Classifier
from tagger.runs import RunFolder, read_predictions

ROWS = 50
TOLERANCE = 0.001
"""Largest difference of a probability: other orders of addition make far smaller ones."""


@dataclass(frozen=True)
class StoredRows:
    """Rows of a run whose probabilities it recorded.

    Attributes:
        items: The rows.
        raw: Their probabilities as the model gave them, (n_items, n_tags).
    """

    items: list[Item]
    raw: NDArray[np.float64]


def read_stored_rows(run: RunFolder, file: Path | None) -> StoredRows:
    """Read the first rows of a run's `predictions.csv`, and their texts.

    Args:
        run: A finished run.
        file: Where the texts are; None: the source that the run was made from.

    Raises:
        UserError: when there are none.
    """
    recorded = run.path / "predictions.csv"
    if not recorded.exists():
        raise UserError(
            f"{run.path} has no predictions.csv: nothing shows what this machine should compute",
            hint="A run that is served needs test rows: train it with data.split.test above 0.",
        )
    stored = read_predictions(recorded, run.tags)
    hashes = {row.id: row.content_hash for row in run.split_rows() if row.split == "test"}
    if file is not None:
        found = [*iter_unlabelled(file, TableFormat(known=run.columns))]
    else:
        try:
            found = own_items(run)
        except UserError as error:
            hint = f"{error.hint} Or name a file with the run's test rows: --rows FILE"
            raise UserError(error.summary, error.problems, hint.strip()) from None
    items = {
        item.id: item
        for item in found
        if item.id in stored and hashes.get(item.id) == item.content_hash
    }
    ids = [*islice((row for row in stored if row in items), ROWS)]
    if not ids:
        raise UserError(
            f"{run.path}: no row of its predictions.csv is found in "
            f"{file or 'the source that it was made from'}",
            hint="Without one nothing shows that this machine computes what the run promised.",
        )
    return StoredRows([items[row] for row in ids], np.array([stored[row] for row in ids]))


def differing_rows(classifier: Classifier, rows: StoredRows) -> list[str]:
    """Answer stored rows, and say of each that differs by how much."""
    found = classifier.predict_proba(rows.items)
    return [
        f"{item.id}: a probability of {tag} is {ours[at]:.6f} here, {theirs[at]:.6f} in the run"
        for item, ours, theirs in zip(rows.items, found, rows.raw, strict=True)
        for at in [int(np.abs(ours - theirs).argmax())]
        for tag in [classifier.tags[at]]
        if not abs(ours[at] - theirs[at]) <= TOLERANCE
    ]
