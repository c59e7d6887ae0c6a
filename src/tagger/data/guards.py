r"""Keeps spreadsheets from taking a text for a formula, and takes the guard off again.

A cell that begins with =, +, -, @, a tab or a carriage return may be carried out as a formula when
somebody opens the table; after an apostrophe it is shown as the text that it is. The tables that
`tagger data pull` writes, known by their column `INCLUSION`, are guarded so.
"""

import re

# Apostrophes before such a character count too, so that taking one off gives the text back.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(rf"'{_FORMULA.pattern}")


def guard(text: str) -> str:
    """Return a text with an apostrophe before it if it could be taken for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguard(text: str) -> str:
    """Return the text that was guarded."""
    return text[1:] if _GUARDED.match(text) else text
