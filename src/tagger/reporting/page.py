"""A report as data: a title and blocks, which HTML, Markdown and the terminal are made from.

One function a document builds its page (`tagger.reporting.audit` and others); how a block looks is
said once for each form, in `html.py`, `markdown.py` and `terminal.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Cell:
    """A table's cell of more than one line.

    Attributes:
        title: What it is about, set in bold.
        text: More about it, in softer colour.
        mark: A word of warning.
        items: A list below it.
    """

    title: str = ""
    text: str = ""
    mark: str = ""
    items: Sequence[str] = ()


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and whether it holds short text, numbers or prose."""

    heading: str
    kind: Literal["text", "number", "prose"] = "text"


def numeric(headings: Iterable[str]) -> list[Column]:
    """Return columns of numbers with these headings."""
    return [Column(heading, "number") for heading in headings]


Columns = Sequence[Column | str]
Row = Sequence[str | Cell]


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first column names the row.

    Attributes:
        columns: Headings, as plain text for columns of short text.
        rows: As many cells each as there are columns.
        title: Heads the table; without one it follows the text before it.
        caption: What is to be known to read it.
        label: Names it for screen readers; default: its title.
    """

    columns: Columns
    rows: Sequence[Row]
    title: str = ""
    caption: str = ""
    label: str = ""

    @property
    def headings(self) -> list[Column]:
        """The columns, each with its kind."""
        return [one if isinstance(one, Column) else Column(one) for one in self.columns]


@dataclass(frozen=True)
class Heading:
    """The title of what follows."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; a warning stands out, and what is soft stands back."""

    text: str
    tone: Literal["plain", "soft", "warning"] = "plain"


@dataclass(frozen=True)
class Listing:
    """Lines, each with a bullet."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Command:
    """A command to paste into a shell, and what it is for."""

    text: str
    command: str


@dataclass(frozen=True)
class Number:
    """A figure that a reader should see first: its name, its value, and what it is of."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Numbers:
    """Figures side by side."""

    numbers: Sequence[Number]


@dataclass(frozen=True)
class Figure:
    """A picture with its text alternative; a wide one takes a row of its own."""

    path: Path
    text: str
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    """Pictures side by side."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Details:
    """Blocks that a reader unfolds."""

    summary: str
    blocks: Sequence["Block"]
    opened: bool = False


@dataclass(frozen=True)
class Embedded:
    """Part of an HTML page that has a template of its own; other forms show its text alternative.

    It stands among the blocks of the page itself, not within `Details`.

    Attributes:
        template: A file of this folder.
        values: What the template is filled with.
        style: A style sheet of this folder that it needs.
        script: A script of this folder that it needs.
        text: What it shows, in words.
    """

    template: str
    values: object
    style: str
    script: str
    text: str


Block = Heading | Text | Listing | Command | Numbers | Table | Figures | Details | Embedded


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: What it is about.
        blocks: All of it, for HTML and Markdown.
        summary: What the terminal shows of it.
    """

    title: str
    blocks: Sequence[Block]
    summary: Sequence[Block] = ()
