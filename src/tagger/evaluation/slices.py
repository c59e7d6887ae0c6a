"""Defines named slices of the rows: a score over all rows hides where a model fails.

Every slice is a function of one item, so its rows are the right ones by construction: nothing has
to be kept in step with a second table. To add a slice, write a function and list it in `SLICES`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tagger.data.items import Item
from tagger.errors import UserError

MOST_VALUES = 100

_LLM_TERMS = re.compile(
    r"\b(llms?|large language models?|language models?|gpt(-?\w+)?|chatgpt|llama\w*|mistral|claude"
    r"|gemini|prompt(s|ing)?|retrieval[- ]augmented|rag|chatbots?|instruction[- ]tun\w+)\b",
    re.IGNORECASE,
)
_TEACHING = re.compile(
    r"\b(tutorials?|courses?|lectures?|lessons?|guides?|how to|introduction|intro|beginners?"
    r"|step[- ]by[- ]step|hands[- ]on|walk[- ]?through|workshops?|from scratch|learn how)\b",
    re.IGNORECASE,
)
_TOOL = re.compile(
    r"\b(librar(y|ies)|frameworks?|tool(s|kit|kits|box)?|packages?|platforms?|sdk|api|cli|plugins?"
    r"|open[- ]?source(d)?|extensions?|dashboards?)\b",
    re.IGNORECASE,
)
_PAPER = re.compile(
    r"\b(papers?|arxiv|we (propose|present|introduce|show|study|demonstrate)"
    r"|state[- ]of[- ]the[- ]art|sota|novel|proposed|survey|cvpr|iccv|eccv|neurips|nips|icml|iclr"
    r"|acl|emnlp)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Slice:
    """A named subset of items.

    Attributes:
        name: What tables and `report.json` call it.
        description: The rule, in words.
        contains: Whether an item belongs to it.
    """

    name: str
    description: str
    contains: Callable[[Item], bool]


def is_short(item: Item) -> bool:
    """Fewer than 8 words in title and description together."""
    return len(item.text.split()) < 8


def lacks_description(item: Item) -> bool:
    """No description at all."""
    return not item.description


def has_terse_title(item: Item) -> bool:
    """A title of at most 2 words, often a mere name."""
    return len(item.title.split()) <= 2


def mentions_llms(item: Item) -> bool:
    """Vocabulary of large language models."""
    return bool(_LLM_TERMS.search(item.text))


def teaches(item: Item) -> bool:
    """Wording of tutorials, courses and guides."""
    return bool(_TEACHING.search(item.text))


def presents_a_tool(item: Item) -> bool:
    """Wording of libraries, tools and platforms."""
    return bool(_TOOL.search(item.text))


def presents_research(item: Item) -> bool:
    """Wording of papers."""
    return bool(_PAPER.search(item.text))


SLICES: Mapping[str, Callable[[Item], bool]] = {
    "short text": is_short,
    "no description": lacks_description,
    "terse title": has_terse_title,
    "large language models": mentions_llms,
    "tutorials and courses": teaches,
    "tools": presents_a_tool,
    "papers": presents_research,
}


def slices_by_year(items: Sequence[Item]) -> list[Slice]:
    """One slice for each year of publication that occurs, in order."""
    years = sorted({item.created_on.year for item in items if item.created_on is not None})

    def published_in(year: int) -> Callable[[Item], bool]:
        return lambda item: item.created_on is not None and item.created_on.year == year

    return [Slice(f"year {year}", f"Published in {year}.", published_in(year)) for year in years]


def slices_by_source(items: Sequence[Item]) -> list[Slice]:
    """One slice for each file that items come from, in their order; none where it is but one."""
    sources = list(dict.fromkeys(item.source for item in items))

    def comes_from(source: str) -> Callable[[Item], bool]:
        return lambda item: item.source == source

    if len(sources) < 2:
        return []
    return [
        Slice(f"source: {source}", f"Comes from {source}.", comes_from(source))
        for source in sources
    ]


def slices_by_column(values: Mapping[str, Mapping[str, str]]) -> list[Slice]:
    """One slice for each value of each column, the most frequent first.

    Args:
        values: By column: the value of a row, by its id.

    Raises:
        UserError: for a column of more than `MOST_VALUES` values: those are no slices.
    """

    def one_of(ids: frozenset[str]) -> Callable[[Item], bool]:
        return lambda item: item.id in ids

    slices = []
    for column, by_id in values.items():
        rows: dict[str, set[str]] = defaultdict(set)
        for row_id, value in by_id.items():
            rows[value].add(row_id)
        if len(rows) > MOST_VALUES:
            raise UserError(
                f"slice_columns: {column} has {len(rows)} values, {MOST_VALUES} at most make slices"
            )
        for value in sorted(rows, key=lambda value: (-len(rows[value]), value)):
            rule = f"{column} is {value}."
            slices.append(Slice(f"{column} {value}", rule, one_of(frozenset(rows[value]))))
    return slices


def rare_tags(train_counts: Mapping[str, int]) -> list[str]:
    """Tags with less than half of an even share of the training rows.

    Args:
        train_counts: Rows trained on, for every approved tag, 0 included.
    """
    even_share = sum(train_counts.values()) / max(len(train_counts), 1)
    return [tag for tag, count in train_counts.items() if count < even_share / 2]


def build_slices(items: Sequence[Item], train_counts: Mapping[str, int]) -> list[Slice]:
    """List the slices that apply to these items.

    Args:
        items: The rows at hand: they decide which sources and years there are.
        train_counts: Rows trained on, for every approved tag: they decide which tags are rare.

    Returns:
        Slices with distinct names. Some may contain no item.
    """
    slices = [
        Slice(name, (function.__doc__ or "").strip(), function) for name, function in SLICES.items()
    ]
    rare = frozenset(rare_tags(train_counts))
    if rare:
        names = ", ".join(tag for tag in train_counts if tag in rare)
        rule = f"True tag has less than half of an even share of the training rows: {names}."
        slices.append(Slice("rare tags", rule, lambda item: item.tag in rare))
    return slices + slices_by_source(items) + slices_by_year(items)


def slice_mask(one: Slice, items: Sequence[Item]) -> npt.NDArray[np.bool_]:
    """Say for each item, in order, whether the slice contains it; shape (n_items,)."""
    return np.fromiter((one.contains(item) for item in items), dtype=np.bool_, count=len(items))
