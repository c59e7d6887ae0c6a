"""What training does about tags that look wrong, among its own rows only.

The check is that of `tagger audit`: simple models judge rows that they did not see. It is made of
the training rows alone, so rows that a run is validated or tested on neither take part nor change.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.files import csv_text, write_text
from tagger.models.label_check import check_labels
from tagger.models.votes import FOLDS

Embed = Callable[[Sequence[Item]], npt.NDArray[np.floating]]
KEEP, DOWN_WEIGHT, RELABEL, DROP = "keep", "down_weight", "relabel", "drop"
DOUBTFUL_WEIGHT = 0.3
"""What a doubtful row counts under `down_weight`, a trusted one being 1."""

COLUMNS = ("id", "tag", "suggested", "probability", "action")


@dataclass(frozen=True)
class TrainingRows:
    """The rows to train on.

    Attributes:
        items: Labelled items.
        weights: What each counts in the loss.
        doubtful: For each row that was doubted its id, tag, suggested tag and the probability of
            that, most doubtful first.
    """

    items: list[Item]
    weights: list[float]
    doubtful: list[tuple[str, str, str, float]]


def settle_doubtful_labels(
    items: Sequence[Item], tags: Sequence[str], action: str, embed: Embed | None
) -> TrainingRows:
    """Find the rows whose tags look wrong and do with them what `training.doubtful_labels` says.

    Tags with fewer than `FOLDS` rows are left alone: no model can have learned them.

    Args:
        items: The training rows.
        tags: The approved tags.
        action: `keep` looks for nothing; `down_weight` lets doubtful rows count less; `relabel`
            gives them the tag that the models prefer; `drop` leaves them out.
        embed: An encoder, to compare meanings; None to go by words alone.
    """
    everything = TrainingRows(list(items), [1.0] * len(items), [])
    if action == KEEP:
        return everything
    check = check_labels(
        items,
        tags,
        groups=group_near_duplicates(items),
        vectors=None if embed is None else embed(items),
    )
    if check is None:
        return everything
    counts = Counter(item.tag for item in items)
    doubtful = sorted(
        (
            at
            for at, item in enumerate(items)
            if (check.suspected[at] or check.unlearned[at]) and counts[item.tag] >= FOLDS
        ),
        key=lambda at: check.doubt_rank[at],
    )
    listed = [
        (items[at].id, str(items[at].tag), check.suggested[at], check.probability[at])
        for at in doubtful
    ]
    chosen = set(doubtful)
    if action == DROP:
        kept = [item for at, item in enumerate(items) if at not in chosen]
        return TrainingRows(kept, [1.0] * len(kept), listed)
    if action == RELABEL:
        changed = [
            replace(item, tag=check.suggested[at]) if at in chosen else item
            for at, item in enumerate(items)
        ]
        return TrainingRows(changed, [1.0] * len(items), listed)
    weights = [DOUBTFUL_WEIGHT if at in chosen else 1.0 for at in range(len(items))]
    return TrainingRows(list(items), weights, listed)


def write_doubtful(path: Path, rows: TrainingRows, action: str) -> None:
    """Write `doubtful.csv`: which rows were doubted, and what was done."""
    lines = [(*row[:3], f"{row[3]:.3f}", action) for row in rows.doubtful]
    write_text(path, csv_text([COLUMNS, *lines]))
