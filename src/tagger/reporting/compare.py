"""Builds the pages of comparisons."""

from tagger.compare.report import (
    ApproachesReport,
    ComparisonReport,
    Difference,
    FewLabelsReport,
    SourcesReport,
)
from tagger.reporting.numbers import difference, number
from tagger.reporting.page import Block, Listing, Page, Table, Text, numeric

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
OF_SOURCES = ("weighted F1", "macro F1", "published", "its P")
"""Of these a comparison of sources has one each."""


def comparison_page(report: ComparisonReport) -> Page:
    """Build the page of a comparison of any kind; the terminal shows all of it."""
    match report:
        case ApproachesReport():
            title, blocks = f"Approaches on {report.source}", _approaches(report)
        case FewLabelsReport():
            title, blocks = "Approaches on few labels", _few_labels(report)
        case SourcesReport():
            title, blocks = f"Approaches on {' and '.join(report.sources)}", _sources(report)
        case _:
            raise TypeError(type(report).__name__)
    return Page(title, blocks, blocks)


def _approaches(report: ApproachesReport) -> list[Block]:
    rows = []
    for name, one in report.approaches.items():
        cells = {title: number(one.scores[key], 4) for title, key in COLUMNS.items()}
        for title in ("weighted F1", "macro F1"):
            cells[title] += f" ({number(one.scores[COLUMNS[title] + '_sd'], 4)})"
        costs = [number(one.costs.p50_ms, 2), number(one.costs.p99_ms, 2)]
        size = number(one.costs.mib, 1)
        rows.append([name, *cells.values(), number(one.seconds, 1), *costs, size])
    scores = list(report.differences)
    pairs = []
    for same in zip(*report.differences.values(), strict=True):
        pairs.append([f"{same[0].one} minus {same[0].other}", *map(_interval, same)])
    promise = report.promise
    return [
        Text(
            f"{report.source}: {report.rows} rows, {report.folds} folds x {report.seeds} seeds, "
            "out of fold; in brackets the standard deviation over seeds"
        ),
        Table(["approach", *numeric([*COLUMNS, "train s", "p50 ms", "p99 ms", "MiB"])], rows),
        Text(
            "published: share of the items that a threshold policy publishes which promises a "
            f"precision of {promise.target_precision:g} with {promise.confidence:.0%} confidence; "
            "AURC: mean share of wrong tags over all coverages; ECE: after temperature scaling."
        ),
        Text("Better in weighted F1, by intervals that hold for all pairs at once (95 %):"),
        Listing(
            [
                f"{name} than: {', '.join(one.better_than) or 'none'}"
                for name, one in report.approaches.items()
            ]
        ),
        Table(["difference (*: leaves out 0)", *(one.replace("_", " ") for one in scores)], pairs),
    ]


def _few_labels(report: FewLabelsReport) -> list[Block]:
    names = list(next(iter(report.labels.values())))
    rows, proven = [], []
    for few, results in report.labels.items():
        scores = [f"{results[n].weighted_f1:.3f} / {results[n].macro_f1:.3f}" for n in names]
        rows.append([few, *scores])
        better = [
            f"{name} than {', '.join(one.better_than)}"
            for name, one in results.items()
            if one.better_than
        ]
        proven.append(f"{few}: {'; '.join(better) or 'none'}")
    return [
        Table(["labels a tag, at most", *numeric(names)], rows),
        Text("weighted / macro F1. Better in weighted F1, by simultaneous intervals:"),
        Listing(proven),
    ]


def _sources(report: SourcesReport) -> list[Block]:
    sources = list(report.sources)
    head = [f"{source}: {title}" for source in sources for title in OF_SOURCES]
    rows = []
    for name, results in report.approaches.items():
        for trained, scores in results.items():
            cells = [scores[source][COLUMNS[title]] for source in sources for title in OF_SOURCES]
            rows.append([name, trained, *(number(cell, 4) for cell in cells)])
    gains = [
        [source, f"{pair.one} minus {pair.other}", _interval(pair)]
        for source, pairs in report.gains_of_both.items()
        for pair in pairs
    ]
    return [
        Table(["approach", "trained on", *numeric(head)], rows),
        Table(["scored on", "difference (*: leaves out 0)", "weighted F1"], gains),
    ]


def _interval(one: Difference) -> str:
    return difference(one, 4) + (" *" if one.proven else "")
