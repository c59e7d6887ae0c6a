"""The embedded set: what data/README.md promises of it."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.data.duplicates import group_near_duplicates
from tagger.data.items import Item
from tagger.data.sources import load_labelled
from tagger.data.tags import load_tags
from tagger.files import REPO_ROOT

DATA = REPO_ROOT / "data"
SHARED = REPO_ROOT.parent / "shared" / "data"
KINDS = {
    "paper", "library", "tool", "model", "dataset", "tutorial", "course", "post", "project", "list",
}  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def rows():
    return read(DATA / "gold.csv")


@pytest.fixture(scope="module")
def items():
    config = load_config(TrainConfig, compose_config("train", ["data=gold"]))
    return load_labelled(config.data, [tag.name for tag in load_tags(DATA / "tags.yaml")]).items


def test_every_row_is_a_valid_item(rows, items):
    assert len(items) == len(rows) >= 5000
    assert [item.id for item in items] == sorted({item.id for item in items})


def test_every_tag_and_period_has_its_share(rows):
    for tag in load_tags(DATA / "tags.yaml"):
        chosen = [row for row in rows if row["tag"] == tag.name]
        assert len(chosen) >= 0.1 * len(rows)
        years = [int(row["year"]) for row in chosen]
        for first, last in ((2012, 2015), (2016, 2019), (2020, 2022), (2023, 2026)):
            assert sum(first <= year <= last for year in years) >= 0.05 * len(years)


def test_further_columns_hold_what_the_card_says(rows):
    assert {row["kind"] for row in rows} == KINDS
    assert {row["difficulty"] for row in rows} == {"easy", "medium", "hard"}
    assert all(row["year"] == row["created_on"][:4] for row in rows)
    hard = sum(row["difficulty"] == "hard" for row in rows)
    assert hard >= 0.2 * len(rows)
    tags_of = {}
    for row in rows:
        tags_of.setdefault(row["subfield"], set()).add(row["tag"])
    assert all(len(tags) == 1 for tags in tags_of.values())
    assert len(tags_of) >= 60


@pytest.mark.slow
def test_nothing_is_said_twice(items):
    assert len(set(group_near_duplicates(items))) == len(items)
    titles = Counter(re.sub(r"\W", "", item.title.casefold()) for item in items)
    assert titles.most_common(1)[0][1] == 1


def test_no_phrase_is_a_template(items):
    rows_with = Counter()
    for item in items:
        words = re.findall(r"\w+", item.description.lower())
        rows_with.update({tuple(words[at : at + 5]) for at in range(len(words) - 4)})
    assert rows_with.most_common(1)[0][1] <= 0.01 * len(items)


def test_each_item_has_two_labels_that_agree_or_a_reason(rows):
    labels = read(DATA / "gold-labels.csv")
    assert [row["id"] for row in labels] == [row["id"] for row in rows]
    assert [row["tag"] for row in labels] == [row["tag"] for row in rows]
    for row in labels:
        agreed = row["first"] == row["second"] == row["tag"]
        assert agreed or row["why"], row["id"]
    first, second = ([row[name] for row in labels] for name in ("first", "second"))
    assert cohen_kappa_score(first, second) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mwml/dataset.csv", "lists.csv", "stream.csv"])
def test_no_item_resembles_one_of_a_real_set(name, items):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not there: the set to compare with is not part of the project")
    real = [Item(row["id"], row["title"], row["description"]) for row in read(path)]
    groups = group_near_duplicates([*items, *real])
    shared = set(groups[: len(items)]) & set(groups[len(items) :])
    assert not shared, [item.title for item, g in zip(items, groups, strict=False) if g in shared]
