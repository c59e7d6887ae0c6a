"""Parts of the rows that must not get worse: a gate for continuous integration.

A score over all rows can rise while a tag or a slice falls. Each guarded part is tested by itself,
in pairs of decisions (McNemar's exact test, one-sided), and the number of parts that are looked at
is accounted for: were both runs equally good, each row that only one gets right would be a fair
coin's toss. These coins are tossed anew, two thousand times, and a part counts as worse only if a
p-value as small as its own comes up anywhere in at most one toss of twenty (Westfall and Young,
"Resampling-Based Multiple Testing", 1993). Parts overlap, which this takes into account: guarding a
thousand of them costs little power.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tagger.errors import UserError
from tagger.evaluation.many_looks import adjust
from tagger.evaluation.parts import NAMED_KINDS, Part, membership
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
) -> dict[str, Any]:
    """Test whether our decisions are worse than theirs, part by part.

    Args:
        parts: What to guard.
        true: Position of the true tag, (n,).
        ours: Position of the tag that the evaluated run chose, (n,).
        theirs: The same of the run that it is compared with, (n,).
        seed: Of the tosses.

    Returns:
        Ready for JSON: `level`, `looked_at` (how many parts), and `parts`, each with `name`,
        `kind`, `num_samples`, `fixed`, `broken`, adjusted `p_value`, and whether it is `worse`. All
        parts with a name are there, and of those that were found the worst `MOST_FOUND` that are
        worse.
    """
    right, was_right = ours == true, theirs == true
    changed = np.flatnonzero(right != was_right)
    members = membership(parts, len(true))[:, changed]
    discordant = members.sum(axis=1).astype(np.int64)
    broken = members @ was_right[changed].astype(np.float32)
    tosses = np.random.default_rng(seed).integers(0, 2, (len(changed), TOSSES), dtype=np.int8)
    chances = _tail(broken, discordant)
    by_chance = _tail(members @ tosses.astype(np.float32), discordant)
    least = by_chance.min(axis=0) if len(parts) else np.ones(TOSSES)
    adjusted = adjust(chances, least)
    results: list[dict[str, Any]] = [
        {
            "name": part.name,
            "kind": part.kind,
            "num_samples": len(part.rows),
            "fixed": int(discordant[place] - broken[place]),
            "broken": int(broken[place]),
            "p_value": float(adjusted[place]),
            "worse": bool(adjusted[place] <= LEVEL),
        }
        for place, part in enumerate(parts)
    ]
    named = [one for one in results if one["kind"] in NAMED_KINDS]
    worse = [one for one in results if one["worse"] and one["kind"] not in NAMED_KINDS]
    worse.sort(key=lambda one: (one["p_value"], one["fixed"] - one["broken"]))
    return {
        "level": LEVEL,
        "looked_at": len(parts),
        "parts": [*named, *worse[:MOST_FOUND]],
    }


def regressions(report: Mapping[str, Any]) -> list[str]:
    """Say what got worse, of a report: a line a part."""
    comparison = report["comparison"]
    if comparison is None:
        return []
    return [
        f"worse than {comparison['against']}: {one['name']}, {one['broken']} broken and "
        f"{one['fixed']} fixed of {one['num_samples']} rows (p {one['p_value']:.2g}, adjusted)"
        for one in comparison["guards"]["parts"]
        if one["worse"]
    ]


def _tail(broken: FloatArray, discordant: IntArray) -> FloatArray:
    """Return the chance of at least so many broken ones among the discordant rows of a part.

    Args:
        broken: (n_parts,) or (n_parts, tosses).
        discordant: (n_parts,).
    """
    from scipy.stats import binom

    broken = broken.astype(np.int64)
    chances = np.empty(broken.shape)
    for many in np.unique(discordant):
        table = binom.sf(np.arange(-1, many), many, 0.5)
        same = discordant == many
        chances[same] = table[broken[same]]
    return chances
