"""Finds out which column of a table holds what: the text, the tag, and what else is known of it.

What the user says counts most, then the columns that a run was made with, then a column that is
called as our field is, then one with a name that such columns have in public data sets. Last, of
two columns that are called otherwise, one may plainly be the text and the other the tag.
"""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tagger.data.dates import DateOrder, is_date
from tagger.data.items import FIELDS
from tagger.data.problems import did_you_mean
from tagger.data.readers import normalized

TEXT_FIELDS = ("title", "description")

# The same as `description`: what people call a column whose rows have no title.
TEXT = "text"

# A further field, read only where a column is named for it.
WEIGHT = "weight"

# Column of labels that were drawn at random: with what probability. `tagger data pull` writes it.
INCLUSION = "inclusion_probability"

NAMES: Mapping[str, Sequence[str]] = {
    "tag": ("label", "category", "class", "topic", "intent", "target"),
    "title": ("headline", "subject"),
    "description": (
        TEXT, "body", "content", "abstract", "summary", "sentence", "message", "question", "query",
        "utterance", "review", "comment",
    ),
}  # fmt: skip

# Of a column with the number of a class and one with its name, the name is what people can read.
READABLE = {"label_text": "label", "label_name": "label"}

NO_HEADER = (
    "there seems to be no header: the first line ({first}) looks like a row; write one above it, "
    "such as text,tag"
)

SAMPLE_ROWS = 1000
MOST_TAG_CHARACTERS = 100
MOST_DIFFERENT = 0.5
LEAST_VALUES = 4
SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class TableFormat:
    """What is said of how a table is to be read, and how the command at hand takes that.

    Args:
        columns: The table's column by our field name (or `text`); "" for a field not to be read.
        known: Columns that a run was made with, used where the table has them.
        delimiter: Of a CSV file's columns; None: it is found.
        dates: Which number comes first in a date that ends in the year.
        takes: How the command at hand takes these: as keys of the config (`data.columns=`), as
            options (`--columns`), or not at all. A hint must not recommend what it does not take.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    dates: DateOrder = "iso"
    takes: Literal["keys", "options", "nothing"] = "nothing"

    def mend(self, name: str, value: str, effect: str) -> str:
        """Say which setting, ready to be pasted, would have which effect; "" if none is taken."""
        quoted = shlex.quote(value)
        setting = {"keys": f"data.{name}={quoted}", "options": f"--{name} {quoted}"}
        return f"; {setting[self.takes]} {effect}" if self.takes in setting else ""


UNSAID = TableFormat()
"""Nothing is said of the table: its columns are found by their names."""


@dataclass(frozen=True)
class Found:
    """Which column holds what.

    Attributes:
        columns: The table's column by our field name, for the fields that it has.
        guessed: Those of them that were neither given nor called as our field is.
        problems: What stands in the way, each a sentence.
        proposal: Columns that would do, where one can be seen from the values; or nothing.
    """

    columns: dict[str, str]
    guessed: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    proposal: dict[str, str] = field(default_factory=dict)


def find_columns(
    header: Sequence[str],
    how: TableFormat,
    needed: Collection[str],
    sample: Sequence[Mapping[str, str | None]] = (),
) -> Found:
    """Find the columns of a table.

    Args:
        header: The names of its columns.
        how: What the user said of them, and what a run knows.
        needed: Fields that must be there; `text` stands for any of title and description.
        sample: Some rows, by column name, to tell text from tags by.
    """
    header = [name for name in header if name.strip()]
    given = _by_field(how.columns)
    known = _by_field(how.known)
    columns: dict[str, str] = {}
    guessed: dict[str, str] = {}
    problems: list[str] = []
    for name in (*FIELDS, WEIGHT):
        if name in given:
            if given[name] == "":
                continue
            columns[name] = given[name]
            if _matching(given[name], header) is None:
                problems.append(
                    f"no column {given[name]!r}{did_you_mean(given[name], header)}, which was "
                    f"given for {name}; found {_listed(header)}"
                )
            continue
        if name == WEIGHT and name not in known:
            continue  # never found by its name, which columns with other meanings may have
        column = _matching(known.get(name, name), header) or _matching(name, header)
        if column is not None:
            columns[name] = column
            continue
        others = _by_usual_name(name, header, taken=[*columns.values(), *given.values()])
        if len(others) > 1:
            both = " and ".join(map(repr, others))
            problems.append(f"{both} could both hold the {name}: say which")
        elif others:
            columns[name] = others[0]
            if normalized(others[0]) != TEXT:
                guessed[name] = others[0]
    lacking = _lacking(needed, columns)
    if not lacking and not problems:
        return Found(columns, guessed)
    proposal = guess_columns(header, sample, columns)
    if len(header) == 2 and not columns and {*proposal} == {"description", "tag"}:
        if any(row.get(proposal["tag"]) == proposal["tag"] for row in sample):
            return Found({}, problems=[NO_HEADER.format(first=_listed(header))])
        # Two columns, a text and its tag: there is nothing else that they could be.
        return Found(proposal, proposal)
    proposal = {name: one for name, one in {**columns, **proposal}.items() if one in header}
    for one in lacking if not problems else ():
        what = "text (title, description or text)" if one == TEXT else one
        names = (*TEXT_FIELDS, TEXT) if one == TEXT else (one,)
        near = next(filter(None, (did_you_mean(name, header) for name in names)), "")
        problems.append(f"no column holds the {what}{near}: found {_listed(header)}")
    return Found(columns, guessed, problems, {} if _lacking(needed, proposal) else proposal)


def guess_columns(
    header: Sequence[str],
    sample: Sequence[Mapping[str, str | None]],
    known: Mapping[str, str],
) -> dict[str, str]:
    """Tell by their values what columns hold of which nothing is known: for a person to look over.

    Args:
        header: The names of all columns.
        sample: Some rows, by column name.
        known: The columns that are known, by field name.

    Returns:
        Further columns by field name: dates where all values are dates; the wordiest column of
        those whose values differ as the text; the one with the fewest values, which repeat, as the
        tag.
    """
    dates: list[str] = []
    texts: dict[str, float] = {}
    tags: dict[str, float] = {}
    for name in header:
        values = [value.strip() for row in sample if (value := row.get(name)) and value.strip()]
        if not name.strip() or name in known.values() or not values:
            continue
        different = len(set(values)) / len(values)
        words = sum(len(value.split()) for value in values) / len(values)
        if all(map(is_date, values)):
            dates.append(name)
        elif len(values) < LEAST_VALUES:
            continue
        elif different > MOST_DIFFERENT:
            # Some scripts have no spaces between words; a long word of ASCII may be any identifier.
            if words >= 2 or not all(map(str.isascii, values)):
                texts[name] = words
        elif len(set(values)) > 1 and max(map(len, values)) <= MOST_TAG_CHARACTERS:
            tags[name] = different
    guessed: dict[str, str] = {}
    if dates and "created_on" not in known:
        guessed["created_on"] = dates[0]
    if texts and not any(field in known for field in TEXT_FIELDS):
        guessed["description"] = max(texts, key=texts.__getitem__)
    if tags and "tag" not in known:
        guessed["tag"] = min(tags, key=tags.__getitem__)
    return guessed


def spell_columns(columns: Mapping[str, str]) -> str:
    """Write columns as the option that gives them takes them: {text: body, tag: "my label"}."""
    text = "description" if "title" in columns else TEXT
    told = {(text if name == "description" else name): one for name, one in columns.items()}
    pairs = (
        f"{name}: {one if one.isidentifier() else json.dumps(one, ensure_ascii=False)}"
        for name, one in told.items()
    )
    return "{" + ", ".join(pairs) + "}"


def _lacking(needed: Collection[str], columns: Collection[str]) -> list[str]:
    """Return the needed fields that there is no column for; any text will do for `text`."""
    has_text = any(one in columns for one in TEXT_FIELDS)
    return [one for one in needed if one not in columns and not (one == TEXT and has_text)]


def _by_field(columns: Mapping[str, str]) -> dict[str, str]:
    return {("description" if name == TEXT else name): one for name, one in columns.items()}


def _matching(name: str, header: Sequence[str]) -> str | None:
    """Return the column of a name: exactly, else but for case and space if only one is."""
    if name in header:
        return name
    alike = [one for one in header if normalized(one) == normalized(name)]
    return alike[0] if len(alike) == 1 else None


def _by_usual_name(name: str, header: Sequence[str], taken: Sequence[str]) -> list[str]:
    folded = {normalized(one): one for one in header if one not in taken}
    usual = [*(READABLE if name == "tag" else ()), *NAMES.get(name, ())]
    numbers = [number for readable, number in READABLE.items() if readable in folded]
    return [folded[one] for one in usual if one in folded and one not in numbers]


def _listed(header: Sequence[str]) -> str:
    shown = ", ".join(repr(name)[:60] for name in header[:SHOWN_COLUMNS])
    rest = len(header) - SHOWN_COLUMNS
    return (shown or "none") + (f" and {rest} more" if rest > 0 else "")
