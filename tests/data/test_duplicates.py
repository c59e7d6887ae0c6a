import csv
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item

SHARED = Path(__file__).parents[2].parent / "shared/data"
MakeItem = Callable[..., Item]


def same(left: tuple[str, str], right: tuple[str, str]) -> bool:
    groups = group_near_duplicates([Item("1", *left), Item("2", *right)])
    return groups[0] == groups[1]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("YOLO: a detector", "Fast."), ("yolo  A DETECTOR", "fast")),
        (("Learning to rank", "One text about it."), ("learning to RANK!", "Another, by others.")),
        (
            ("Project A", "Tools that turn research into products."),
            ("Repo B", "Tools that turn research into products"),
        ),
        (
            ("ELECTRA", "Pre-training Text Encoders as Discriminators Rather Than Generators"),
            ("electra (code)", "Pretraining text encoders as discriminators, not generators"),
        ),
        (("🎉", ""), ("🎉", "")),
        (("", "只有描述"), ("只有描述", "")),
    ],
)
def test_same_content_is_grouped(left: tuple[str, str], right: tuple[str, str]) -> None:
    assert same(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        # A short title, or a stock description, is shared by chance.
        (("Graph Networks", "Slides of a talk."), ("Graph networks", "How molecules fold.")),
        (("pandas-tools", "A Python package."), ("hydro", "A Python package.")),
        (
            (
                "Computer Vision Pretrained Models",
                "A collection of computer vision pre-trained models.",
            ),
            (
                "NLP Pretrained Models",
                "A collection of Natural language processing pre-trained models.",
            ),
        ),
        (("🎉", ""), ("🚀", "")),
    ],
)
def test_different_content_is_not(left: tuple[str, str], right: tuple[str, str]) -> None:
    assert not same(left, right)


def test_groups_are_chains_numbered_by_first_member() -> None:
    items = [
        Item("a", "Something else entirely", "About cooking rice."),
        Item("b", "The first shared title", "Text number one is on birds."),
        Item("c", "The first shared title", "A common description of five words or more"),
        Item("d", "Unlike the others", "A common description of five words or more"),
    ]
    assert group_near_duplicates(items) == [0, 1, 1, 1]
    assert group_near_duplicates([]) == []


def test_groups_do_not_depend_on_order_or_process() -> None:
    words = [f"w{number}" for number in range(40)]
    rng = random.Random(0)
    items = [Item(str(n), " ".join(rng.choices(words, k=4)), "") for n in range(300)]

    def partition(items: list[Item]) -> set[frozenset[str]]:
        members: dict[int, set[str]] = {}
        for item, group in zip(items, group_near_duplicates(items), strict=True):
            members.setdefault(group, set()).add(item.id)
        return {frozenset(ids) for ids in members.values()}

    first = partition(items)
    assert 1 < len(first) < 300
    rng.shuffle(items)
    assert partition(items) == first


def test_variants_of_one_template_take_no_quadratic_time() -> None:
    items = [
        Item(str(n), f"Build {n}", "An open toolkit for detection and tracking, release candidate")
        for n in range(3000)
    ] + [
        Item(f"x{n}", "", f"Variant {n} of a long sentence that stays the same in all of its parts")
        for n in range(3000)
    ]
    start = time.process_time()
    groups = group_near_duplicates(items)
    assert time.process_time() - start < 10  # about 1 s; comparing all pairs takes a minute
    assert len(set(groups[:3000])) == len(set(groups[3000:])) == 1
    assert len(set(groups)) == 2


def test_finds_the_known_pairs_of_real_data() -> None:
    path = SHARED / "mwml/dataset.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with path.open(newline="", encoding="utf-8") as file:
        items = [Item(row["id"], row["title"], row["description"]) for row in csv.DictReader(file)]
    start = time.process_time()
    groups = dict(zip((item.id for item in items), group_near_duplicates(items), strict=True))
    assert time.process_time() - start < 3
    for left, right in [("101", "860"), ("860", "2284"), ("2259", "2260"), ("674", "1165")]:
        assert groups[left] == groups[right]
    assert groups["1887"] != groups["1889"]
    assert len(set(groups.values())) == 757
