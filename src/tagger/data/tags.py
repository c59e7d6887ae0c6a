"""Loads the list of approved tags, which says which tags exist and in which order.

Any name is a tag's that people can see and that fits a line; names that differ only in how Unicode
composes their letters (NFC) are one.
"""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import yaml
from pydantic import AfterValidator, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from tagger.data.items import Item
from tagger.data.problems import Problems
from tagger.errors import UserError, describe_os_error
from tagger.files import resolve_path
from tagger.scores import IntArray

REVIEW_WORDS = "needs review"
LONGEST_NAME = 100
SHOWN_TAGS = 20

# A tag of at most so many rows is likely a slip of one that looks like it and has ten times more.
FEW_ROWS = 3

# Letters of other scripts that look like Latin ones, to find two tags that look alike.
_LOOKS_LIKE = str.maketrans("аеорсухіјѕԁοαν", "aeopcyxijsdoav")

_Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


@lru_cache(maxsize=1024)
def tag_name(text: str) -> str:
    """Return a tag's name in the one form that names are compared in.

    Raises:
        ValueError: saying why no tag can be called so.
    """
    name = unicodedata.normalize("NFC", text)
    if name != name.strip():
        raise ValueError("has space around it")
    if not any(unicodedata.category(sign)[0] not in "CZ" for sign in name):
        raise ValueError("is empty" if not name else "has no sign that can be seen")
    if any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in name):
        raise ValueError("has a line break or another control character")
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"has {len(name)} characters, {LONGEST_NAME} at most make a tag (is it a text?)"
        )
    if name.casefold() == REVIEW_WORDS:
        raise ValueError("says that a person is asked, which is no tag")
    return name


_Name = Annotated[str, AfterValidator(tag_name)]


@dataclass(frozen=True)
class CounterExample:
    """A text that looks like the tag and belongs under another one."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    text: _Text
    tag: _Name
    why: _Text


@dataclass(frozen=True)
class Tag:
    """An approved tag and what people need to know to give it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: _Name
    definition: _Text | None = None
    examples: tuple[_Text, ...] = ()
    counter_examples: tuple[CounterExample, ...] = ()


def load_tags(path: Path) -> tuple[Tag, ...]:
    """Read a tag list; its order is the order of all probability columns.

    Raises:
        UserError: listing everything that is wrong with the file.
    """
    path = resolve_path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), StrictLoader)
    except OSError as error:
        raise UserError(
            f"the tag list {path}: {describe_os_error(error)}",
            hint="Give its path as data.tags=PATH.",
        ) from None
    # yaml lets through what its own constructors raise: a date 2020-99-99 is a plain ValueError,
    # and so is a byte that is no UTF-8.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not yaml:", [" ".join(str(error).split())]) from None

    problems = Problems()
    tags: tuple[Tag, ...] = ()
    if not isinstance(content, dict) or set(content) != {"tags"}:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)[:80]
        problems.add(f"found {keys or 'nothing'}, expected one key `tags` with a list")
    else:
        try:
            tags = TypeAdapter(tuple[Tag, ...]).validate_python(content["tags"])
        except ValidationError as error:
            for detail in error.errors():
                where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in detail["loc"])
                found = "" if detail["type"] == "missing" else f" (found {detail['input']!r:.80})"
                problems.add(
                    f"{detail['msg'].removeprefix('Value error, ')}{found}", f"tags{where}"
                )
        else:
            _check(tags, problems)
    problems.raise_if_any(
        f"{path} is no valid tag list:", "data/tags.yaml shows the form; quote `yes`, `no`, `null`."
    )
    return tags


def tag_positions(items: Sequence[Item], tags: Sequence[str]) -> IntArray:
    """Return the position of each item's tag in the approved list, shape (n_items,)."""
    position = {tag: index for index, tag in enumerate(tags)}
    return np.array([position[str(item.tag)] for item in items], dtype=np.int64)


def list_tags(names: Sequence[str]) -> str:
    """Write tags side by side, the first `SHOWN_TAGS` of them: a message has to fit a screen."""
    rest = len(names) - SHOWN_TAGS
    return ", ".join(names[:SHOWN_TAGS]) + (f" and {rest} more" if rest > 0 else "")


def odd_tags(names: Sequence[str], rows: Mapping[str, int]) -> list[str]:
    """Say what is odd about tags and the rows that each has, a sentence each."""
    said = []
    absent = [name for name in names if not rows.get(name)]
    if absent:
        said.append(f"no row has the tag {list_tags(absent)}: it will not be learnt")
    looks: dict[str, str] = {}
    for name in names:
        other = looks.setdefault(_look(name), name)
        if other != name:
            counts = f"({rows.get(other, 0):,} and {rows.get(name, 0):,} rows)"
            said.append(f"the tags {other!r} and {name!r} {counts} look alike: are they one?")
    frequent = [name for name in names if rows.get(name, 0) > FEW_ROWS]
    for name in names:
        count = rows.get(name, 0)
        if not 0 < count <= FEW_ROWS or looks[_look(name)] != name:
            continue
        for near in difflib.get_close_matches(name, frequent, n=1, cutoff=0.8):
            if rows[near] >= 10 * count and _digits(near) == _digits(name):
                told = f"{count} row{'s' * (count > 1)}"
                said.append(
                    f"the tag {name!r} ({told}) looks like {near!r} ({rows[near]:,} rows): is it a "
                    "slip?"
                )
    return said


def _look(name: str) -> str:
    """Return what is left of a name when case, spacing and letters of other scripts are passed."""
    folded = unicodedata.normalize("NFKC", name).casefold().translate(_LOOKS_LIKE)
    return "".join(sign for sign in folded if sign not in " _-\ufe0f\u200b\u200d\u00ad")


def _digits(name: str) -> str:
    return "".join(sign for sign in name if sign.isdigit())


class StrictLoader(yaml.CSafeLoader):  # type: ignore[misc]
    """Refuses a key that is given twice, where yaml silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys all differ."""
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given {count} times", node.start_mark
                )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _check(tags: Sequence[Tag], problems: Problems) -> None:
    if len(tags) < 2:
        problems.add(f"{len(tags)} tag(s), at least 2 are needed to choose between")
    for name, count in Counter(tag.name for tag in tags).items():
        if count > 1:
            problems.add(f"the tag {name!r} is there {count} times")
    names = {tag.name for tag in tags}
    for tag in tags:
        for example in tag.counter_examples:
            if example.tag == tag.name or example.tag not in names:
                problems.add(
                    f"{tag.name}: the counter-example {example.text[:60]!r} is for "
                    f"{example.tag!r}, expected another tag of the list"
                )
