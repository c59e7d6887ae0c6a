"""Renders a page, or a table alone, as Markdown that also reads well as plain text."""

import os
from collections.abc import Sequence
from pathlib import Path

from tagger.files import write_text
from tagger.reporting.page import (
    Block,
    Cell,
    Command,
    Details,
    Embedded,
    Figures,
    Heading,
    Listing,
    Numbers,
    Page,
    Table,
    Text,
)


def write_markdown(page: Page, path: Path) -> None:
    """Write a page as a Markdown file, whole or not at all."""
    write_text(path, render_markdown(page, path.parent))


def render_markdown(page: Page, folder: Path) -> str:
    """Render a page for a file in `folder`, which its pictures are linked from."""
    lines = [f"# {escape(page.title)}", *_render(page.blocks, folder, "##")]
    return "\n".join(lines) + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose columns line up as plain text too."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    pad = [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines = ["| " + " | ".join(row) + " |" for row in pad]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def escape(text: object) -> str:
    """Make text safe for Markdown: one line, nothing that Markdown or HTML reads."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#!" else letter for letter in line)


def _render(blocks: Sequence[Block], folder: Path, level: str) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        lines += ["", *_block(block, folder, level)]
    return lines


def _block(block: Block, folder: Path, level: str) -> list[str]:
    match block:
        case Heading():
            return [f"{level} {escape(block.text)}"]
        case Text():
            return [("**Warning:** " if block.tone == "warning" else "") + escape(block.text)]
        case Listing():
            return [f"- {escape(line)}" for line in block.lines]
        case Command():
            return [f"{escape(block.text)}: `{block.command}`"]
        case Numbers():
            head = ["figure", "value", ""]
            rows = [[escape(t) for t in (n.name, n.value, n.note)] for n in block.numbers]
            return markdown_table(head, rows)
        case Table():
            return _table(block, level)
        case Figures():
            return [
                f"![{escape(one.text)}]({Path(os.path.relpath(one.path, folder)).as_posix()})\n"
                for one in block.figures
            ]
        case Details():
            inner = _render(block.blocks, folder, f"{level}#")
            return [f"{level}# {escape(block.summary)}", *inner]
        case Embedded():
            return [escape(block.text)]


def _table(table: Table, level: str) -> list[str]:
    lines = [f"{level} {escape(table.title)}", ""] if table.title else []
    lines += [escape(table.caption), ""] if table.caption else []
    head = [escape(column.heading) for column in table.headings]
    return [*lines, *markdown_table(head, [[_cell(cell) for cell in row] for row in table.rows])]


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    mark = f"({cell.mark})" if cell.mark else ""
    parts = [cell.title, cell.text, mark, "; ".join(cell.items)]
    return escape(" ".join(part for part in parts if part))
