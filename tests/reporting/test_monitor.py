import re
from pathlib import Path
from typing import Any

import pytest

from tagger.monitoring.report import MonitorReport
from tagger.reporting.html import render_html
from tagger.reporting.markdown import render_markdown
from tagger.reporting.monitor import monitor_page

SCORE = {"value": 0.95, "low": 0.9, "high": 0.97}


def make_report(**values: Any) -> MonitorReport:
    precision = {
        "name": "all", "published": 80, "expected": SCORE, "labelled": 30, "measured": SCORE,
        "evidence": 2.5, "reported": 8, "upheld": 3, "reports_evidence": 1.5, "broken": False,
    }  # fmt: skip
    score = {
        "name": "length", "evidence": 41.0, "share": 0.9, "direction": "rises", "since": 401,
        "before": 12.0, "after": 25.0,
    }  # fmt: skip
    alarm = {
        "kind": "drift", "row": 450, "date": "2026-03-04", "evidence": 20.5,
        "told": "length rises from row 401 on", "scores": [score],
        "words": [{"word": "diffusion", "before": 0, "after": 31, "z": 5.0}],
        "items": [{"row": 440, "id": "x1", "text": "A <b>long</b> text"}],
    }  # fmt: skip
    stretches = [
        {
            "first_row": at, "first_date": "", "rows": 25, "published": 20, "confidence": 22.0,
            "tags": [20, 5], "expected": 19.0, "labelled": 2, "right": 1, "evidence": [0.9, 0.9],
            "highest": 1.2,
        }
        for at in (1, 26, 51)
    ]  # fmt: skip
    plain: dict[str, Any] = {
        "run": "a-run", "tags": ["fruit", "metal"], "rows": 480, "unanswered": 3, "repeated": 7,
        "alpha": 0.05, "drift": "alarm", "watched": 240, "evidence": 20.5, "scores": [score],
        "home": ["confidence: lower"], "promise": 0.9, "kept": "steady", "reports": "steady",
        "estimate_valid": False,
        "estimate_assumes": "all is well", "precision": [precision], "alarms": [alarm],
        "timeline": {"step": 25, "stretches": stretches},
        "years": [
            stretches[0] | {"year": 2025, "drift": "alarm", "changed": ["length rises; more often: "
             "diffusion"], "estimate_valid": False},
            stretches[1] | {"year": 2026, "drift": "steady", "changed": [], "estimate_valid": True},
        ],
    }  # fmt: skip
    return MonitorReport.model_validate(plain | values)


def test_the_page_says_what_changed_and_that_the_estimate_is_not_valid(tmp_path: Path) -> None:
    page = monitor_page(make_report(), tmp_path)
    text = render_markdown(page, tmp_path).replace("\\", "")
    assert "The content changed, row 450 (2026-03-04): length rises from row 401 on." in text
    assert "diffusion: 0 items before, 31 since" in text
    assert "not valid, an alarm stands" in text
    assert "0.950 [0.900, 0.970]" in text
    assert re.search(r"\| all +\| 80 .*\| 8 +\| 10\.0% +\| 3 +\| 1\.50 +\|", text)
    of_years = re.findall(
        r"^\| (202\d) +\| 25 +\| (\w+) +\| (.*?) +\| 1\.2 .*\| (.*?) +\|$", text, re.M
    )
    changed = "length rises; more often: diffusion"
    assert of_years == [("2025", "alarm", changed, "0.950 *"), ("2026", "steady", "", "0.950")]
    assert re.search(r"\| 2026 +\| 80\.0% +\| 20\.0% +\|", text)
    assert "That is no drift, and no alarm" in text
    html = render_html(page)
    assert "A &lt;b&gt;long&lt;/b&gt; text" in html
    assert html.count("<img") == 4
    assert page.summary


def test_a_stream_of_which_little_is_known_has_a_page(tmp_path: Path) -> None:
    report = make_report(
        drift="too few", kept="too few", promise=None, precision=[], alarms=[], home=[], years=[],
        timeline={"step": 25, "stretches": []},
    )  # fmt: skip
    html = render_html(monitor_page(report, tmp_path))
    assert "nothing is promised" in html
    assert "not valid, too few items" in html
    assert "<img" not in html
    assert "Year by year" not in html


@pytest.mark.parametrize("accepted", [True, False])
def test_an_alarm_that_was_accepted_warns_no_more(tmp_path: Path, accepted: bool) -> None:
    alarms = [one.model_copy(update={"accepted": accepted}) for one in make_report().alarms]
    page = monitor_page(make_report().model_copy(update={"alarms": alarms}), tmp_path)
    assert ("Accepted." in render_markdown(page, tmp_path)) == accepted
