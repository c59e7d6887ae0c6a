import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.decision.calibrators import Temperature, Unchanged
from tagger.decision.decider import Rule, save_rule
from tagger.decision.policies import NEVER, Threshold
from tagger.evaluation import evaluate_run as module
from tagger.evaluation import explore
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.evaluation.report import format_score, format_short, format_signed, render_html

VOID = {"meta", "img", "br", "link", "input", "hr"}
NASTY = "<script>alert(1)</script> & \"quotes\" | `code` [link](x) 'single'"
BREAKS_OUT = (
    "</script><!--<script>]]></title></svg>{{ 7 * 7 }}\\u003c\u2028"
    "\" onload=\"alert(1)' autofocus='<img src=https://example.org/x.png>"
)


class Page(HTMLParser):
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


@pytest.fixture
def folder(runs, items, split, monkeypatch) -> Path:
    """A run folder with a report that has everything: errors, nasty texts, a comparison."""
    monkeypatch.setattr(module, "check_against_library", lambda *_: None)
    items[30] = replace(items[30], title=NASTY, description=NASTY * 20)
    run = runs.make("ours", items, split, errs_on=["i0-30", "i0-31"])
    runs.make("theirs", items, split, errs_on=["i0-31", "i0-32"])
    evaluate_run(runs.config("ours", "against=theirs"))
    return run.path


def embed(items: Sequence[Item], *_: object) -> np.ndarray:
    """Stand in for an encoder: neighbours and a map, in no time."""
    return np.random.default_rng(0).normal(size=(len(items), 8))


@pytest.fixture
def mapped(runs, items, split, monkeypatch) -> Path:
    """A run folder whose report has a map, and neighbours with nasty texts."""
    monkeypatch.setattr(module, "check_against_library", lambda *_: None)
    monkeypatch.setattr(explore, "embed_items", embed)
    for number in (*range(10), 30, 33):
        nasty = f"{items[number].title} {NASTY} {BREAKS_OUT}"
        items[number] = replace(items[number], title=nasty, description=nasty)
    run = runs.make("ours", items, split, errs_on=["i0-30", "i0-31"])
    evaluate_run(runs.config("ours", "explore=on"))
    return run.path


def directives(page: Page) -> dict[str, list[str]]:
    """The Content-Security-Policy of a page."""
    (policy,) = [one["content"] for one in page.all("meta") if "http-equiv" in one]
    parts = [one.split() for one in str(policy).split(";")]
    return {name: values for name, *values in parts}


def addresses(page: Page) -> list[str]:
    """What a page would load, were it allowed to."""
    names = ("src", "href", "xlink:href", "srcset", "poster", "data", "action", "formaction")
    return [str(one[name]) for _, one in page.seen for name in names if name in one]


def test_the_page_is_whole_and_asks_for_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert text.startswith("<!doctype html>")
    for address in addresses(page):
        assert address.startswith("data:image/png;base64,"), address
    assert not re.search(r"@import|url\(", text)
    assert page.all("link") == page.all("script") == page.all("iframe") == []
    assert page.all("svg") == [], "without vectors there is no map"
    assert directives(page)["default-src"] == ["'none'"]


def test_the_one_script_of_a_map_is_the_one_that_is_allowed(mapped: Path) -> None:
    text = (mapped / "report.html").read_text()
    page = Page(text)
    rows, script = page.scripts
    assert page.all("script") == [{"type": "application/json", "id": "map-rows"}, {}]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert directives(page) == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "style-src": ["'unsafe-inline'"],
        "script-src": [f"'sha256-{digest}'"],
    }
    assert "\r" not in script, "a browser would read another line end, and refuse the script"
    report = json.loads((mapped / "report.json").read_text())
    by_id = {row.id: row for row in report.map}
    drawn = json.loads(rows)
    assert {row.id: row for row in drawn} == by_id
    assert len(drawn) == len(by_id) == 15 == len(page.all("circle"))


def test_a_page_with_a_map_asks_for_nothing_either(mapped: Path) -> None:
    text = (mapped / "report.html").read_text()
    page = Page(text)
    assert len(addresses(page)) == 7, "the plots"
    assert all(address.startswith("data:image/png;base64,") for address in addresses(page))
    assert not re.search(r"@import|url\(", text)
    for tag in ("link", "iframe", "object", "embed", "form", "base", "use", "image", "a"):
        assert page.all(tag) == [], tag
    handlers = [name for _, one in page.seen for name in one if name.startswith("on")]
    assert handlers == []
    script = page.scripts[1]
    assert not re.search(r"https?:|//\w+\.|fetch|XMLHttp|WebSocket|\bimport\b|\beval\b", script)
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script


def test_texts_on_a_map_cannot_become_markup(mapped: Path) -> None:
    text = (mapped / "report.html").read_text()
    page = Page(text)
    rows = page.scripts[0]
    assert not set("<>&'\u2028") & set(rows), "in a script these could end it, or a string of it"
    assert BREAKS_OUT in next(row.title for row in json.loads(rows) if row.id == "i0-33")
    assert text.count("<script") == 2
    assert text.count("</script") == 2
    assert BREAKS_OUT in page.text
    markdown = (mapped / "report.md").read_text()
    assert "<script" not in markdown and "<img" not in markdown
    errors = [line for line in markdown.splitlines() if line.startswith("| ") and "alert" in line]
    assert errors
    for line in errors:
        assert len(re.findall(r"(?<!\\)\|", line)) == 7, "a bar in a title must not add a column"


def test_no_text_of_a_report_changes_what_its_page_is_made_of(mapped: Path) -> None:
    report = json.loads((mapped / "report.json").read_text())
    one = {"name": "a", "kind": "word", "num_samples": 9, "errors": 5, "elsewhere": 0.1}
    rate = {"value": 0.5, "low": 0.2, "high": 0.8}
    examples = [{"id": "x", "title": "y"}]
    one |= {"error_rate": rate, "p_value": 0.01, "examples": examples}
    report.weak_slices.slices = [one]
    report.errors.groups[0] |= {"error_rate": rate, "num_samples": 9}
    plain = Page(render_html(report, []))

    def nasty(value: Any, key: str = "") -> Any:
        """Change each text, and tags where they are keys, all in the same way."""
        if isinstance(value, dict):
            named = {k + BREAKS_OUT if k in report.tags else k: k for k in value}
            return {new: nasty(value[old], old) for new, old in named.items()}
        if isinstance(value, list):
            return [nasty(part) for part in value]
        return value + BREAKS_OUT if isinstance(value, str) and value and key != "kind" else value

    page = Page(render_html(nasty(report), []))
    assert [(tag, list(one)) for tag, one in page.seen] == [
        (tag, list(one)) for tag, one in plain.seen
    ]
    own = ("class", "id", "type", "name", "http-equiv", "content", "checked", "hidden")
    for (_, given), (_, expected) in zip(page.seen, plain.seen, strict=True):
        assert {name: given.get(name) for name in own} == {n: expected.get(n) for n in own}
    assert page.scripts[1] == plain.scripts[1]
    labels = [str(one.get("aria-label")) for _, one in page.seen]
    assert any(BREAKS_OUT in label for label in labels), "labels of groups hold such texts"


def test_every_plot_is_inside_and_described(folder: Path) -> None:
    images = Page((folder / "report.html").read_text()).all("img")
    inside = {base64.b64decode(str(image["src"]).partition(",")[2]) for image in images}
    assert inside == {path.read_bytes() for path in (folder / "plots").iterdir()}
    assert len(images) == 7
    assert all(len(str(image["alt"])) > 30 for image in images)


def test_texts_of_items_cannot_become_markup(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "<script" not in text
    assert NASTY in Page(text).text
    markdown = (folder / "report.md").read_text()
    assert "<script" not in markdown
    (row,) = [one for one in markdown.splitlines() if one.startswith("| ") and "alert(1" in one]
    assert len(re.findall(r"(?<!\\)\|", row)) == 7, "a bar in a title must not add a column"


def test_the_page_fits_phones_and_both_colour_schemes(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    assert "prefers-color-scheme: dark" in text
    # A table that is wider than the screen scrolls by itself, with the keyboard too.
    wide = [one for one in page.all("div") if "wide" in str(one.get("class"))]
    assert page.all("table")
    assert len(wide) == len(page.all("table"))
    assert all(one["tabindex"] == "0" and one["aria-label"] for one in wide)
    assert len(page.all("h1")) == 1
    assert page.all("html") == [{"lang": "en"}]


def page_or_markdown(folder: Path, name: str) -> str:
    text = (folder / name).read_text()
    return (Page(text).text if name.endswith("html") else text).replace("\\", "")


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_both_forms_tell_the_whole_story(folder: Path, name: str) -> None:
    text = page_or_markdown(folder, name)
    for expected in (
        "pears-and-other-fruit",
        "year 2020",
        "theirs",
        "15 of 15 rows paired",
        "15 test rows of 40",
        "Policy argmax publishes 100.0% of the rows and sends 0 of 1,000 to a person",
        "precision of what is published 0.867 [0.621, 0.963]",
        "Calibration error 0.207 (before correction 0.207)",  # (13 * 0.1 + 2 * 0.9) / 15
        "+0.000",
        "Kept step",
        "200 resamples, seed 0",
        "None of 1 part looked at has more errors than chance allows.",
        "2 of the rows, in 2 groups; ",
        "apples taken for pears-and-other-fruit: 1 error",
        " guarded parts, none worse beyond chance.",
    ):
        assert expected in text, expected
    # Wilson of 13 of 15, and a fact of the run, each in its row.
    for row in (r"Accuracy\W*0\.867\W*0\.621, 0\.963\]", r"Parameters\W*1,000"):
        assert re.search(row, text), row


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_both_forms_tell_what_is_published_and_how_probabilities_were_corrected(
    runs, items, split, monkeypatch, name: str
) -> None:
    monkeypatch.setattr(module, "check_against_library", lambda *_: None)
    run = runs.make("r", items, split, errs_on=["i0-29", "i0-30"])
    # Of five rows a tag, those of the second are never published.
    rule = Rule(Temperature(2.0), Threshold([0.5, NEVER, 0.5, 0.5]), None)
    save_rule(run.path, run.config.decision, rule, None)
    report = evaluate_run(runs.config("r"))
    text = page_or_markdown(run.path, name)
    for expected in (
        "Policy threshold publishes 60.0% of the rows and sends 400 of 1,000 to a person",
        "precision of what is published 0.889 [0.565, 0.980]",
        f"Calibration error {report['calibration']['ece_adaptive']:.3f} (before correction "
        f"{report['calibration']['before']['ece_adaptive']:.3f})",
    ):
        assert expected in text, expected
    if name.endswith("md"):
        rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| pears")]
        assert rows[0][1:3] == ["0", "-"], "a tag that is never published has no precision"


def test_all_forms_tell_that_nothing_is_published(runs, items, split, monkeypatch, capsys) -> None:
    monkeypatch.setattr(module, "check_against_library", lambda *_: None)
    run = runs.make("r", items, split)
    save_rule(run.path, run.config.decision, Rule(Unchanged(), Threshold([NEVER] * 4), None), None)
    evaluate_run(runs.config("r"))
    printed = capsys.readouterr().out
    said = r"publishes 0\.0% of the rows and sends 1,?000 of 1,000 to a person\."
    assert re.search(said, printed)
    for name in ("report.html", "report.md"):
        assert re.search(said, page_or_markdown(run.path, name)), name


def test_plots_are_linked_from_markdown(folder: Path) -> None:
    links = re.findall(r"^!\[.+\]\((.+)\)$", (folder / "report.md").read_text(), re.MULTILINE)
    assert len(links) == 7
    assert all((folder / link).is_file() for link in links)


def test_without_logs_there_are_no_learning_curves(runs, items, split, monkeypatch) -> None:
    monkeypatch.setattr(module, "check_against_library", lambda *_: None)
    run = runs.make("r", items, split)
    evaluate_run(runs.config("r"))
    assert (run.path / "plots" / "learning-curves.png").is_file()
    (run.path / "metrics.jsonl").unlink()
    report = evaluate_run(runs.config("r"))
    assert not (run.path / "plots" / "learning-curves.png").exists()
    assert report.errors == {"total": 0, "shown": 0, "doubtful_labels": 0, "groups": []}
    page = Page((run.path / "report.html").read_text()).text
    assert re.search(r"Errors\s+None\.", page)
    assert "## Errors\n\nNone.\n" in (run.path / "report.md").read_text()
    assert len(Page((run.path / "report.html").read_text()).all("img")) == 6


def test_the_terminal_shows_tables_and_unbroken_paths(folder: Path, runs, capsys) -> None:
    capsys.readouterr()
    evaluate_run(runs.config("ours", "against=theirs"))
    lines = capsys.readouterr().out.splitlines()
    named = ("pears-and-other-fruit", "macro", "all rows", "year 2021", "latency", "against")
    found = ("weak slices: none of 1 part looked at", "errors: 2 of the rows, in 2 groups")
    for name in (*named, *found, "decision: Policy argmax", "calibration: Calibration error"):
        assert any(name in line for line in lines), name
    assert str(folder / "report.html") in lines
    assert sum(line.endswith(".png") for line in lines) == 7


def test_formats() -> None:
    score = {"value": 0.9131, "low": 0.8481, "high": 1.0}
    assert format_score(score) == "0.913 [0.848, 1.000]"
    assert format_short(score) == "0.913 .85-1.0"
    assert format_signed({"value": 0.0261, "low": -0.009, "high": 0.0613}) == (
        "+0.026 [-0.009, +0.061]"
    )
