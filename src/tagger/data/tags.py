"""The list of approved tags: the one place that says which tags exist, and in which order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import yaml
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

from tagger.data.items import Item
from tagger.data.problems import Problems
from tagger.errors import UserError, describe_os_error
from tagger.files import resolve_path
from tagger.scores import IntArray

PREDICTION_COLUMNS = ("id", "decision", "tag", "probability")

_Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
# A tag names columns, files and labels: letters, digits and few signs, and no space around it.
_Name = Annotated[str, StringConstraints(pattern=r"^[^\W_](?:[\w .+#&-]{0,98}[\w+#])?$")]


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
    definition: _Text
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
    except FileNotFoundError:
        raise UserError(
            f"the tag list {path} does not exist", hint="Give its path as data.tags=PATH."
        ) from None
    except OSError as error:
        raise UserError(f"the tag list {path}: {describe_os_error(error)}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte 0x{error.object[error.start]:02x} at offset {error.start} is not UTF-8"
        ) from None
    # yaml lets through what its own constructors raise: a date 2020-99-99 is a plain ValueError.
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
                problems.add(f"tags{where}: {detail['msg']}{found}")
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


class StrictLoader(yaml.SafeLoader):  # type: ignore[misc]
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
        if name == "needs review":
            problems.add(f"no tag can be called {name!r}: it says that a person is asked")
        if name in PREDICTION_COLUMNS:
            problems.add(f"no tag can be called {name!r}: predictions have a column of that name")
    names = {tag.name for tag in tags}
    for tag in tags:
        for example in tag.counter_examples:
            if example.tag == tag.name or example.tag not in names:
                problems.add(
                    f"{tag.name}: the counter-example {example.text[:60]!r} is for "
                    f"{example.tag!r}, expected another tag of the list"
                )
