from pathlib import Path
from typing import Any

import pytest

from tagger.audit.report import AuditReport
from tagger.environment import describe_environment
from tagger.reporting.audit import audit_page
from tagger.reporting.html import render_html
from tagger.reporting.markdown import render_markdown
from tagger.reporting.terminal import print_page

NOTHING = {"groups": 0, "repeated_rows": 0, "conflicts": 0, "across": 0}


def repeated(row: int) -> dict[str, Any]:
    return {
        "row": row, "id": f"r{row}", "file": "items.csv", "place": f"row {row}", "part": "train",
        "title": f"title {row}", "tag": "fruit",
    }  # fmt: skip


def suspected(rank: int, **changes: Any) -> dict[str, Any]:
    given = {
        "row": rank, "rank": rank, "credibility": 0.1, "suspected": True, "unlearned": False,
        "suggested": "metal", "probability": 0.81,
        "predictions": {"words": ["metal", 0.9], "meaning": ["metal", 0.72]}, "id": f"s{rank}",
        "place": f"row {rank} (line {rank + 1})", "tag": "fruit", "title": f"<doubtful {rank}>",
        "description": "word " * 100, "settled": None,
    }  # fmt: skip
    return given | changes


def period(first: str, last: str, distance: float | None) -> dict[str, Any]:
    return {
        "first_day": first, "last_day": last, "rows": 50, "tags": {"fruit": 30, "metal": 20},
        "tag_distance": distance,
    }  # fmt: skip


@pytest.fixture
def plain() -> dict[str, Any]:
    """An audit that found something of each kind."""
    settled = {"by": "Ada", "on": "2024-05-01", "why": "it is"}
    words = {"title": [1, 2, 3, 4, 5, 6, 7], "description": [0, 1, 5, 12, 20, 30, 40]}
    word = {"word": "llm", "before": 1, "after": 30, "z": 5.0}
    group = {"kind": "near", "conflict": True, "across": True, "settled": False}
    return {
        "data": {
            "path": "items.csv", "file_sha256": "0" * 64, "version": "abcdef0123456789",
            "rows": 1200, "columns": ["id"], "fields": {}, "notes": ["read as CSV"],
            "against": ["old.csv"], "split_column": None,
        },
        "problems": {"count": 30, "first": [f"row {row}: no id" for row in range(20)]},
        "tags": {
            "rows": {"fruit": 700, "metal": 480}, "untagged": 20, "absent": [], "imbalance": 1.5,
        },
        "sample": {
            "years": {"2020": {"fruit": 400, "metal": 300}}, "undated": 500,
            "words": {"fruit": words, "metal": words},
            "no_description": {"fruit": 3, "metal": 0},
            "p_values": {"created_on": 0.0001, "words": 0.5},
        },
        "repeats": {
            "kinds": {
                "near": {"groups": 1, "repeated_rows": 21, "conflicts": 1, "across": 1},
                "meaning": NOTHING,
            },
            "groups": [group | {"rows": [repeated(row) for row in range(22)]}],
        },
        "labels": {
            "suspected": 2, "share": 0.042, "unlearned": 1, "agreement": 0.9,
            "by_tag": {
                "fruit": {"rows": 700, "suspected": 2, "taken_for": {"metal": 2}, "agreed": 630},
            },
            "rows": [suspected(1), suspected(2, unlearned=True), suspected(3, settled=settled)],
        },
        "coverage": {
            "year": {
                "2020": {"rows": 700, "tags": {"fruit": 400}, "agreement": 0.9, "thin": False},
                "2021": {"rows": 3, "tags": {"metal": 3}, "agreement": None, "thin": True},
            }
        },
        "drift": {
            "periods": [
                period("2020-01-01", "2020-03-31", None), period("2021-01-01", "2021-03-31", 0.25),
            ],
            "p_value": 0.01, "auc": 0.85, "rise": [word], "fall": [],
        },
        "decisions": 1, "model": None, "made_on": "2024-06-01",
        "environment": describe_environment(),
    }  # fmt: skip


def lines_of(plain: dict[str, Any]) -> list[str]:
    page = audit_page(AuditReport.model_validate(plain))
    text = render_markdown(page, Path()).replace("\\", "")
    return [" ".join(line.split()) for line in text.splitlines()]


def printed(plain: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    print_page(audit_page(AuditReport.model_validate(plain)))
    return capsys.readouterr().out


def test_the_page_says_what_was_found(plain: dict[str, Any]) -> None:
    lines = lines_of(plain)
    for line in (
        "# Audit of items.csv",
        "Version abcdef012345, examined on 2024-06-01, against old.csv.",
        "**Warning:** Schema: 30 problems; the rows concerned are left out.",
        "- and 10 more",
        "| fruit | 700 | 58.3% | 4 | 12 | 3 |",
        "| (none) | 20 | 1.7% | | | |",
        "The tags differ in date (Kruskal-Wallis p = 0.0001).",
        "| 2020 | 700 | 400 | 300 |",
        "| near | 1 | 21 | 1 | 1 |",
        "| meaning | not looked for | | | |",
        "### Groups: 1",
        "| fruit | 700 | 90.0% | 2 | metal 2 |",
        "## Suspected label errors",
        "| 2021 | 3 | | 0 | 3 | thin |",
        "| 2021-01-01 | 2021-03-31 | 50 | 30 | 20 | 0.250 |",
    ):
        assert line in lines, line
    (group,) = [line for line in lines if line.startswith("| near | conflict leak |")]
    assert "title 0 (r0, row 0, train: fruit)" in group
    assert group.endswith("title 19 (r19, row 19, train: fruit); and 2 more |")
    assert lines[-1] == (
        "Drift from 2020-01-01..2020-03-31 to 2021-01-01..2021-03-31: texts told apart with AUC "
        "0.85; rising llm (1 to 30); falling none."
    )


def test_a_suspected_label_stands_with_its_item_and_what_each_model_says(
    plain: dict[str, Any],
) -> None:
    html = render_html(audit_page(AuditReport.model_validate(plain)))
    _, _, table = html.partition("<h2>Suspected label errors</h2>")
    assert "<strong>&lt;doubtful 1&gt;</strong>" in table
    assert "<ul><li>s1, row 1 (line 2)</li></ul>" in table
    assert "<li>words metal 0.90</li><li>meaning metal 0.72</li>" in table
    assert "suspected, not learned" in table
    assert "settled by Ada: it is" in table
    assert "word...</p>" in table


def test_the_terminal_shows_what_is_to_be_done_first(
    plain: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(plain, capsys)
    for part in (
        "items.csv: 1,200 rows, version abcdef012345",
        "note: read as CSV",
        "and 15 more",
        "Years: 2020: 700; 500 rows without a date.",
        "Labels: 2 rows (4.2%) are probably wrong; 1 that no model learns",
        "<doubtful 1>; s1, row 1 (line 2)",
        "Coverage: thin slices: year '2021' (3).",
        "Drift from ",
    ):
        assert part in text, part
    assert "<doubtful 3>" not in text, "a person has settled it"


def test_what_was_not_found_or_not_measured_is_said(
    plain: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plain |= {"labels": None, "drift": None, "coverage": {}, "model": "minilm"}
    plain["problems"] = {"count": 0, "first": []}
    plain["repeats"] = {"kinds": {"near": NOTHING, "meaning": NOTHING}, "groups": []}
    plain["sample"] |= {"years": {}, "p_values": {"created_on": None, "words": None}}
    text = printed(plain, capsys)
    for part in (
        "Schema: every row can be used.",
        "Labels: not checked",
        "no row has a date",
        "Coverage: no slice is thin.",
        "Drift: not measured",
    ):
        assert part in text, part
    lines = lines_of(plain)
    assert "## Labels" in lines and "## Drift" in lines
    assert "| meaning | 0 | 0 | 0 | 0 |" in lines
    assert not [line for line in lines if "Kruskal" in line or "Groups:" in line]
