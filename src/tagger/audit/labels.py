"""Describes suspected label errors: estimates by tag, then the suspected rows."""

from collections import Counter
from collections.abc import Mapping

from tagger.audit.report import Labels, Settlement, SuspectedLabel, TagLabels
from tagger.audit.review_log import ReviewDecision
from tagger.audit.table import Table
from tagger.oof.label_check import LabelCheck


def describe_labels(
    check: LabelCheck, table: Table, decisions: Mapping[int, ReviewDecision]
) -> Labels:
    """Put the predictions of cross-validated models beside the labels of a file.

    Args:
        check: What the models predicted for each tagged row.
        table: The file.
        decisions: Those that settle a row, by the row's index.
    """
    tags = [table.items[row].tag or "" for row in check.rows]
    by_tag = {}
    for tag in sorted(set(tags)):
        members = [at for at, one in enumerate(tags) if one == tag]
        suspected = [at for at in members if check.suspected[at]]
        by_tag[tag] = TagLabels(
            rows=len(members),
            suspected=len(suspected),
            taken_for=dict(Counter(check.suggested[at] for at in suspected)),
            agreed=sum(check.agreed[at] for at in members),
        )
    rows = []
    for at, row in enumerate(check.rows):
        if check.suspected[at] or check.unlearned[at]:
            item, decision = table.items[row], decisions.get(row)
            settled = None
            if decision is not None:
                settled = Settlement(by=decision.by, on=decision.on, why=decision.why)
            rows.append(
                SuspectedLabel(
                    row=row,
                    rank=check.doubt_rank[at],
                    credibility=check.credibility[at],
                    suspected=check.suspected[at],
                    unlearned=check.unlearned[at],
                    suggested=check.suggested[at],
                    probability=check.probability[at],
                    predictions=check.votes[at],
                    id=item.id,
                    place=table.places[row],
                    tag=tags[at],
                    title=item.title,
                    description=item.description,
                    settled=settled,
                )
            )
    return Labels(
        suspected=sum(check.suspected),
        share=sum(check.suspected) / len(tags),
        unlearned=sum(check.unlearned),
        agreement=sum(check.agreed) / len(tags),
        by_tag=by_tag,
        rows=sorted(rows, key=lambda one: one.rank),
    )
