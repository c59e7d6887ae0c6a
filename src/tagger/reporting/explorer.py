"""Draws what readers of an evaluation explore: its matrix, curve, slices and map, and their rows.

The template holds everything with its place and text; `explorer.js` alone makes it answer. Without
scripts and on paper the map is there, and still figures show the rest.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from textwrap import shorten

from tagger.evaluation.report import DecisionReport, EvaluationReport, MapPoint, OverallScores
from tagger.reporting.numbers import plural, score
from tagger.reporting.page import Embedded

WIDTH, HEIGHT, MARGIN = 1000, 640, 12
"""Of the map."""

COLOURS = 7
"""Tags beyond the seventh begin again with the first colour; the legend says so by its order."""

CONFIDENCE_EDGES = (0.0, 0.5, 0.7, 0.9, 0.97, 1.0)
"""Finer at the upper end, where most rows are."""

LETTERS = 300_000
"""Of descriptions, in all: a page of 5,000 rows stays well below a megabyte."""

LEFT, TOP, RIGHT, BOTTOM = 58, 10, 455, 216
"""Of the axes of the curve, within 480 by 270."""

RISKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper ends of the curve's vertical axis."""


def draw_explorer(report: EvaluationReport, points: Sequence[MapPoint]) -> Embedded:
    """Draw matrix, curve, slices and map of a report, and give all its rows to their script.

    Args:
        report: Of an evaluation.
        points: The rows of its map; where there are too many for one, all errors and some others.
    """
    tags, slices = report.tags, list(report.slices)
    rows = sorted(points, key=lambda point: point.true != point.predicted)
    wrong = sum(row.true != row.predicted for row in rows)
    letters = min(300, LETTERS // max(1, len(rows)))
    curve = _curve(report.decision)
    text = f"{plural(len(rows), 'row')} as dots, {wrong} of them wrong."
    data = {
        "tags": tags,
        "slices": slices,
        "total": report.overall.num_samples,
        "curve": report.decision.curve,
        "axes": [LEFT, TOP, RIGHT, BOTTOM, curve["most"]],
        "rows": [
            (
                row.id,
                row.title,
                shorten(row.description, letters, placeholder=" …"),
                tags.index(row.true),
                tags.index(row.predicted),
                round(row.probability, 4),
                [at for at, name in enumerate(slices) if name in row.slices],
            )
            for row in rows
        ],
    }
    values = {
        "width": WIDTH,
        "height": HEIGHT,
        "text": text,
        "dots": [_dot(row, tags) for row in rows],
        "legend": [(f"t{number % COLOURS}", tag) for number, tag in enumerate(tags)],
        "sure": [
            (f"s{number}", f"{low} to {high}")
            for number, (low, high) in enumerate(pairwise(CONFIDENCE_EDGES))
        ],
        "tags": tags,
        "matrix": _matrix(report),
        "curve": curve,
        "slices": _slices(report),
        "data": data,
    }
    hint = (
        "report.html shows them, to be searched, coloured and chosen by tag, slice and certainty."
    )
    return Embedded("explorer.html.j2", values, "explorer.css", "explorer.js", f"{text} {hint}")


def _dot(row: MapPoint, tags: Sequence[str]) -> dict[str, object]:
    wrong = row.true != row.predicted
    sure = bisect_right(CONFIDENCE_EDGES[1:-1], row.probability)
    return {
        "x": round(MARGIN + row.x * (WIDTH - 2 * MARGIN)),
        "y": round(MARGIN + row.y * (HEIGHT - 2 * MARGIN)),
        "classes": f"t{tags.index(row.true) % COLOURS} s{sure}" + (" wrong" if wrong else ""),
    }


def _matrix(report: EvaluationReport) -> list[dict[str, object]]:
    lines = []
    for tag, counts in zip(report.tags, report.confusion, strict=True):
        rows = sum(counts)
        cells = [
            {
                "count": count,
                "share": round(count / max(1, rows), 3),
                "text": f"{plural(count, 'row')} of {tag}, "
                + ("right" if other == tag else f"taken for {other}"),
            }
            for other, count in zip(report.tags, counts, strict=True)
        ]
        lines.append({"tag": tag, "rows": rows, "cells": cells})
    return lines


def _curve(decision: DecisionReport) -> dict[str, object]:
    """Lay out the risk-coverage curve; its vertical axis ends at a round number."""
    highest = max(risk for _, risk in decision.curve)
    most = next(end for end in RISKS if end >= highest)

    def place(coverage: float, risk: float) -> tuple[float, float]:
        x = LEFT + coverage * (RIGHT - LEFT)
        return round(x, 1), round(BOTTOM - min(1, risk / most) * (BOTTOM - TOP), 1)

    points = [place(*point) for point in decision.curve]
    chosen = None
    if decision.precision is not None:
        chosen = place(decision.coverage, 1 - decision.precision.value)
    return {
        "most": most,
        "line": "M" + " ".join(f"{x:g},{y:g}" for x, y in points),
        "across": [(place(at / 4, 0)[0], f"{at / 4:.0%}") for at in range(5)],
        "up": [(place(0, most * at / 2)[1], f"{most * at / 2:.1%}") for at in range(3)],
        "chosen": chosen,
        "coverage": round(100 * decision.coverage, 1),
    }


def _slices(report: EvaluationReport) -> dict[str, object]:
    """Lay out accuracies with their intervals, from a round number below all of them to 1."""
    blocks: dict[str, OverallScores] = {"all rows": report.overall, **report.slices}
    least = int(10 * min(one.accuracy.low for one in blocks.values())) / 10
    span = (1 - least) or 1

    def place(value: float) -> float:
        return round(4 + 112 * (value - least) / span, 1)

    return {
        "least": f"{least:g}",
        "overall": place(report.overall.accuracy.value),
        "lines": [
            {
                "name": name,
                "rows": one.num_samples,
                "text": score(one.accuracy),
                "rule": getattr(one, "description", ""),
                "ends": [
                    place(end) for end in (one.accuracy.low, one.accuracy.value, one.accuracy.high)
                ],
            }
            for name, one in blocks.items()
        ],
    }
