from pathlib import Path
from typing import Any

import pytest

from tagger.compare.report import (
    ApproachesReport,
    ComparisonReport,
    FewLabelsReport,
    SourcesReport,
)
from tagger.environment import describe_environment
from tagger.reporting.compare import COLUMNS, comparison_page
from tagger.reporting.markdown import render_markdown
from tagger.reporting.page import Page

ENVIRONMENT = describe_environment()


def pair(one: str, other: str, proven: bool) -> dict[str, Any]:
    return {
        "one": one, "other": other, "value": 0.05, "low": 0.01 if proven else -0.01,
        "high": 0.09, "proven": proven,
    }  # fmt: skip


def markdown(page: Page) -> list[str]:
    assert page.blocks == page.summary  # the terminal shows all of it
    text = render_markdown(page, Path()).replace("\\", "")
    return [" ".join(line.split()) for line in text.splitlines()]


def test_approaches_have_their_scores_costs_and_differences() -> None:
    scores = dict.fromkeys(COLUMNS.values(), 0.8) | {"weighted_f1_sd": 0.01, "macro_f1_sd": 0.02}
    result = {
        "scores": scores | {"published_precision": None}, "seconds": 1.5, "better_than": ["rules"],
        "costs": {"mib": 0.5, "p50_ms": 0.25, "p99_ms": 0.5, "threads": 1},
    }  # fmt: skip
    report = ApproachesReport.model_validate(
        {
            "environment": ENVIRONMENT, "source": "toy", "rows": 60, "seeds": 2, "folds": 3,
            "promise": {"target_precision": 0.9, "confidence": 0.95},
            "approaches": {"linear": result, "rules": result | {"better_than": []}},
            "differences": {"weighted_f1": [pair("linear", "rules", True)]},
        }
    )  # fmt: skip
    lines = markdown(comparison_page(report))
    assert lines[0] == "# Approaches on toy"
    (linear,) = [line for line in lines if line.startswith("| linear |")]
    assert "0.8000 (0.0100)" in linear and "0.8000 (0.0200)" in linear
    assert linear.endswith("| - | 1.5 | 0.25 | 0.50 | 0.5 |")
    assert "- linear than: rules" in lines and "- rules than: none" in lines
    assert "| linear minus rules | +0.0500 [+0.0100, +0.0900] * |" in lines


def test_few_labels_have_a_row_a_number() -> None:
    one = {"weighted_f1": 0.7, "macro_f1": 0.6, "better_than": []}
    labels = {"8": {"linear": one | {"better_than": ["rules"]}, "rules": one}}
    report = FewLabelsReport.model_validate({"environment": ENVIRONMENT, "labels": labels})
    lines = markdown(comparison_page(report))
    assert "| 8 | 0.700 / 0.600 | 0.700 / 0.600 |" in lines
    assert "- 8: linear than rules" in lines


def test_sources_have_a_column_each() -> None:
    scores = dict.fromkeys(COLUMNS.values(), 0.8)
    trained = {"a": scores, "b": scores | {"weighted_f1": 0.5}}
    report = SourcesReport.model_validate(
        {
            "environment": ENVIRONMENT, "sources": {"a": 10, "b": 20}, "seeds": 1, "folds": 3,
            "approaches": {"linear": {"a": trained, "both": trained}},
            "gains_of_both": {"b": [pair("linear, both", "linear, own", False)]},
        }
    )  # fmt: skip
    lines = markdown(comparison_page(report))
    assert lines[0] == "# Approaches on a and b"
    own, other = " | ".join(["0.8000"] * 4), " | ".join(["0.5000", *["0.8000"] * 3])
    assert f"| linear | both | {own} | {other} |" in lines
    assert "| b | linear, both minus linear, own | +0.0500 [-0.0100, +0.0900] |" in lines


def test_another_kind_is_no_comparison() -> None:
    with pytest.raises(TypeError, match="ComparisonReport"):
        comparison_page(ComparisonReport(environment=ENVIRONMENT))
