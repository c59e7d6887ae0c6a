"""Describes the composition of a file: tags, sample over time and length, coverage of slices."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from tagger.audit.report import Coverage, Sample, TagCounts, TagDependence, WordCounts
from tagger.audit.table import Table
from tagger.data.items import Item
from tagger.evaluation.slices import SLICES

MOST_VALUES = 100
"""A column with more different values than this is no facet: ids, names, links."""

THIN = 20
"""Rows under which a slice is too small to learn from or to be judged by."""

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def describe_tags(items: Sequence[Item], tag_names: Sequence[str]) -> TagCounts:
    """Count the rows of each approved tag, and of none."""
    counts = Counter(item.tag for item in items)
    rows = {tag: counts[tag] for tag in tag_names}
    fewest = min(rows.values(), default=0)
    return TagCounts(
        rows=rows,
        untagged=counts[None],
        absent=[tag for tag, count in rows.items() if not count],
        imbalance=max(rows.values()) / fewest if fewest else None,
    )


def describe_sample(items: Sequence[Item]) -> Sample:
    """Describe the sample by time and by length, for all rows and by tag.

    Kruskal-Wallis tests ask whether the tags have the same distribution of time and of length:
    where they do not, a model can learn the date or the length in place of the subject.
    """
    years: dict[str, Counter[str]] = defaultdict(Counter)
    by_tag: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.created_on is not None:
            years[str(item.created_on.year)][item.tag or ""] += 1
        if item.tag is not None:
            by_tag[item.tag].append(item)
    dates = [
        [item.created_on.timestamp() for item in rows if item.created_on is not None]
        for rows in by_tag.values()
    ]
    lengths = [[float(len(item.text.split())) for item in rows] for rows in by_tag.values()]
    every = {"all": items, **by_tag}
    return Sample(
        years={year: dict(years[year]) for year in sorted(years)},
        undated=sum(item.created_on is None for item in items),
        words={tag: _words(rows) for tag, rows in every.items()},
        no_description={
            tag: sum(not item.description for item in rows) for tag, rows in every.items()
        },
        p_values=TagDependence(created_on=_kruskal(dates), words=_kruskal(lengths)),
    )


def describe_coverage(
    table: Table, credited: Sequence[bool] | None
) -> dict[str, dict[str, Coverage]]:
    """Count the rows of each slice: the named ones, and each value of each facet of the file.

    Args:
        table: The file.
        credited: For each row, whether the cross-validated models predict its tag; None where
            there are no tags.

    Returns:
        By facet (`slice`, or a column's name) and value, the largest first.
    """
    facets: dict[str, list[set[str]]] = {
        "slice": [
            {name for name, contains in SLICES.items() if contains(item)} for item in table.items
        ]
    }
    for column, values in table.columns.items():
        if 1 < len(set(values)) <= min(MOST_VALUES, len(values) // 2):
            facets[column] = [{value or "(empty)"} for value in values]
    coverage: dict[str, dict[str, Coverage]] = {}
    for facet, memberships in facets.items():
        rows: dict[str, list[int]] = defaultdict(list)
        for row, names in enumerate(memberships):
            for name in names:
                rows[name].append(row)
        coverage[facet] = {
            name: Coverage(
                rows=len(members),
                tags=dict(Counter(table.items[row].tag or "" for row in members)),
                agreement=None
                if credited is None
                else sum(credited[row] for row in members) / len(members),
                thin=len(members) < THIN,
            )
            for name, members in sorted(rows.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        }
    return coverage


def _words(items: Sequence[Item]) -> WordCounts:
    titles = [len(item.title.split()) for item in items]
    descriptions = [len(item.description.split()) for item in items if item.description]
    title, description = (
        np.quantile(counts, QUANTILES).tolist() if counts else []
        for counts in (titles, descriptions)
    )
    return WordCounts(title=title, description=description)


def _kruskal(samples: Sequence[Sequence[float]]) -> float | None:
    from scipy.stats import kruskal

    usable = [sample for sample in samples if len(sample) >= 5]
    if len(usable) < 2 or len({value for sample in usable for value in sample}) < 2:
        return None
    return float(kruskal(*usable).pvalue)
