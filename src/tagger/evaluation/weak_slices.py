"""Finds weak slices: parts of the rows on which a run errs more than elsewhere.

Whoever tests a thousand parts finds a bad one by chance. So p-values are adjusted for multiple
comparisons: errors are permuted among the rows, a thousand times, and a part counts as weak only if
so small a p-value comes up for any part in at most one permutation of twenty (Westfall and Young,
"Resampling-Based Multiple Testing", 1993, the single-step minimum of p-values).

Of the weak parts the one with the highest error rate, by the lower end of its interval, is
reported, its rows are set aside, and the rest is searched again: so that ten words for one weakness
are one finding. The search ends when nothing is weak any more. Where errors fall by chance alone,
the share of reports that name any slice is at most `LEVEL`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tagger.evaluation.intervals import measure_share, wilson_interval
from tagger.evaluation.multiple_testing import adjust_p_values
from tagger.evaluation.parts import FEWEST_ROWS, Part, membership
from tagger.evaluation.predictions import LabelledPredictions
from tagger.evaluation.report import ItemReference, WeakSlice, WeakSlices
from tagger.scores import BoolArray, FloatArray, IntArray

LEVEL = 0.05
PERMUTATIONS = 1000
PERMUTATIONS_AT_ONCE = 200  # bounds memory
MOST = 10
SHOWN_EXAMPLES = 5

Counts = npt.NDArray[np.float32]


def find_weak_slices(
    parts: Sequence[Part], wrong: BoolArray, seed: int
) -> list[tuple[Part, float]]:
    """Search for at most `MOST` weak parts, the worst first.

    Args:
        parts: What to test; those of fewer than `FEWEST_ROWS` rows are passed over.
        wrong: Whether the run erred, (n_rows,).
        seed: Of the permutations.

    Returns:
        Each part without the rows that it shares with those before it, and its p-value, adjusted.
    """
    all_members = membership(parts, len(wrong))
    random = np.random.default_rng(seed)
    left = np.ones(len(wrong), dtype=np.bool_)
    found: list[tuple[Part, float]] = []
    while len(found) < MOST:
        rows = np.flatnonzero(left)
        members = all_members[:, rows]
        sizes = members.sum(axis=1).astype(np.int64)
        tested = np.flatnonzero((sizes >= FEWEST_ROWS) & (sizes < len(rows)))
        errors = wrong[rows].astype(np.float32)
        if not len(tested) or not errors.any():
            break
        members, sizes = members[tested], sizes[tested]
        table = _log_p_values(sizes, len(rows), int(errors.sum()))
        p_values = _look_up(table, members @ errors)
        smallest = [
            _look_up(table, members @ _permute(errors, random)).min(axis=0)
            for _ in range(PERMUTATIONS // PERMUTATIONS_AT_ONCE)
        ]
        adjusted = adjust_p_values(p_values, np.concatenate(smallest))
        weak = np.flatnonzero(adjusted <= LEVEL)
        if not len(weak):
            break
        lowest_rate, _ = wilson_interval((members @ errors)[weak], sizes[weak])
        worst = int(weak[lowest_rate.argmax()])
        part = parts[int(tested[worst])]
        own = part.rows[left[part.rows]]
        found.append((replace(part, rows=own), float(adjusted[worst])))
        left[own] = False
    return found


def describe_weak_slices(
    found: Sequence[tuple[Part, float]], comparisons: int, predictions: LabelledPredictions
) -> WeakSlices:
    """Describe weak parts, with their most confident errors as examples.

    Args:
        found: By `find_weak_slices`.
        comparisons: How many parts it was given.
        predictions: Of the rows that were searched.
    """
    items, wrong = predictions.items, predictions.wrong
    slices = []
    for part, p_value in found:
        wrong_rows = part.rows[wrong[part.rows]]
        errors = len(wrong_rows)
        surest = np.argsort(-predictions.confidence[wrong_rows], kind="stable")
        examples = wrong_rows[surest][:SHOWN_EXAMPLES].tolist()
        slices.append(
            WeakSlice(
                name=part.name,
                kind=part.kind,
                num_samples=len(part.rows),
                errors=errors,
                error_rate=measure_share(errors, len(part.rows)),
                elsewhere=float((wrong.sum() - errors) / max(len(wrong) - len(part.rows), 1)),
                p_value=p_value,
                examples=[ItemReference(id=items[r].id, title=items[r].title) for r in examples],
            )
        )
    return WeakSlices(level=LEVEL, comparisons=comparisons, slices=slices)


def _permute(errors: Counts, random: np.random.Generator) -> Counts:
    """Permute errors, (n_rows,), among the rows: (n_rows, PERMUTATIONS_AT_ONCE)."""
    return random.permuted(np.tile(errors, (PERMUTATIONS_AT_ONCE, 1)), axis=1).T


def _log_p_values(sizes: IntArray, rows: int, errors: int) -> FloatArray:
    """Compute the log-probabilities that parts have at least 0, 1, 2 ... errors (hypergeometric).

    Args:
        sizes: Rows of each part, (n_parts,).
        rows: Number of all rows.
        errors: How many of these are errors.

    Returns:
        (n_parts, largest number of errors in a part + 1).
    """
    from scipy.stats import hypergeom

    unique, place = np.unique(sizes, return_inverse=True)
    counts = np.arange(min(int(unique.max()), errors) + 1)
    exactly = hypergeom.logpmf(counts[None, :], rows, errors, unique[:, None])
    tails: FloatArray = np.logaddexp.accumulate(exactly[:, ::-1], axis=1)[:, ::-1]
    return tails[place]


def _look_up(table: FloatArray, counts: Counts) -> FloatArray:
    """Return the entry of each part's counts, (n_parts,) or (n_parts, permutations)."""
    places = counts.astype(np.int64)
    entries: FloatArray = np.take_along_axis(table, places.reshape(len(table), -1), axis=1)
    return entries.reshape(places.shape)
