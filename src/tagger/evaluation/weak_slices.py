"""Slices on which a run errs more than elsewhere, looked for among all parts that can be told.

Whoever looks at a thousand parts finds a bad one by chance. Here chance is measured: errors are
dealt out anew among the rows, a thousand times, and a part counts as weak only if so lopsided a
share of the errors comes up anywhere in at most one deal of twenty (Westfall and Young,
"Resampling-Based Multiple Testing", 1993, the single-step minimum of p-values). Parts overlap,
which this takes into account and a Bonferroni correction does not.

Of the weak parts the one with the highest error rate, by the lower end of its interval, is
reported, its rows are set aside, and the rest is searched again: so that ten words for one weakness
are one finding. The search ends when nothing is weak any more. Where errors fall by chance alone,
the share of reports that name any slice is at most `LEVEL`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tagger.evaluation.intervals import measure_share, wilson_interval
from tagger.evaluation.many_looks import adjust
from tagger.evaluation.parts import FEWEST_ROWS, Part, membership
from tagger.evaluation.results import Results
from tagger.scores import BoolArray, FloatArray, IntArray

LEVEL = 0.05
DEALS = 1000
DEALS_AT_ONCE = 200  # bounds memory
MOST = 10
SHOWN_EXAMPLES = 5

Counts = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WeakSlice:
    """A part on which the run errs more than elsewhere.

    Attributes:
        part: As it was found, with the rows that it shares with slices reported before it.
        rows: Positions of those that it does not share.
        p_value: Adjusted for all parts that were looked at.
    """

    part: Part
    rows: IntArray
    p_value: float


def find_weak_slices(parts: Sequence[Part], wrong: BoolArray, seed: int) -> list[WeakSlice]:
    """Search for weak slices, the worst first.

    Args:
        parts: What to look at; those of fewer than `FEWEST_ROWS` rows are passed over.
        wrong: Whether the run erred, (n_rows,).
        seed: Of the deals.

    Returns:
        At most `MOST`.
    """
    all_members = membership(parts, len(wrong))
    random = np.random.default_rng(seed)
    left = np.ones(len(wrong), dtype=np.bool_)
    found: list[WeakSlice] = []
    while len(found) < MOST:
        rows = np.flatnonzero(left)
        members = all_members[:, rows]
        sizes = members.sum(axis=1).astype(np.int64)
        looked_at = np.flatnonzero((sizes >= FEWEST_ROWS) & (sizes < len(rows)))
        errors = wrong[rows].astype(np.float32)
        if not len(looked_at) or not errors.any():
            break
        members, sizes = members[looked_at], sizes[looked_at]
        table = _tail_chances(sizes, len(rows), int(errors.sum()))
        chances = _look_up(table, members @ errors)
        least = np.concatenate(
            [
                _look_up(table, members @ _deal(errors, random)).min(axis=0)
                for _ in range(DEALS // DEALS_AT_ONCE)
            ]
        )
        adjusted = adjust(chances, least)
        weak = np.flatnonzero(adjusted <= LEVEL)
        if not len(weak):
            break
        lowest_rate, _ = wilson_interval((members @ errors)[weak], sizes[weak])
        worst = int(weak[lowest_rate.argmax()])
        part = parts[int(looked_at[worst])]
        own = part.rows[left[part.rows]]
        found.append(WeakSlice(part, own, float(adjusted[worst])))
        left[own] = False
    return found


def describe_weak_slices(
    found: Sequence[WeakSlice], looked_at: int, results: Results
) -> dict[str, Any]:
    """Say what was found, with the surest errors as examples.

    Args:
        found: By `find_weak_slices`.
        looked_at: How many parts it was given.
        results: Of the rows that were searched.

    Returns:
        Ready for JSON: `level`, `looked_at`; and `slices`, each with `name`, `kind`,
        `num_samples`, `errors`, `error_rate` (a score), `elsewhere` (the rate of all other rows),
        `p_value` and the ids and titles of `examples`.
    """
    items, wrong = results.items, results.wrong
    slices = []
    for one in found:
        rows = one.rows
        errors = int(wrong[rows].sum())
        wrong_rows = rows[wrong[rows]]
        surest = np.argsort(-results.confidence[wrong_rows], kind="stable")
        examples = wrong_rows[surest][:SHOWN_EXAMPLES]
        slices.append(
            {
                "name": one.part.name,
                "kind": one.part.kind,
                "num_samples": len(rows),
                "errors": errors,
                "error_rate": measure_share(errors, len(rows)),
                "elsewhere": float((wrong.sum() - errors) / max(len(wrong) - len(rows), 1)),
                "p_value": one.p_value,
                "examples": [
                    {"id": items[row].id, "title": items[row].title} for row in examples.tolist()
                ],
            }
        )
    return {"level": LEVEL, "looked_at": looked_at, "slices": slices}


def _deal(errors: Counts, random: np.random.Generator) -> Counts:
    """Deal errors, (n_rows,), out anew among the rows: (n_rows, DEALS_AT_ONCE)."""
    return random.permuted(np.tile(errors, (DEALS_AT_ONCE, 1)), axis=1).T


def _tail_chances(sizes: IntArray, rows: int, errors: int) -> FloatArray:
    """Compute the chances that parts have at least 0, 1, 2 ... of the errors (hypergeometric).

    Args:
        sizes: Rows of each part, (n_parts,).
        rows: Number of all rows.
        errors: How many of these are errors.

    Returns:
        Logarithms, (n_parts, largest number of errors in a part + 1).
    """
    from scipy.special import gammaln

    def log_binomial(n: FloatArray, k: FloatArray) -> FloatArray:
        result: FloatArray = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        return result

    unique, place = np.unique(sizes, return_inverse=True)
    size = unique[:, None].astype(np.float64)
    count = np.arange(min(int(unique.max()), errors) + 1, dtype=np.float64)[None, :]
    possible = (count <= size) & (size - count <= rows - errors)
    others = np.clip(size - count, 0, rows - errors)
    logs = log_binomial(np.full_like(count, errors), count) - log_binomial(
        np.full_like(size, rows), size
    )
    logs = logs + log_binomial(np.full_like(others, rows - errors), others)
    tails = np.logaddexp.accumulate(np.where(possible, logs, -np.inf)[:, ::-1], axis=1)[:, ::-1]
    by_part: FloatArray = tails[place]
    return by_part


def _look_up(table: FloatArray, counts: Counts) -> FloatArray:
    """Return the chances of each part's counts of errors, (n_parts,) or (n_parts, deals)."""
    places = counts.astype(np.int64)
    chances: FloatArray = np.take_along_axis(table, places.reshape(len(table), -1), axis=1)
    return chances.reshape(places.shape)
