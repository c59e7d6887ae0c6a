"""The set of contrasts: items whose words speak for another tag than their subject does."""

import csv
from collections import Counter

import pytest

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.data.splits import unseen_items
from tagger.data.tags import load_tags
from tagger.evaluation.behaviour import load_suite
from tagger.files import REPO_ROOT

DATA = REPO_ROOT / "data"
KINDS = {"denial", "method", "stray-word", "rare-words", "padding"}


@pytest.fixture(scope="module")
def tags() -> list[str]:
    return [tag.name for tag in load_tags(DATA / "tags.yaml")]


def load(name: str, tags: list[str]) -> list[Item]:
    overrides = ["data=gold", f"data.path={DATA / name}"]
    return load_labelled(
        load_config(TrainConfig, compose_config("train", overrides)).data, tags
    ).items


@pytest.fixture(scope="module")
def items(tags: list[str]) -> list[Item]:
    return load("contrasts.csv", tags)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (DATA / "contrasts.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_is_a_valid_item_with_an_id_of_its_own(
    items: list[Item], rows: list[dict[str, str]], tags: list[str]
) -> None:
    assert len(items) == len(rows) == 360
    assert len({item.id for item in items}) == len(items)
    assert all(item.created_on is not None and item.tag in tags for item in items)
    gold = {item.id for item in load("gold.csv", tags)}
    assert not gold & {item.id for item in items}


def test_tags_and_kinds_are_balanced(rows: list[dict[str, str]], tags: list[str]) -> None:
    assert Counter(row["tag"] for row in rows) == dict.fromkeys(tags, 90)
    cells = Counter((row["kind"], row["tag"]) for row in rows)
    assert cells == {(kind, tag): 18 for kind in KINDS for tag in tags}


@pytest.mark.slow
def test_nothing_is_said_twice(items: list[Item]) -> None:
    assert len(set(group_near_duplicates(items))) == len(items)


@pytest.mark.slow
def test_no_row_resembles_an_item_that_is_trained_on_or_a_behaviour_case(
    items: list[Item], tags: list[str]
) -> None:
    suite = load_suite(DATA / "behaviour.yaml")
    cases = [case for one in suite.capabilities.values() for case in one.cases]
    texts = [item for case in cases for item in (case.before, case.after)]
    for seen in (load("gold.csv", tags), texts):
        unlike = set(unseen_items(items, seen))
        assert [item.id for row, item in enumerate(items) if row not in unlike] == []
