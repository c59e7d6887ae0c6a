"""The map of the rows as a page shows it: what a template needs to draw each dot."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

WIDTH, HEIGHT, MARGIN = 1000, 640, 12
COLOURS = 10
"""Tags beyond the tenth begin again with the first colour; the legend says so by its order."""

CONFIDENCE_EDGES = (0.0, 0.5, 0.7, 0.9, 0.97, 1.0)
"""Finer at the upper end, where most rows are."""


def draw_map(rows: Sequence[Mapping[str, Any]], tags: Sequence[str]) -> dict[str, Any]:
    """Place dots, the wrong ones on top.

    Args:
        rows: The `map` of a report.
        tags: Names, which decide the colours.

    Returns:
        `width`, `height`, the legends `tags` and `sure`, and `dots`, each with its place, its
        classes, and the row to show and to search.
    """
    position = {tag: number for number, tag in enumerate(tags)}
    dots = []
    for row in rows:
        wrong = row["true"] != row["predicted"]
        sure = bisect_right(CONFIDENCE_EDGES[1:-1], row["probability"])
        dots.append(
            {
                "x": round(MARGIN + row["x"] * (WIDTH - 2 * MARGIN), 1),
                "y": round(MARGIN + row["y"] * (HEIGHT - 2 * MARGIN), 1),
                "classes": f"t{position[row['true']] % COLOURS} s{sure}"
                + (" wrong" if wrong else ""),
                "wrong": wrong,
                "row": row,
            }
        )
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "dots": sorted(dots, key=lambda dot: dot["wrong"]),
        "tags": [(f"t{number % COLOURS}", tag) for number, tag in enumerate(tags)],
        "sure": [
            (f"s{number}", f"{low} to {high}")
            for number, (low, high) in enumerate(pairwise(CONFIDENCE_EDGES))
        ],
    }
