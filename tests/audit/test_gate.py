import pytest

from tagger.audit.gate import MEASURES, failed_conditions, parse_conditions
from tagger.audit.report import (
    AuditReport,
    Coverage,
    Drift,
    InvalidRows,
    Labels,
    RepeatCounts,
    RepeatGroup,
    Repeats,
    Settlement,
    SuspectedLabel,
    TagCounts,
)
from tagger.errors import UserError


@pytest.fixture
def audit():
    """The parts of an audit that conditions look at."""

    def group(kind="near", *, conflict=True, across=False, settled=False):
        return RepeatGroup(kind=kind, conflict=conflict, across=across, settled=settled, rows=[])

    def row(*, suspected=True, settled=None):
        return SuspectedLabel.model_construct(suspected=suspected, settled=settled)

    settled = Settlement(by="Ada", on="2026-11-29", why="it rains")
    groups = [group(), group("text", across=True), group("meaning"), group(settled=True)]
    groups.append(group(conflict=False, across=True))
    near = RepeatCounts(groups=4, repeated_rows=3, conflicts=2, across=0)
    kind = {
        name: Coverage(rows=1, tags={}, agreement=None, thin=thin)
        for name, thin in (("paper", True), ("post", False))
    }
    return AuditReport.model_construct(
        problems=InvalidRows(count=2, first=[]),
        repeats=Repeats(kinds={"near": near}, groups=groups),
        labels=Labels.model_construct(
            rows=[row(), row(settled=settled), row(settled=settled), row(suspected=False)]
        ),
        tags=TagCounts(rows={"fruit": 15, "metal": 5}, untagged=0, absent=[], imbalance=3.0),
        coverage={"kind": kind},
        drift=Drift(periods=[], p_value=None, auc=0.7, rise=[], fall=[]),
    )


def failures(audit, *texts):
    return failed_conditions(audit, parse_conditions(texts))


def test_each_measure_counts_what_is_still_open(audit):
    assert failures(audit, "schema", "conflicts", "repeats>2", "thin-slices", "drift>0.65") == [
        "schema is 2, allowed is 0",
        "conflicts is 2, allowed is 0",
        "repeats is 3, allowed is 2",
        "thin-slices is 1, allowed is 0",
        "drift is 0.7, allowed is 0.65",
    ]
    assert failures(audit, "label-errors>0.04") == ["label-errors is 0.05, allowed is 0.04"]
    assert failures(audit, "leakage") == ["leakage is 1, allowed is 0"]


def test_a_limit_may_be_reached_but_not_passed(audit):
    assert failures(audit, "leakage>1, absent-tags,label-errors > 0.05", "schema>2") == []


def test_what_cannot_be_measured_fails(audit):
    assert failures(
        audit.model_copy(update={"labels": None, "drift": None}), "label-errors>1,drift>1"
    ) == [
        "label-errors could not be measured in this file",
        "drift could not be measured in this file",
    ]


def test_all_mistakes_are_listed(audit):
    with pytest.raises(UserError) as caught:
        parse_conditions(["conflict", "schema<3", "drift>0.6"])
    no_measure, no_condition = caught.value.problems
    assert no_measure.startswith("'conflict' is no measure (did you mean 'conflicts'?); there are ")
    assert no_measure.endswith(", ".join(MEASURES))
    assert no_condition.startswith("'schema<3': expected NAME or NAME>NUMBER")
    assert str(caught.value).startswith("--fail-on cannot be read:")
    assert caught.value.hint == "In a shell, quote conditions with a >."
