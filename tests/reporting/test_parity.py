from pathlib import Path

from tagger.compression.report import (
    BeforeAfter,
    ParityReport,
)
from tagger.reporting.markdown import render_markdown
from tagger.reporting.parity import parity_page

PLAIN = {
    "gate": "skipped",
    "broken": ["max_mib: 9.0 MiB, allowed 8"],
    "texts": [
        {
            "name": "toy",
            "rows": 60,
            "decisions": 1,
            "tags": 2,
            "mean_shift": 0.01,
            "max_shift": 0.2,
        }
    ],
    "labelled": {
        "explanation": "the 24 rows of toy that the run was not trained on",
        "rows": 24,
        "ece_adaptive": {"before": 0.1, "after": 0.12},
        "f1": {"fruit": {"before": 0.9, "after": 0.85, "rows": 8}},
        "slices": {},
    },
    "size_mib": {"before": 80.0, "after": 9.0},
    "limits": {},
    "worst": ["row t1 of toy"],
}


def test_the_page_says_what_changed_and_which_limits_are_broken() -> None:
    assert BeforeAfter(before=0.5, after=0.25).after == 0.25
    fields = ParityReport.model_fields
    report = ParityReport.model_validate(
        {key: value for key, value in PLAIN.items() if key in fields}
    )
    page = parity_page(report, "toy, compressed to int8")
    text = render_markdown(page, Path())
    for part in (
        "# toy, compressed to int8",
        "limits were not enforced",
        "max\\_mib: 9.0 MiB, allowed 8",
        "80.0 MiB before, 9.0 after",
        "the 24 rows of toy that the run was not trained on",
        "-0.0500",
        "row t1 of toy",
    ):
        assert part in text
