from pathlib import Path

import pytest
from matplotlib.figure import Figure as Drawing

from tagger.reporting.figures import COLOURS, LINE_STYLES, Plot, write_figure, write_figures
from tagger.reporting.html import render_html
from tagger.reporting.markdown import render_markdown
from tagger.reporting.page import Page


def titled(title: str) -> Drawing:
    drawing = Drawing(figsize=(4, 3), layout="constrained")
    drawing.subplots().set_title(title)
    return drawing


def test_figures_are_written_and_stale_ones_removed(tmp_path: Path) -> None:
    (tmp_path / "old.png").touch()
    figures = write_figures({"new": Plot(Drawing(), "Nothing.", True), "old": None}, tmp_path)
    assert [one.path.name for one in figures.figures] == ["new.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.png"]
    page = Page("Figures", [figures])
    assert '<figure id="plot-new" class="row">' in render_html(page)
    assert 'alt="Nothing."' in render_html(page)
    assert "![Nothing.](new.png)" in render_markdown(page, tmp_path)


def test_the_same_figure_is_the_same_picture(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        write_figure(titled("Same"), tmp_path / name)
    data = (tmp_path / "one.png").read_bytes()
    assert data == (tmp_path / "two.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (4 * 144, 3 * 144)
    assert b"Matplotlib" not in data


@pytest.mark.parametrize("title", ["costs $5 to $6", "$\\frac{", "标签 \U0001fae8"])
def test_any_name_can_be_drawn(title: str, tmp_path: Path) -> None:
    write_figure(titled(title), tmp_path / "odd.png")
    assert (tmp_path / "odd.png").stat().st_size > 1000


def test_28_lines_in_a_row_differ() -> None:
    pairs = {(n % len(COLOURS), n % len(LINE_STYLES)) for n in range(28)}
    assert len(pairs) == 28
