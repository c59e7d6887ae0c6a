"""A rule-based classifier: words and patterns that speak for a tag, in a file that anyone can edit.

The plainest approach: no data, no training, and an answer that can be read off the file.
Where nothing in the file is found in an item, all tags come out alike: the rules abstain.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import yaml
from numpy.typing import NDArray

from tagger.data.items import Item, fold
from tagger.data.problems import Problems, did_you_mean
from tagger.data.tags import StrictLoader
from tagger.errors import UserError, describe_os_error
from tagger.files import write_json, write_text
from tagger.models.base import SETTINGS, read_settings
from tagger.scores import softmax

KINDS = {"sure": 3.0, "likely": 1.0, "against": -2.0, "patterns": 3.0}
"""What a find of each kind counts for its tag."""

IN_TITLE = 2.0
"""A find in the title counts this many times: titles name the subject."""

FILE = "rules.yaml"


@dataclass(frozen=True)
class Rule:
    """Something to look for: what it speaks for, how much, and where."""

    tag: int
    points: float
    pattern: re.Pattern[str]


class RulesClassifier:
    """A `Classifier` that adds up the points of what it finds."""

    def __init__(self, tags: Sequence[str], text: str, source: str) -> None:
        self.tags = tuple(tags)
        self.text = text
        self.rules = parse_rules(text, self.tags, source)

    @classmethod
    def read(cls, path: Path, tags: Sequence[str]) -> Self:
        """Read a file of rules.

        Raises:
            UserError: listing everything that is wrong with it.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise UserError(f"the rules {path}: {describe_os_error(error)}") from None
        except UnicodeDecodeError:
            raise UserError(f"the rules {path} are not UTF-8 text") from None
        return cls(tags, text, str(path))

    def points(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Add up what is found: points of shape (n_items, n_tags)."""
        totals = np.zeros((len(items), len(self.tags)))
        for row, item in enumerate(items):
            title, description = fold(item.title), fold(item.description)
            for rule in self.rules:
                if rule.pattern.search(title):
                    totals[row, rule.tag] += rule.points * IN_TITLE
                if rule.pattern.search(description):
                    totals[row, rule.tag] += rule.points
        return totals

    def predict_proba(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return the softmax of the points, (n_items, n_tags); all alike where nothing is found."""
        return softmax(self.points(items))

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads; the rules stay as they were written."""
        write_text(folder / FILE, self.text)
        write_json(folder / SETTINGS, {"approach": "rules", "tags": list(self.tags)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        settings = read_settings(folder)
        return cls.read(folder / FILE, settings["tags"])


def parse_rules(text: str, tags: Sequence[str], source: str) -> list[Rule]:
    """Turn the content of a file of rules into rules.

    Args:
        text: yaml: tag, then a kind of `KINDS`, then a list of words, phrases or patterns.
        tags: The approved tags.
        source: What to call the file in messages.

    Raises:
        UserError: listing everything that is wrong.
    """
    try:
        content = yaml.load(text, StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{source} is not yaml:", [" ".join(str(error).split())]) from None
    problems = Problems()
    rules: list[Rule] = []
    if not isinstance(content, dict) or not content:
        raise UserError(f"{source}: found {str(content)[:60]!r}, expected tags with their rules")
    for tag, kinds in content.items():
        if tag not in tags:
            problems.add(f"{tag!r} is no approved tag{did_you_mean(str(tag), tags)}")
            continue
        if not isinstance(kinds, dict):
            problems.add(f"{tag}: found {str(kinds)[:60]!r}, expected {', '.join(KINDS)}")
            continue
        for kind, entries in kinds.items():
            where = f"{tag}.{kind}"
            if kind not in KINDS:
                problems.add(f"{where}: no such kind{did_you_mean(str(kind), KINDS)}")
            elif not isinstance(entries, list):
                problems.add(f"{where}: found {str(entries)[:60]!r}, expected a list")
            else:
                for entry in entries:
                    rule = _parse_entry(entry, kind, where, problems)
                    if rule is not None:
                        rules.append(Rule(tags.index(tag), KINDS[kind], rule))
    problems.raise_if_any(f"{source} cannot be used as rules:", "data/rules.yaml shows the form.")
    return rules


def _parse_entry(
    entry: object, kind: str, where: str, problems: Problems
) -> re.Pattern[str] | None:
    if not isinstance(entry, str) or not entry.strip():
        problems.add(f"{where}: found {entry!r}, expected text (quote `yes`, `no` and numbers)")
        return None
    try:
        if kind == "patterns":
            return re.compile(entry, re.IGNORECASE)
        # A whole word or phrase, its plural too; a hyphen and a space are the same.
        words = [re.escape(word) for word in re.split(r"[\s-]+", fold(entry)) if word]
        if not words:
            problems.add(f"{where}: found {entry!r}, expected a word")
            return None
        phrase = r"[\s-]+".join(words)
        return re.compile(rf"(?<!\w){phrase}(?:s|es)?(?!\w)")
    except (re.error, OverflowError) as error:
        problems.add(f"{where}: {entry!r} is no pattern: {error}")
        return None
