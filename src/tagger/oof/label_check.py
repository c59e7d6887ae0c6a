"""Finds suspected label errors, by confident learning on out-of-fold votes.

Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR
2021), as cleanlab implements it: an item counts as another tag's when its out-of-fold probability
of that tag exceeds what is usual among items of that tag. The counts estimate how much of each tag
is mislabelled; the least credible items, by the margin between their own tag and the best other
one, are the suspects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tagger.data.items import Item
from tagger.oof.votes import FOLDS, out_of_fold_votes
from tagger.scores import BoolArray, FloatArray, IntArray

REPEATS = 3
LARGE = 5000
"""Rows from which one division into folds has to do: a repetition would cost minutes."""


@dataclass(frozen=True)
class LabelErrors:
    """What confident learning estimates of every item.

    Attributes:
        credibility: (n,), from 0 to 1: how well the tag agrees with the models. Sorting by it
            ranks all items, the least credible first.
        suspected: (n,), whether the item is among those estimated to be mislabelled.
        suggested: (n,), position of the tag that the models prefer to any other.
    """

    credibility: FloatArray
    suspected: BoolArray
    suggested: IntArray


@dataclass(frozen=True)
class LabelCheck:
    """The verdict on each tagged row of simple models, none of which saw the row.

    Attributes:
        rows: Indices of the tagged rows, ascending; the other fields are in this order.
        doubt_rank: 1 for the least credible tag, 2 for the next.
        credibility: From 0 to 1; see `LabelErrors`.
        suspected: Whether the tag is among those estimated to be wrong.
        suggested: The tag that the models prefer.
        probability: What they give to that tag.
        votes: For each voter its tag and its probability.
        unlearned: Whether no voter chose the row's own tag in any division into folds.
        agreed: Whether the models' mean choice is the row's own tag.
    """

    rows: list[int]
    doubt_rank: list[int]
    credibility: list[float]
    suspected: list[bool]
    suggested: list[str]
    probability: list[float]
    votes: list[dict[str, tuple[str, float]]]
    unlearned: list[bool]
    agreed: list[bool]


def find_label_errors(probabilities: FloatArray, labels: Sequence[int]) -> LabelErrors:
    """Rank items by the credibility of their tags, the lowest first.

    Args:
        probabilities: (n, n_tags), out of fold: an item's row comes from models that did not see
            its tag.
        labels: The n tags as given, as positions. Tags that no item has are left out of account.

    Raises:
        ValueError: when fewer than two tags occur.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_normalized_margin_for_each_label

    given = np.asarray(labels, dtype=np.int64)
    present = np.unique(given)
    if len(present) < 2:
        raise ValueError(f"{len(present)} tag occurs, at least 2 are needed to compare")
    # cleanlab counts tags from 0 without gaps.
    position = np.searchsorted(present, given)
    # A trace for each: a model that gives all of an item to a tag that no item has divides by zero.
    rows = probabilities[:, present] + 1e-12
    rows = rows / rows.sum(axis=1, keepdims=True)
    return LabelErrors(
        credibility=get_normalized_margin_for_each_label(position, rows),
        suspected=find_label_issues(position, rows, filter_by="prune_by_noise_rate", n_jobs=1),
        suggested=present[rows.argmax(axis=1)],
    )


def count_divisions(n_tagged: int) -> int:
    """Return into how many sets of folds so many rows are divided."""
    return 1 if n_tagged >= LARGE else REPEATS


def check_labels(
    items: Sequence[Item],
    tag_names: Sequence[str],
    *,
    groups: Sequence[int],
    vectors: npt.NDArray[np.floating] | None,
    after_fold: Callable[[], object] = lambda: None,
) -> LabelCheck | None:
    """Judge the tags of a file by models that did not see them; untagged rows are left out.

    Args:
        items: The rows.
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
    voters: dict[str, FloatArray] = {
        name: np.mean([one[name] for one in divisions], axis=0) for name in divisions[0]
    }
    mean = np.mean(list(voters.values()), axis=0)
    errors = find_label_errors(mean, labels)
    ranks = np.empty(len(rows), dtype=np.int64)
    # Ties in the order of the file.
    ranks[np.argsort(errors.credibility, kind="stable")] = np.arange(1, len(rows) + 1)
    return LabelCheck(
        rows=rows,
        doubt_rank=ranks.tolist(),
        credibility=errors.credibility.tolist(),
        suspected=errors.suspected.tolist(),
        suggested=[tag_names[tag] for tag in errors.suggested],
        probability=mean[np.arange(len(rows)), errors.suggested].tolist(),
        votes=[
            {
                name: (tag_names[int(votes[at].argmax())], float(votes[at].max()))
                for name, votes in voters.items()
            }
            for at in range(len(rows))
        ],
        unlearned=(~ever_right).tolist(),
        agreed=(mean.argmax(axis=1) == given).tolist(),
    )
