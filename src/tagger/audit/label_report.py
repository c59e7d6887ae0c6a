"""What a check of labels found, in the form of `audit.json`."""

from collections.abc import Sequence
from typing import Any

from tagger.data.items import Item
from tagger.oof.label_check import LabelCheck


def describe_labels(check: LabelCheck, items: Sequence[Item]) -> dict[str, Any]:
    """Put a check in the form of `audit.json`: estimates by tag, then the rows in doubt.

    Returns:
        `suspected` (count and `share` of the tagged rows), `by_tag` (rows, suspected rows and what
        they are taken for), `agreement` (share of rows whose tag the models choose), and `rows`:
        the suspected and the unlearned ones, the most doubtful first, by index.
    """
    by_tag: dict[str, dict[str, Any]] = {}
    for at, row in enumerate(check.rows):
        one = by_tag.setdefault(
            items[row].tag or "", {"rows": 0, "suspected": 0, "taken_for": {}, "agreed": 0}
        )
        one["rows"] += 1
        one["agreed"] += check.agreed[at]
        if check.suspected[at]:
            one["suspected"] += 1
            suggested = check.suggested[at]
            one["taken_for"][suggested] = one["taken_for"].get(suggested, 0) + 1
    doubtful = sorted(
        (at for at in range(len(check.rows)) if check.suspected[at] or check.unlearned[at]),
        key=lambda at: check.doubt_rank[at],
    )
    return {
        "suspected": sum(check.suspected),
        "share": sum(check.suspected) / len(check.rows),
        "unlearned": sum(check.unlearned),
        "agreement": sum(check.agreed) / len(check.rows),
        "by_tag": dict(sorted(by_tag.items())),
        "rows": [
            {
                "row": check.rows[at],
                "rank": check.doubt_rank[at],
                "credibility": check.credibility[at],
                "suspected": check.suspected[at],
                "unlearned": check.unlearned[at],
                "suggested": check.suggested[at],
                "probability": check.probability[at],
                "opinions": {name: list(one) for name, one in check.votes[at].items()},
            }
            for at in doubtful
        ],
    }
