"""Tables of comparisons, in Markdown: they read well in a terminal, and can be pasted."""

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {
    "weighted P": "weighted_precision",
    "weighted R": "weighted_recall",
    "weighted F1": "weighted_f1",
    "macro P": "macro_precision",
    "macro R": "macro_recall",
    "macro F1": "macro_f1",
    "P of surest 80 %": "precision_at_80%",
    "90 %": "precision_at_90%",
    "95 %": "precision_at_95%",
    "AURC": "aurc",
    "ECE raw": "ece_before",
    "ECE": "ece",
    "published": "coverage",
    "its P": "published_precision",
}
SHOWN = ("weighted_f1", "macro_f1", "coverage", "published_precision")
"""Of these a matrix of sources has one each."""


def show_rungs(result: Mapping[str, Any]) -> str:
    """Lay out `compare_rungs`: a table of approaches, and what is better than what."""
    head = ["approach", *COLUMNS, "train s", "p50 ms", "p99 ms", "MiB"]
    rows = []
    for name, one in result["rungs"].items():
        cells = [_number(one[key], 4) for key in COLUMNS.values()]
        for place, score in ((2, "weighted_f1"), (5, "macro_f1")):
            cells[place] += f" ({one[f'{score}_sd']:.4f})"
        costs = [_number(one["seconds"], 1), _number(one["p50_ms"], 2), _number(one["p99_ms"], 2)]
        rows.append([name, *cells, *costs, _number(one["mib"], 1)])
    promise = result["promise"]
    lines = [
        f"{result['source']}: {result['rows']} rows, {result['folds']} folds x {result['seeds']} "
        "seeds, out of fold; in brackets the standard deviation over seeds",
        "",
        *markdown_table(head, rows),
        "",
        f"published: share of the items that a threshold policy publishes which promises a "
        f"precision of {promise['precision']:g} with {promise['confidence']:.0%} confidence; AURC: "
        "mean share of wrong tags over all coverages; ECE: after temperature scaling.",
        "",
        "Better in weighted F1, by intervals that hold for all pairs at once (95 %):",
    ]
    for name, one in result["rungs"].items():
        better = ", ".join(one["better_than"]) or "none"
        lines.append(f"- {name} than: {better}")
    return "\n".join(lines)


def show_differences(result: Mapping[str, Any]) -> str:
    """Lay out all pairs of `compare_rungs` with their simultaneous intervals."""
    scores = list(result["differences"])
    head = ["difference", *(score.replace("_", " ") for score in scores)]
    rows = []
    for at, first in enumerate(result["differences"][scores[0]]):
        pairs = [result["differences"][score][at] for score in scores]
        rows.append([f"{first['one']} minus {first['other']}", *map(_interval, pairs)])
    return "\n".join(markdown_table(head, rows))


def show_few_labels(table: Mapping[str, Any]) -> str:
    """Lay out `compare_few_labels`."""
    rungs = list(next(iter(table.values())))
    rows = [
        [few, *(f"{by_rung[r]['weighted_f1']:.3f} / {by_rung[r]['macro_f1']:.3f}" for r in rungs)]
        for few, by_rung in table.items()
    ]
    lines = markdown_table(["labels a tag, at most", *rungs], rows)
    lines += ["", "weighted / macro F1. Better in weighted F1, by simultaneous intervals:"]
    for few, by_rung in table.items():
        proven = [
            f"{r} than {', '.join(o['better_than'])}"
            for r, o in by_rung.items()
            if o["better_than"]
        ]
        lines.append(f"- {few}: {'; '.join(proven) or 'none'}")
    return "\n".join(lines)


def show_sources(result: Mapping[str, Any]) -> str:
    """Lay out `compare_sources`: a row for each approach and what it was trained on."""
    sources = list(result["sources"])
    head = ["approach", "trained on"]
    titles = {key: title for title, key in COLUMNS.items()}
    head += [f"{source}: {titles[score]}" for source in sources for score in SHOWN]
    rows = [
        [rung, trained, *(_number(by_source[s][score], 4) for s in sources for score in SHOWN)]
        for rung, cells in result["rungs"].items()
        for trained, by_source in cells.items()
    ]
    lines = [*markdown_table(head, rows), ""]
    gains = [
        [source, f"{pair['one']} minus {pair['other']}", _interval(pair)]
        for source, pairs in result["gains_of_both"].items()
        for pair in pairs
    ]
    return "\n".join(lines + markdown_table(["scored on", "difference", "weighted F1"], gains))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown, whose columns line up as plain text too."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    pad = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines = ["| " + " | ".join(row) + " |" for row in pad]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(one: Mapping[str, Any]) -> str:
    star = "**" if one["proven"] else ""
    return f"{star}{one['value']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]{star}"
