"""Which tags look wrong to models that did not see them, and who says so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tagger.data.items import Item
from tagger.data.label_errors import find_label_errors
from tagger.models.votes import FOLDS, mean_vote, out_of_fold_votes

REPEATS = 3
LARGE = 5000
"""Rows from which one division into folds has to do: a repetition would cost minutes."""


@dataclass(frozen=True)
class LabelCheck:
    """What simple models, none of which saw the row, say of each tagged row.

    Attributes:
        rows: Indices of the tagged rows, ascending; the other fields are in this order.
        doubt_rank: 1 for the most doubtful tag, 2 for the next.
        credibility: From 0 to 1; see `LabelErrors`.
        suspected: Whether the tag is among those estimated to be wrong.
        suggested: The tag that the models prefer.
        probability: What they give to that tag.
        opinions: For each voter its tag and its probability.
        unlearned: Whether no voter chose the row's own tag in any division into folds.
        agreed: Whether the models' mean choice is the row's own tag.
    """

    rows: list[int]
    doubt_rank: list[int]
    credibility: list[float]
    suspected: list[bool]
    suggested: list[str]
    probability: list[float]
    opinions: list[dict[str, tuple[str, float]]]
    unlearned: list[bool]
    agreed: list[bool]


def count_divisions(n_tagged: int) -> int:
    """Say into how many sets of folds so many rows are divided."""
    return 1 if n_tagged >= LARGE else REPEATS


def check_labels(
    items: Sequence[Item],
    tag_names: Sequence[str],
    *,
    groups: Sequence[int],
    vectors: npt.NDArray[np.floating] | None,
    after_fold: Callable[[], object] = lambda: None,
) -> LabelCheck | None:
    """Judge the tags of a file by models that did not see them.

    Args:
        items: The rows; untagged ones are left out.
        tag_names: The approved tags.
        groups: Near-duplicate group of each row.
        vectors: (n, width), an encoder's; None to go by words alone.
        after_fold: Called `FOLDS` times for each of `count_divisions`.

    Returns:
        None when fewer than two tags occur, or fewer than `FOLDS` tagged rows.
    """
    rows = [row for row, item in enumerate(items) if item.tag is not None]
    labels = [tag_names.index(items[row].tag or "") for row in rows]
    if len(set(labels)) < 2 or len({groups[row] for row in rows}) < FOLDS:
        return None
    divisions = [
        out_of_fold_votes(
            [items[row].text for row in rows],
            labels,
            len(tag_names),
            groups=[groups[row] for row in rows],
            vectors=None if vectors is None else vectors[rows],
            seed=seed,
            after_fold=after_fold,
        )
        for seed in range(count_divisions(len(rows)))
    ]
    given = np.array(labels)
    ever_right = np.any(
        [votes.argmax(axis=1) == given for one in divisions for votes in one.values()], axis=0
    )
    voters: dict[str, npt.NDArray[np.float64]] = {
        name: np.stack([one[name] for one in divisions]).mean(axis=0) for name in divisions[0]
    }
    mean = mean_vote(voters)
    errors = find_label_errors(mean, labels)
    ranks = np.empty(len(rows), dtype=np.int64)
    ranks[errors.ranking()] = np.arange(1, len(rows) + 1)
    return LabelCheck(
        rows=rows,
        doubt_rank=ranks.tolist(),
        credibility=errors.credibility.tolist(),
        suspected=errors.suspected.tolist(),
        suggested=[tag_names[tag] for tag in errors.suggested],
        probability=mean[np.arange(len(rows)), errors.suggested].tolist(),
        opinions=[
            {
                name: (tag_names[int(votes[at].argmax())], float(votes[at].max()))
                for name, votes in voters.items()
            }
            for at in range(len(rows))
        ],
        unlearned=(~ever_right).tolist(),
        agreed=(mean.argmax(axis=1) == given).tolist(),
    )
