from pathlib import Path

import pytest

from tagger.reporting.markdown import escape, markdown_table, render_markdown, write_markdown
from tagger.reporting.page import Embedded, Figure, Figures, Page


def test_a_page_says_in_markdown_what_it_says_in_html(page: Page, tmp_path: Path) -> None:
    text = render_markdown(page, tmp_path)
    assert text.startswith("# Run &lt;one&gt;\n")
    for part in (
        "**Warning:** Leaks.",
        "| Rows   | 15    | in all |",
        "## Part",
        "## Tags\n\nHow many.",
        "a\\|b",
        "### More\n\nInside.",
        "- two",
        "Go on: `python train.py`",
    ):
        assert part in text
    assert "&lt;first&gt; more (look) x; y" in text
    write_markdown(page, tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == text


def test_pictures_are_linked_and_other_parts_told_in_words(tmp_path: Path) -> None:
    figures = Figures([Figure(tmp_path / "plots" / "a.png", "A [curve].")])
    embedded = Embedded("map.html.j2", {}, "map.css", "map.js", "12 rows as dots.")
    text = render_markdown(Page("Report", [figures, embedded]), tmp_path)
    assert "![A \\[curve\\].](plots/a.png)" in text
    assert "12 rows as dots." in text


def test_columns_line_up() -> None:
    assert markdown_table(["a", "long"], [["value", "b"]]) == [
        "| a     | long |",
        "|-------|------|",
        "| value | b    |",
    ]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("two\n lines", "two lines"), ("a_b*", "a\\_b\\*"), ("<b>&", "&lt;b&gt;&amp;"), (3, "3")],
)
def test_text_stays_text(text: object, escaped: str) -> None:
    assert escape(text) == escaped
