from pathlib import Path
from typing import Any

import pytest

from tagger.build.report import BuildPlan, BuildReport, Candidate, Published
from tagger.environment import describe_environment
from tagger.reporting.build import build_page, headline
from tagger.reporting.markdown import render_markdown


def candidate(name: str, **given: Any) -> Candidate:
    values = {
        "name": name, "seconds": 12.3, "weighted_f1": 0.871, "macro_f1": 0.865, "aurc": 0.0123,
        "published": 0.61, "precision": 0.991, "p50_ms": 0.61, "p99_ms": 0.84, "mib": 6.4,
        "quick": True,
    }  # fmt: skip
    return Candidate.model_validate(values | given)


@pytest.fixture
def report() -> BuildReport:
    """A build of three steps, of which the last was chosen."""
    plan = BuildPlan(
        asked={},
        rows=5000,
        tags={"a": 2600, "b": 2400},
        folds=None,
        models=["words", "encoder"],
        student=True,
        texts=0,
        pass_ms=4.56,
        expected_seconds={"words": 20.0, "small": 100.0},
        notes=["15% of the rows are held out"],
    )
    slow = {"quick": False, "published": None, "precision": None, "p99_ms": 9.0}
    return BuildReport(
        name="first",
        plan=plan,
        promise=0.98,
        confidence=0.95,
        judged_on="750 rows that no model was trained on",
        candidates=[candidate("words"), candidate("encoder", **slow), candidate("small")],
        chosen="small",
        reasons=["small takes the place of words: it publishes more by the promise"],
        published=Published(rows=750, share=0.6, precision=0.987, weighted_f1=0.88, macro_f1=0.87),
        seconds=180.0,
        notes=[],
        environment=describe_environment(),
    )


def test_a_line_says_what_is_published_what_is_asked_and_how_long_an_item_takes(
    report: BuildReport,
) -> None:
    assert headline(report) == (
        "first (small): published 60.0% of 750 test rows at a promise of 0.98, 98.7% of it right; "
        "400 per 1,000 to a person; p99 0.840 ms"
    )
    # Without test rows it is about those that the runs were compared on.
    without = report.model_copy(update={"published": None})
    assert headline(without).startswith("first (small): published 61.0% at a promise of 0.98, 99.1")


def test_nothing_published_is_said_without_a_precision(report: BuildReport) -> None:
    nothing = Published(rows=75, share=0.0, precision=None, weighted_f1=0.5, macro_f1=0.5)
    line = headline(report.model_copy(update={"published": nothing}))
    assert "published 0.0% of 75 test rows at a promise of 0.98; 1000 per 1,000 to a person" in line


def test_each_step_has_a_row_and_the_reasons_are_told(report: BuildReport) -> None:
    text = render_markdown(build_page(report), Path())
    rows = [
        line for line in text.splitlines() if line.startswith(("| words", "| encoder", "| sma"))
    ]
    assert len(rows) == 3
    assert "too slow" in rows[1]
    assert rows[1].count(" - ") == 2  # neither share nor precision
    assert "chosen" in rows[2]
    assert "Small takes the place of words: it publishes more by the promise." in text
    assert "15% of the rows are held out." in text
