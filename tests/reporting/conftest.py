"""What tests of reports share: a page with a block of each kind, and the check of a figure."""

import warnings
from collections.abc import Callable, Iterator

import pytest
from matplotlib.figure import Figure

from tagger.reporting.page import (
    Cell,
    Column,
    Command,
    Details,
    Heading,
    Listing,
    Number,
    Numbers,
    Page,
    Table,
    Text,
)

DPI = 144


@pytest.fixture
def page() -> Page:
    table = Table(
        ["tag", Column("rows", "number"), Column("why", "prose")],
        [["a|b", "3", Cell("<first>", "more", "look", ["x", "y"])], ["c", "12", "plain"]],
        title="Tags",
        caption="How many.",
    )
    blocks = [
        Numbers([Number("Rows", "15", "in all")]),
        Text("Leaks.", "warning"),
        Heading("Part"),
        Listing(["one", "two"]),
        Command("Go on", "python train.py"),
        table,
        Details("More", [Text("Inside.")]),
    ]
    return Page("Run <one>", blocks, [table, *blocks[:2], Listing(["one"]), blocks[4]])


@pytest.fixture
def check() -> Iterator[Callable[[Figure], None]]:
    """Lays a figure out; a layout that does not fit, or a glyph that a font lacks, fails."""

    def draw(figure: Figure) -> None:
        figure.draw_without_rendering()
        width, height = figure.get_size_inches() * DPI
        assert width >= 500
        assert height >= 200

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield draw
