"""Parts of the rows that must not get worse: a gate for continuous integration.

A score over all rows can rise while a tag or a slice falls. Each guarded part is tested by itself,
in pairs of decisions, and the number of parts that are looked at is taken into account.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.evaluation.slices import build_slices, slice_mask
from tagger.scores import IntArray

ALL_ROWS = "all rows"
LEVEL = 0.05
"""Chance of a refusal where nothing got worse, over all guarded parts together."""

REGRESSED = 3
"""Exit code of a command whose run got worse in a guarded part."""


def guarded_parts(
    items: Sequence[Item],
    tags: Sequence[str],
    train_counts: Mapping[str, int],
    chosen: Sequence[str] | None,
) -> dict[str, npt.NDArray[np.bool_]]:
    """Say which rows belong to each part: all rows, each tag, each named slice.

    Args:
        items: The rows.
        tags: The approved tags.
        train_counts: Rows trained on, by tag; see `build_slices`.
        chosen: Names of parts; None for all of them.

    Returns:
        Masks, (n_items,), by name.

    Raises:
        UserError: for names that there are not.
    """
    true = np.array([item.tag for item in items])
    parts = {ALL_ROWS: np.ones(len(items), dtype=np.bool_)}
    parts |= {one.name: slice_mask(one, items) for one in build_slices(items, train_counts)}
    parts |= {tag: true == tag for tag in tags}
    if chosen is None:
        return parts
    if unknown := [name for name in chosen if name not in parts]:
        raise UserError(
            "guard names parts that there are not:",
            unknown,
            f"There are: {', '.join(parts)}",
        )
    return {name: parts[name] for name in chosen}


def check_guards(
    parts: Mapping[str, npt.NDArray[np.bool_]], true: IntArray, ours: IntArray, theirs: IntArray
) -> list[dict[str, Any]]:
    """Test whether our decisions are worse than theirs, part by part.

    McNemar's exact test, one-sided: were both equally good, each row that only one gets right would
    be a fair coin's toss. P-values are adjusted by Holm's method (1979).

    Args:
        parts: Masks, (n,), by name.
        true: Position of the true tag, (n,).
        ours: Position of the tag that the evaluated run chose, (n,).
        theirs: The same of the run that it is compared with, (n,).

    Returns:
        Ready for JSON, for each part: `name`, `num_samples`, `fixed`, `broken`, adjusted `p_value`,
        and whether it is `worse`.
    """
    from scipy.special import bdtrc

    right, was_right = ours == true, theirs == true
    results: list[dict[str, Any]] = []
    for name, mask in parts.items():
        fixed = int((right & ~was_right & mask).sum())
        broken = int((~right & was_right & mask).sum())
        # The chance of at least so many broken ones.
        p_value = float(bdtrc(broken - 1, fixed + broken, 0.5)) if broken else 1.0
        results.append(
            {
                "name": name,
                "num_samples": int(mask.sum()),
                "fixed": fixed,
                "broken": broken,
                "p_value": p_value,
            }
        )
    adjusted = 0.0
    for place, one in enumerate(sorted(results, key=lambda one: one["p_value"])):
        adjusted = max(adjusted, min(1.0, (len(results) - place) * one["p_value"]))
        one["p_value"] = adjusted
        one["worse"] = adjusted <= LEVEL
    return results


def regressions(report: Mapping[str, Any]) -> list[str]:
    """Say what got worse, of a report: a line a part."""
    comparison = report["comparison"]
    if comparison is None:
        return []
    return [
        f"worse than {comparison['against']}: {one['name']}, {one['broken']} broken and "
        f"{one['fixed']} fixed of {one['num_samples']} rows (p {one['p_value']:.2g}, adjusted)"
        for one in comparison["guards"]
        if one["worse"]
    ]
