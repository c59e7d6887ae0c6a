"""Guards parts of the rows against getting worse: a gate for continuous integration.

A score over all rows can rise while a tag or a slice falls. Each guarded part is tested by itself,
in pairs of decisions (McNemar's exact test, one-sided), and p-values are adjusted for multiple
comparisons: were both runs equally good, each row that only one gets right would be a fair coin's
toss. These coins are tossed anew, two thousand times, and a part counts as worse only if a p-value
as small as its own comes up for any part in at most one toss of twenty (Westfall and Young,
"Resampling-Based Multiple Testing", 1993). Guarding a thousand overlapping parts costs little
power.
"""

from collections.abc import Sequence

import numpy as np

from tagger.errors import UserError
from tagger.evaluation.multiple_testing import adjust_p_values
from tagger.evaluation.parts import NAMED_KINDS, Part, membership
from tagger.evaluation.report import EvaluationReport, GuardedPart, Guards
from tagger.scores import FloatArray, IntArray

LEVEL = 0.05
"""Chance of a refusal where nothing got worse, over all guarded parts together."""

REGRESSED = 3
"""Exit code of a command whose run got worse in a guarded part, or is over its budget."""

TOSSES = 2000
MOST_FOUND = 10


def choose_guards(
    named: Sequence[Part], found: Sequence[Part], chosen: Sequence[str] | None
) -> list[Part]:
    """Return the parts to guard.

    Args:
        named: Parts that have a name.
        found: Parts that were found in the rows.
        chosen: Names of parts; None for all of them.

    Raises:
        UserError: for names that there are not.
    """
    if chosen is None:
        return [*named, *found]
    by_name = {part.name: part for part in named}
    if unknown := [name for name in chosen if name not in by_name]:
        raise UserError(
            "guard names parts that there are not:",
            unknown,
            f"There are: {', '.join(by_name)}",
        )
    return [by_name[name] for name in chosen]


def check_guards(
    parts: Sequence[Part], true: IntArray, ours: IntArray, theirs: IntArray, seed: int
) -> Guards:
    """Test whether our decisions are worse than theirs, part by part.

    Args:
        parts: What to guard.
        true: Position of the true tag, (n,).
        ours: Position of the tag that the evaluated run chose, (n,).
        theirs: The same of the run that it is compared with, (n,).
        seed: Of the tosses.

    Returns:
        All parts with a name, and of those that were found the worst `MOST_FOUND` that are worse.
    """
    right, was_right = ours == true, theirs == true
    changed = np.flatnonzero(right != was_right)
    members = membership(parts, len(true))[:, changed]
    discordant = members.sum(axis=1).astype(np.int64)
    broken = members @ was_right[changed].astype(np.float32)
    tosses = np.random.default_rng(seed).integers(0, 2, (len(changed), TOSSES), dtype=np.int8)
    by_chance = _p_values(members @ tosses.astype(np.float32), discordant)
    p_values = _p_values(broken[:, None], discordant)[:, 0]
    adjusted = adjust_p_values(p_values, by_chance.min(axis=0, initial=1.0))
    results = [
        GuardedPart(
            name=part.name,
            kind=part.kind,
            num_samples=len(part.rows),
            fixed=int(discordant[place] - broken[place]),
            broken=int(broken[place]),
            p_value=float(adjusted[place]),
            worse=bool(adjusted[place] <= LEVEL),
        )
        for place, part in enumerate(parts)
    ]
    named = [one for one in results if one.kind in NAMED_KINDS]
    worse = [one for one in results if one.worse and one.kind not in NAMED_KINDS]
    worse.sort(key=lambda one: (one.p_value, one.fixed - one.broken))
    return Guards(level=LEVEL, comparisons=len(parts), parts=[*named, *worse[:MOST_FOUND]])


def regressions(report: EvaluationReport) -> list[str]:
    """Say in a line each which guarded parts got worse."""
    comparison = report.comparison
    if comparison is None:
        return []
    return [
        f"worse than {comparison.against}: {one.name}, {one.broken} broken and "
        f"{one.fixed} fixed of {one.num_samples} rows (p {one.p_value:.2g}, adjusted)"
        for one in comparison.guards.parts
        if one.worse
    ]


def _p_values(broken: FloatArray, discordant: IntArray) -> FloatArray:
    """Return the chance of at least so many broken ones among the discordant rows of a part.

    Args:
        broken: (n_parts, n).
        discordant: (n_parts,).
    """
    from scipy.special import bdtrc

    sizes, place = np.unique(discordant, return_inverse=True)
    table = bdtrc(np.arange(-1, sizes.max(initial=0)), sizes[:, None], 0.5)
    p_values: FloatArray = table[place[:, None], broken.astype(np.int64)]
    return p_values
