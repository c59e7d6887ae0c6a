from pathlib import Path

import pytest

from tagger.reporting import html as html_form
from tagger.reporting.html import render_html, write_html
from tagger.reporting.page import Embedded, Page


def test_a_page_escapes_what_it_is_given_and_needs_nothing_beside_it(page: Page) -> None:
    html = render_html(page)
    assert "<h1>Run &lt;one&gt;</h1>" in html
    assert "<strong>&lt;first&gt;</strong>" in html
    assert '<th scope="col" class="number">rows</th>' in html
    assert '<th scope="row" class="text">a|b</th>' in html
    assert '<td class="number">3</td>' in html
    assert "<li>x</li><li>y</li>" in html
    assert 'role="alert"' in html
    assert "<h2>Part</h2>" in html
    assert "<code>python train.py</code>" in html
    assert "<summary>More</summary>" in html
    assert "<p>Inside.</p>" in html
    assert "http" not in html.replace("http-equiv", "")
    assert "script-src" not in html


def test_a_page_is_written_whole(page: Page, tmp_path: Path) -> None:
    write_html(page, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == render_html(page)


def test_a_script_runs_by_its_hash_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.html.j2").write_text((html_form.FOLDER / "page.html.j2").read_text())
    files = {"page.css": "", "x.css": "p{}", "x.js": "1<2", "x.j2": "{{ values }}"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("tagger.reporting.html.FOLDER", tmp_path)
    html = render_html(Page("Map", [Embedded("x.j2", "<dots>", "x.css", "x.js", "Dots.")]))
    assert "script-src 'sha256-" in html
    assert "<script>1<2</script>" in html
    assert "&lt;dots&gt;" in html
    assert "p{}" in html
