"""Prints the summary of a page: tables and lines that can be copied and searched."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from tagger.reporting.page import Block, Command, Heading, Listing, Numbers, Page, Table, Text

WIDE = 10_000
"""Columns without a terminal: a name that is cut off can't be searched."""


def print_page(page: Page) -> None:
    """Print what a reader of the terminal should see of a page."""
    print_blocks(page.summary)


def print_blocks(blocks: Sequence[Block]) -> None:
    """Print blocks one after another; what has no form in a terminal is left out."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE
    for block in blocks:
        match block:
            case Table():
                console.print(_rich(block))
                console.print()
            case Heading() | Text():
                warning = isinstance(block, Text) and block.tone == "warning"
                # Soft: a path that a terminal's width breaks in two cannot be copied.
                console.print(("WARNING: " if warning else "") + block.text, soft_wrap=True)
            case Listing():
                for line in block.lines:
                    console.print(f"  {line}", soft_wrap=True)
            case Command():
                console.print(f"{block.text}: {block.command}", soft_wrap=True)
            case Numbers():
                for one in block.numbers:
                    console.print(f"{one.name}: {one.value} {one.note}".rstrip(), soft_wrap=True)


def _rich(table: Table) -> RichTable:
    rich = RichTable(
        title=table.title or None,
        title_justify="left",
        padding=(0, 1, 0, 0),
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    for column in table.headings:
        # Folded, not cut: a tag or slice whose name ends in "..." could be any.
        number = column.kind == "number"
        rich.add_column(
            column.heading,
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number,  # half a number would be another one
        )
    for row in table.rows:
        rich.add_row(
            *(
                cell if isinstance(cell, str) else "; ".join([cell.title, *cell.items])
                for cell in row
            )
        )
    return rich
