import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tagger.evaluation.report import EvaluationReport
from tagger.reporting.evaluation import evaluation_page
from tagger.reporting.html import render_html
from tagger.reporting.markdown import render_markdown
from tagger.reporting.page import Figure, Figures
from tagger.reporting.terminal import print_page

VOID = {"meta", "img", "br", "link", "input", "hr"}
BREAKS_OUT = (
    "</script><!--<script>]]></title></svg>{{ 7 * 7 }}\\u003c\u2028 | `code` [link](x)"
    "\" onload=\"alert(1)' autofocus='<img src=https://example.org/x.png>"
)
NONE = Figures([])


class Parsed(HTMLParser):
    """Collects what a page holds, and fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


def nasty(value: Any, tags: list[str], key: str = "") -> Any:
    """Change each text, and tags where they are keys, all in the same way."""
    if isinstance(value, dict):
        named = {k + BREAKS_OUT if k in tags else k: k for k in value}
        return {new: nasty(value[old], tags, old) for new, old in named.items()}
    if isinstance(value, list | tuple):
        return [nasty(part, tags) for part in value]
    kept = ("kind", "rows")
    return value + BREAKS_OUT if isinstance(value, str) and value and key not in kept else value


@pytest.fixture(scope="module")
def hostile(report: EvaluationReport) -> EvaluationReport:
    return EvaluationReport.model_validate(nasty(report.model_dump(), report.tags))


def html(report: EvaluationReport, figures: Figures = NONE) -> str:
    return render_html(evaluation_page(report, figures))


def directives(page: Parsed) -> dict[str, list[str]]:
    """The Content-Security-Policy of a page."""
    (policy,) = [one["content"] for one in page.all("meta") if "http-equiv" in one]
    parts = [one.split() for one in str(policy).split(";")]
    return {name: values for name, *values in parts}


def addresses(page: Parsed) -> list[str]:
    """What a page would load, were it allowed to."""
    names = ("src", "href", "xlink:href", "srcset", "poster", "data", "action", "formaction")
    return [str(one[name]) for _, one in page.seen for name in names if name in one]


def unpacked(rows: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(rows)))


def test_the_page_is_whole_and_asks_for_nothing(report: EvaluationReport) -> None:
    for one in (report, report.model_copy(update={"map": None})):
        text = html(one)
        page = Parsed(text)
        assert text.startswith("<!doctype html>")
        assert all(one.startswith("#") for one in addresses(page))
        assert not re.search(r"@import|url\(", text)
        for tag in ("link", "iframe", "object", "embed", "form", "base", "use", "image"):
            assert page.all(tag) == [], tag
        assert [name for _, seen in page.seen for name in seen if name.startswith("on")] == []
        assert directives(page)["default-src"] == ["'none'"]
    assert page.all("svg") == page.all("script") == [], "without a map there is nothing to explore"


def test_the_one_script_of_a_page_is_the_one_that_is_allowed(report: EvaluationReport) -> None:
    page = Parsed(html(report))
    rows, script = page.scripts
    assert page.all("script") == [{"type": "application/gzip", "id": "rows"}, {}]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert directives(page) == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "style-src": ["'unsafe-inline'"],
        "script-src": [f"'sha256-{digest}'"],
    }
    assert "\r" not in script, "a browser would read another line end, and refuse the script"
    assert not re.search(r"https?:|//\w+\.|fetch|XMLHttp|WebSocket|\bimport\b|\beval\b", script)
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script
    assert report.map is not None
    drawn = unpacked(rows)
    assert {row[0] for row in drawn["rows"]} == {row.id for row in report.map}
    assert drawn["total"] == len(drawn["rows"]) == sum(map(sum, report.confusion)) == 100


def test_texts_cannot_become_markup(hostile: EvaluationReport, tmp_path: Path) -> None:
    text = html(hostile)
    page = Parsed(text)
    rows = page.scripts[0]
    assert not set("<>&'\u2028") & set(rows), "in a script these could end it, or a string of it"
    assert all(row[1].endswith(BREAKS_OUT) for row in unpacked(rows)["rows"])
    assert text.count("<script") == text.count("</script") == 2
    assert BREAKS_OUT in page.text
    markdown = render_markdown(evaluation_page(hostile, NONE), tmp_path)
    assert "<script" not in markdown and "<img" not in markdown
    errors = markdown.partition("## Errors")[2].partition("## Provenance")[0]
    lines = [line for line in errors.splitlines() if line.startswith("| ") and "alert" in line]
    assert len(lines) == 23
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == 6, "a bar in a title must not add a column"


def test_no_text_of_a_report_changes_what_its_page_is_made_of(
    report: EvaluationReport, hostile: EvaluationReport
) -> None:
    page, plain = Parsed(html(hostile)), Parsed(html(report))
    assert [(tag, list(one)) for tag, one in page.seen] == [
        (tag, list(one)) for tag, one in plain.seen
    ]
    own = ("class", "id", "type", "name", "http-equiv", "content", "checked", "hidden")
    for (_, given), (_, expected) in zip(page.seen, plain.seen, strict=True):
        assert {name: given.get(name) for name in own} == {n: expected.get(n) for n in own}
    assert page.scripts[1] == plain.scripts[1]
    labels = [str(one.get("aria-label")) for _, one in page.seen]
    assert any(BREAKS_OUT in label for label in labels), "labels of groups hold such texts"


def test_figures_are_inside_the_page_and_linked_from_markdown(
    report: EvaluationReport, tmp_path: Path
) -> None:
    path = tmp_path / "plots" / "confusion.png"
    path.parent.mkdir()
    path.write_bytes(b"\x89PNG")
    page = evaluation_page(report, Figures([Figure(path, "23 errors.")]))
    (image,) = Parsed(render_html(page)).all("img")
    assert base64.b64decode(str(image["src"]).partition(",")[2]) == path.read_bytes()
    assert image["alt"] == "23 errors."
    assert "![23 errors.](plots/confusion.png)" in render_markdown(page, tmp_path)


def test_the_page_fits_phones_and_both_colour_schemes(report: EvaluationReport) -> None:
    text = html(report)
    page = Parsed(text)
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert viewport in page.all("meta")
    assert "prefers-color-scheme: dark" in text
    # A table that is wider than the screen scrolls by itself, with the keyboard too.
    wide = [one for one in page.all("div") if "wide" in str(one.get("class"))]
    assert len(wide) == len(page.all("table")) > 10
    assert all(one["tabindex"] == "0" and one["aria-label"] for one in wide)
    assert len(page.all("h1")) == 1
    assert page.all("html") == [{"lang": "en"}]


FACTS = (
    "the run's own 100 test rows of 150",
    "near-duplicates were not kept apart.",
    "year 2020",
    "Policy threshold publishes 63.0% of the rows and sends 370 of 1,000 to a person",
    "precision of what is published 0.746 [0.627, 0.837]",
    "Calibration error 0.216 (before correction 0.171)",
    "1 of 31 parts compared has more errors than chance allows.",
    'word "quince"',
    "1 of 2 cases of cases.yaml pass: 0.500 [0.100, 0.900].",
    "Failed, shouting: 1",
    "Against theirs",
    "100 of 100 rows paired",
    "-0.090 [-0.210, +0.040]",
    "12 rows fixed, 21 broken",
    " guarded parts, ",
    "Fixed: 12",
    "23 of the rows, in ",
    "plums taken for apples",
    "suspected label error",
    "plums: near 0",
    "100 rows as dots, 23 of them wrong",
    "10 items one by one after 1 to warm up",
    "200 resamples, seed 0",
    "Kept step",
)


def test_all_forms_tell_the_whole_story(
    report: EvaluationReport, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = evaluation_page(report, NONE)
    parsed = Parsed(render_html(page))
    texts = parsed.text + "".join(str(one.get("aria-label")) for _, one in parsed.seen)
    markdown = render_markdown(page, tmp_path).replace("\\", "")
    for fact in FACTS:
        assert fact in texts, fact
        assert fact in markdown, fact
    for row in (r"Accuracy\W*0\.770\W*0\.678, 0\.842\]", r"Parameters\W*1,000"):
        assert re.search(row, parsed.text), row
        assert re.search(row, markdown), row
    print_page(page)
    printed = capsys.readouterr().out
    for line in (
        "WARNING: near-duplicates were not kept apart",
        "decision: Policy threshold publishes 63.0%",
        "calibration: Calibration error 0.216",
        "weak slices: 1 of 31 parts compared",
        '  word "quince": ',
        "errors: 23 of the rows",
        "against theirs: 100 of 100 rows paired",
        "  accuracy: -0.090 [-0.210, +0.040]",
        "  12 rows fixed, 21 broken, exact McNemar p = 0.163",
        "latency p50/p95/p99: ",
        "shouting",
        "macro ",
        "all rows ",
    ):
        assert line in printed, line


@pytest.mark.slow
def test_what_there_is_not_is_said(report: EvaluationReport, tmp_path: Path) -> None:
    nothing = {"total": 0, "shown": 0, "suspected_label_errors": 0, "groups": []}
    plain = report.model_dump() | {"errors": nothing, "comparison": None, "behaviour": None}
    plain["weak_slices"]["slices"] = []
    plain["decision"]["precision"] = plain["decision"]["per_class"]["plums"]["precision"] = None
    plain["decision"] |= {"coverage": 0.0, "review_per_1000": 1000.0}
    plain["empty_slices"] = ["papers"]
    bare = evaluation_page(EvaluationReport.model_validate(plain), NONE)
    markdown = render_markdown(bare, tmp_path)
    assert "## Errors\n\nNone.\n" in markdown
    assert "## Weak slices\n\nNone of 31 parts compared has more errors" in markdown
    assert "publishes 0.0% of the rows and sends 1,000 of 1,000 to a person." in markdown
    assert "No rows: papers." in markdown
    assert "Behaviour" not in markdown and "Against" not in markdown
    rows = [line.split("|") for line in markdown.splitlines() if line.startswith("| plums")]
    assert any(row[3].strip() == "-" for row in rows), "nothing published has no precision"


def test_texts_that_are_cut_are_told_of(report: EvaluationReport) -> None:
    assert "are cut" not in render_html(evaluation_page(report, NONE))
    data = report.data.model_copy(update={"texts_cut": 0.125})
    page = evaluation_page(report.model_copy(update={"data": data}), NONE)
    assert "12.5% of the texts are cut: they have more tokens than" in render_html(page)
