"""Draws the interactive map of an evaluation: a dot for each row, by the layout of the report."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from tagger.evaluation.report import MapPoint
from tagger.reporting.numbers import plural
from tagger.reporting.page import Embedded

WIDTH, HEIGHT, MARGIN = 1000, 640, 12
COLOURS = 10
"""Tags beyond the tenth begin again with the first colour; the legend says so by its order."""

CONFIDENCE_EDGES = (0.0, 0.5, 0.7, 0.9, 0.97, 1.0)
"""Finer at the upper end, where most rows are."""


def draw_map(points: Sequence[MapPoint], tags: Sequence[str]) -> Embedded:
    """Draw dots, the wrong ones on top; tags decide their colours."""
    position = {tag: number for number, tag in enumerate(tags)}
    rows = sorted(points, key=lambda point: point.true != point.predicted)
    dots = []
    for row in rows:
        wrong = row.true != row.predicted
        sure = bisect_right(CONFIDENCE_EDGES[1:-1], row.probability)
        classes = f"t{position[row.true] % COLOURS} s{sure}" + (" wrong" if wrong else "")
        x = round(MARGIN + row.x * (WIDTH - 2 * MARGIN), 1)
        y = round(MARGIN + row.y * (HEIGHT - 2 * MARGIN), 1)
        dots.append({"x": x, "y": y, "classes": classes, "wrong": wrong, "row": row})
    many_wrong = sum(row.true != row.predicted for row in rows)
    text = f"{plural(len(rows), 'row')} as dots, {many_wrong} of them wrong."
    values = {
        "width": WIDTH,
        "height": HEIGHT,
        "text": text,
        "dots": dots,
        "rows": [row.model_dump() for row in rows],
        "tags": [(f"t{number % COLOURS}", tag) for number, tag in enumerate(tags)],
        "sure": [
            (f"s{number}", f"{low} to {high}")
            for number, (low, high) in enumerate(pairwise(CONFIDENCE_EDGES))
        ],
    }
    hint = "report.html shows it, to be coloured and searched."
    return Embedded("map.html.j2", values, "map.css", "map.js", f"{text} {hint}")
