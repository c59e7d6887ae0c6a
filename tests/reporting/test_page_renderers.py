from pathlib import Path

import pytest
from matplotlib.figure import Figure as Drawing

from tagger.reporting import html as html_form
from tagger.reporting.figures import Plot, write_figures
from tagger.reporting.html import render_html
from tagger.reporting.markdown import markdown_table, render_markdown
from tagger.reporting.page import (
    Cell,
    Column,
    Command,
    Details,
    Embedded,
    Heading,
    Listing,
    Number,
    Numbers,
    Page,
    Table,
    Text,
)
from tagger.reporting.terminal import print_page

TABLE = Table(
    ["tag", Column("rows", "number"), Column("why", "prose")],
    [["a|b", "3", Cell("<first>", "more", "look", ["x", "y"])], ["c", "12", "plain"]],
    title="Tags",
    caption="How many.",
)
PAGE = Page(
    "Run <one>",
    [
        Numbers([Number("Rows", "15", "in all")]),
        Text("Leaks.", "warning"),
        Heading("Part"),
        Listing(["one", "two"]),
        Command("Go on", "python train.py"),
        TABLE,
        Details("More", [Text("Inside.")]),
    ],
    [TABLE, Text("Leaks.", "warning"), Listing(["one"]), Command("Go on", "python train.py")],
)


def test_html_escapes_what_it_is_given_and_needs_nothing_beside_it() -> None:
    html = render_html(PAGE)
    assert "<h1>Run &lt;one&gt;</h1>" in html
    assert "&lt;first&gt;" in html
    assert '<th scope="col" class="number">rows</th>' in html
    assert "<li>x</li><li>y</li>" in html
    assert 'role="alert"' in html
    assert "<summary>More</summary>" in html
    assert "http" not in html.replace("http-equiv", "")
    assert "script-src" not in html


def test_markdown_says_what_html_says(tmp_path: Path) -> None:
    text = render_markdown(PAGE, tmp_path)
    assert text.startswith("# Run &lt;one&gt;\n")
    for part in (
        "**Warning:** Leaks.",
        "## Tags",
        "a\\|b",
        "### More",
        "- two",
        "`python train.py`",
    ):
        assert part in text
    assert "&lt;first&gt; more (look) x; y" in text


def test_columns_of_markdown_line_up() -> None:
    assert markdown_table(["a", "long"], [["value", "b"]]) == [
        "| a     | long |",
        "|-------|------|",
        "| value | b    |",
    ]


def test_the_terminal_prints_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    print_page(PAGE)
    shown = capsys.readouterr().out
    assert "WARNING: Leaks." in shown
    assert "a|b" in shown
    assert "  one" in shown
    assert "two" not in shown


def test_a_script_runs_by_its_hash_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.html.j2").write_text((html_form.FOLDER / "page.html.j2").read_text())
    for name, text in {
        "page.css": "",
        "x.css": "p{}",
        "x.js": "1<2",
        "x.j2": "{{ values }}",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("tagger.reporting.html.FOLDER", tmp_path)
    html = render_html(Page("Map", [Embedded("x.j2", "<dots>", "x.css", "x.js", "Dots.")]))
    assert "script-src 'sha256-" in html
    assert "<script>1<2</script>" in html
    assert "&lt;dots&gt;" in html
    assert "p{}" in html


def test_figures_are_written_and_stale_ones_removed(tmp_path: Path) -> None:
    (tmp_path / "old.png").touch()
    figures = write_figures({"new": Plot(Drawing(), "Nothing."), "old": None}, tmp_path)
    assert [one.path.name for one in figures.figures] == ["new.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.png"]
    page = Page("Figures", [figures])
    assert 'alt="Nothing."' in render_html(page)
    assert "![Nothing.](new.png)" in render_markdown(page, tmp_path)
