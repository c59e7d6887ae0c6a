"""Divides labelled items into train, validation and test, or into the folds of a cross-validation.

Three promises, all checked before a split is handed out:

* near-duplicates stay together (`tagger.data.duplicates`), so no test item was seen in training,
  unless `data.split.group=off` gives that up;
* each part has its share of every tag, and every part has some of each tag that is frequent enough;
* the same items and the same seed give the same split.

Groups are dealt out one by one, the largest first, each to the part that still lacks most of its
tags: iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011) over groups. scikit-learn's
`StratifiedGroupKFold` does the same for folds of equal size only, has no way to give a small
share to validation, and may leave a rare tag out of a part; the tests compare the two.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tagger.config.schema import Grouping, SplitConfig
from tagger.data.duplicates import group_near_duplicates, near_duplicates_of
from tagger.data.items import Item
from tagger.data.problems import Problems
from tagger.errors import UserError


@dataclass(frozen=True)
class Split:
    """Which items are for what: ascending indices into the items, none in two parts."""

    train: list[int]
    validation: list[int]
    test: list[int]


def split_items(
    items: Sequence[Item],
    config: SplitConfig,
    group_of: Sequence[int] | None = None,
    parts: Sequence[str] | None = None,
) -> Split:
    """Divide labelled items, near-duplicates kept together, tags in proportion.

    With `folds`, the test part is fold number `fold`: over all folds each item is tested once.
    `validation` is a share of all items in either case. With `per_tag`, training items beyond that
    number are in no part.

    Args:
        items: Labelled items.
        config: How to divide them.
        group_of: What `group_items` says of them; None: it is asked.
        parts: The part (train, validation, test) that the source puts each item into; None: it
            says nothing. The test part stays as it is given: what repeats it in training or
            validation is left out there, and is in no part. Without a validation part, its share
            is taken from train.

    Raises:
        UserError: for untagged items, fewer than two tags, or too few distinct items to divide.
    """
    _check_tags(items)
    group_of = group_items(items, config.group) if group_of is None else group_of
    everything = range(len(items))
    if parts is not None:
        train, validation, test = _given_parts(items, group_of, parts, config)
    elif config.folds is not None and config.fold is not None:
        fold_share = 1 / config.folds
        if config.validation + fold_share >= 1:
            raise UserError(
                f"nothing is left to train on: a fold takes {fold_share:.0%} of the items and "
                f"validation {config.validation:.0%}",
                hint="Choose a smaller data.split.validation, or more data.split.folds.",
            )
        folds = _deal(items, group_of, everything, [fold_share] * config.folds, config.seed)
        test = folds[config.fold]
        rest = sorted(set(everything).difference(test))
        shares = [1 - fold_share - config.validation, config.validation]
        train, validation = _deal(items, group_of, rest, shares, config.seed)
    else:
        shares = [1 - config.validation - config.test, config.validation, config.test]
        train, validation, test = _deal(items, group_of, everything, shares, config.seed)
    split = Split(train, validation, test)
    _check_parts(items, group_of, split, config)
    if config.per_tag is not None:
        split = Split(_draw(items, train, config.per_tag, config.seed), validation, test)
    _check_groups(items, group_of, split)
    return split


def group_items(items: Sequence[Item], group: Grouping) -> list[int]:
    """Number the groups of items that stay together in a split; each is its own with `off`."""
    return list(range(len(items))) if group == "off" else group_near_duplicates(items)


def unseen_items(
    items: Sequence[Item], seen: Sequence[Item], group: Grouping = "near-duplicates"
) -> list[int]:
    """Return the indices of the items that are no near-duplicate of a seen item, ascending.

    What merely resembles a near-duplicate of a seen item is unseen. With `off`, an item is seen
    only if title and description are the same but for case, spacing and Unicode form.
    """
    if group == "off":
        known = {item.content_hash for item in seen}
        return [index for index, item in enumerate(items) if item.content_hash not in known]
    near = near_duplicates_of(items, seen)
    return [index for index, is_near in enumerate(near) if not is_near]


def _given_parts(
    items: Sequence[Item], group_of: Sequence[int], parts: Sequence[str], config: SplitConfig
) -> list[list[int]]:
    """Keep to the parts that a source gives, without what repeats a row that is judged by."""
    train, validation, test = (
        [index for index, part in enumerate(parts) if part == name]
        for name in ("train", "validation", "test")
    )
    tested = {group_of[index] for index in test}
    validation = [index for index in validation if group_of[index] not in tested]
    judged = tested | {group_of[index] for index in validation}
    train = [index for index in train if group_of[index] not in judged]
    if not validation and config.validation:
        shares = [1 - config.validation, config.validation]
        train, validation = _deal(items, group_of, train, shares, config.seed)
    return [train, validation, test]


def _deal(
    items: Sequence[Item],
    group_of: Sequence[int],
    indices: Sequence[int],
    shares: Sequence[float],
    seed: int,
) -> list[list[int]]:
    """Deal whole groups to parts whose sizes are in proportion to `shares`."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index in indices:
        groups[group_of[index]].append(index)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    order.sort(key=len, reverse=True)

    tags = {index: str(items[index].tag) for index in indices}
    totals = Counter(tags.values())
    # What each part still lacks of each tag, in items; it goes below zero where there is too much.
    lacks = [
        {tag: total * share / sum(shares) for tag, total in totals.items()} for share in shares
    ]
    open_parts = [part for part, share in enumerate(shares) if share > 0]
    without = {tag: set(open_parts) for tag in totals}
    groups_left = Counter(tag for group in order for tag in {tags[index] for index in group})

    parts: list[list[int]] = [[] for _ in shares]
    for group in order:
        needs = Counter(tags[index] for index in group)
        # A rare tag runs out before every part has some, unless its last groups are kept for them.
        urgent = [tag for tag in needs if groups_left[tag] <= len(without[tag])]
        choices = sorted(set[int]().union(*(without[tag] for tag in urgent))) or open_parts
        best = max(
            choices,
            key=lambda part: (
                round(sum(lacks[part][tag] * count for tag, count in needs.items()), 9),
                round(sum(lacks[part].values()), 9),
            ),
        )
        parts[best] += group
        for tag, count in needs.items():
            lacks[best][tag] -= count
            groups_left[tag] -= 1
            without[tag].discard(best)
    return [sorted(part) for part in parts]


def _draw(items: Sequence[Item], train: Sequence[int], per_tag: int, seed: int) -> list[int]:
    """Draw training items of each tag; a larger number draws the same ones and more."""
    order = list(train)
    random.Random(seed).shuffle(order)
    drawn: Counter[str | None] = Counter()
    chosen = []
    for index in order:
        if drawn[items[index].tag] < per_tag:
            drawn[items[index].tag] += 1
            chosen.append(index)
    return sorted(chosen)


def _check_tags(items: Sequence[Item]) -> None:
    untagged = next((item.id for item in items if item.tag is None), None)
    if untagged is not None:
        raise UserError(f"only tagged items can be divided: id {untagged!r} has no tag")
    tags = {item.tag for item in items}
    if len(tags) < 2:
        found = f"all {len(items)} carry {tags.pop()!r}" if tags else "there are none"
        raise UserError(f"items of at least two tags are needed to train on; {found}")


def _check_parts(
    items: Sequence[Item], group_of: Sequence[int], split: Split, config: SplitConfig
) -> None:
    """Refuse a split with an empty part, or with a tag that training would never see."""
    problems = Problems()
    test = config.test if config.folds is None else 1 / config.folds
    wanted = {"train": 1.0, "validation": config.validation, "test": test}
    for name, share in wanted.items():
        if share > 0 and not getattr(split, name):
            problems.add(f"{name} should get {share:.0%} of the items and gets none")
    groups: dict[str, set[int]] = defaultdict(set)
    for item, group in zip(items, group_of, strict=True):
        groups[str(item.tag)].add(group)
    needed = sum(share > 0 for share in wanted.values())
    for tag in sorted(groups.keys() - {str(items[index].tag) for index in split.train}):
        problems.add(
            f"train has no {tag!r}: there are {len(groups[tag])} distinct items with that tag, "
            f"at least {needed} are needed"
        )
    n_groups = len(set(group_of))
    found, off = f"{len(items)} items are too few", ""
    if n_groups < len(items):
        found = (
            f"{len(items)} items in {n_groups} groups of near-duplicates are too few, or too alike,"
        )
        off = "; group=off deals near-duplicates one by one"
    problems.raise_if_any(
        f"{found} for this split:",
        f"Add items, or change data.split (validation=0 and test=0 train on everything{off}).",
    )


def _check_groups(items: Sequence[Item], group_of: Sequence[int], split: Split) -> None:
    """Refuse a split whose parts share a group; none that is made here does."""
    part_of: dict[int, tuple[str, int]] = {}
    for name in ("train", "validation", "test"):
        for index in getattr(split, name):
            other, at = part_of.setdefault(group_of[index], (name, index))
            if other != name:
                raise UserError(
                    f"the split leaks: {other} id {items[at].id!r} and {name} id "
                    f"{items[index].id!r} say the same"
                )
