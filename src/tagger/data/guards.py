r"""Keeps spreadsheets from taking a text for a formula, and takes the guard off again.

A cell that begins with =, +, -, @, a tab or a carriage return may be carried out as a formula when
somebody opens the table; after an apostrophe it is shown as the text that it is.
"""

import re

GUARDED_COLUMN = "inclusion_probability"
"""A table with this column was written by `tagger data pull`: its cells are guarded."""

# Apostrophes before such a character count too, so that taking one off gives the text back.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(rf"'{_FORMULA.pattern}")


def guard(text: str) -> str:
    """Return a text with an apostrophe before it if it could be taken for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguard(text: str) -> str:
    """Return the text that was guarded."""
    return text[1:] if _GUARDED.match(text) else text
