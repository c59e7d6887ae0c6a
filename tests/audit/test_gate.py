import pytest

from tagger.audit.gate import failed_conditions, parse_conditions
from tagger.errors import UserError


@pytest.fixture
def audit():
    doubt = {"suspected": True, "settled": None}
    group = {"kind": "near", "conflict": True, "across": False, "settled": False}
    return {
        "schema": {"problems": 2},
        "repeats": {
            "kinds": {"near": {"repeated_rows": 3}},
            "groups": [
                group,
                group | {"kind": "text"},
                group | {"settled": True},
                group | {"conflict": False},
            ],
        },
        "labels": {"rows": [doubt, doubt | {"settled": {}}, doubt | {"suspected": False}]},
        "tags": {"rows": {"fruit": 15, "metal": 5}, "absent": []},
        "coverage": {"kind": {"paper": {"thin": True}, "post": {"thin": False}}},
        "drift": {"auc": 0.7},
    }


def failures(audit, *texts):
    return failed_conditions(audit, parse_conditions(texts))


def test_each_measure_counts_what_is_still_open(audit):
    assert failures(audit, "schema", "conflicts", "repeats>2", "thin-slices", "drift>0.65") == [
        "schema is 2, allowed is 0",
        "conflicts is 1, allowed is 0",
        "repeats is 3, allowed is 2",
        "thin-slices is 1, allowed is 0",
        "drift is 0.7, allowed is 0.65",
    ]
    assert failures(audit, "label-errors>0.04") == ["label-errors is 0.05, allowed is 0.04"]


def test_a_limit_may_be_reached_but_not_passed(audit):
    assert failures(audit, "leakage, absent-tags,label-errors > 0.05", "schema>2") == []


def test_what_cannot_be_measured_fails(audit):
    assert failures(audit | {"labels": None, "drift": None}, "label-errors>1,drift>1") == [
        "label-errors could not be measured in this file",
        "drift could not be measured in this file",
    ]


def test_all_mistakes_are_listed(audit):
    with pytest.raises(UserError) as caught:
        parse_conditions(["conflict", "schema<3", "drift>0.6"])
    assert "did you mean 'conflicts'" in str(caught.value)
    assert "'schema<3'" in str(caught.value)
