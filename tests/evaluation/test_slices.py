from datetime import datetime

import pytest

from tagger.data.items import Item
from tagger.errors import UserError
from tagger.evaluation.slices import (
    SLICES,
    build_slices,
    rare_tags,
    slice_mask,
    slices_by_column,
)


def item(title: str = "A title of words", description: str = "and a text that says more", **fields):
    return Item("1", title, description, **fields)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("short text", item("1 2 3", "4 5 6 7"), item("1 2 3 4", "5 6 7 8")),
        ("no description", item(description=""), item(description="x")),
        ("terse title", item("Two words"), item("Three words here")),
        ("terse title", item("", "only a description"), item("Not at all terse")),
        ("large language models", item("Chat with LLMs"), item("Realms of film")),
        ("large language models", item("Fine-tuning GPT-2"), item("An Egypt trip")),
        ("large language models", item("Large Language Model zoo"), item("A large model")),
        ("tutorials and courses", item("An introduction to trees"), item("Trees introduced")),
        ("tutorials and courses", item("How to prune trees"), item("How trees grow")),
        ("tools", item("An open-source library for trees"), item("Librarians and trees")),
        ("papers", item("Trees", "We propose a novel tree."), item("Trees", "Proposals.")),
    ],
)
def test_each_rule(name: str, inside: Item, outside: Item) -> None:
    assert SLICES[name](inside)
    assert not SLICES[name](outside)


def test_every_slice_says_its_rule_and_has_its_own_name() -> None:
    items = [item(created_on=datetime(2020, 1, 1), tag="a"), item(created_on=datetime(2019, 1, 1))]
    slices = build_slices(items, {"a": 1, "b": 9, "c": 9})
    names = [one.name for one in slices]
    assert len(set(names)) == len(names)
    assert set(SLICES) < set(names)
    assert all(one.description for one in slices)


def test_each_file_that_rows_come_from_is_a_slice_where_there_are_several() -> None:
    items = [item(source=source) for source in ("mwml", "gold", "mwml")]
    found = {one.name: one for one in build_slices(items, {}) if one.name.startswith("source")}
    assert list(found) == ["source: mwml", "source: gold"]
    assert slice_mask(found["source: mwml"], items).tolist() == [True, False, True]
    assert slice_mask(found["source: gold"], items).tolist() == [False, True, False]
    for same in (items[::2], [item(), item()]):
        assert not [one for one in build_slices(same, {}) if one.name.startswith("source")]


def test_years_come_from_the_rows_in_order() -> None:
    items = [
        item(created_on=datetime(2021, 12, 31, 23, 59)),
        item(),
        item(created_on=datetime(2019, 1, 1)),
        item(created_on=datetime(2021, 1, 1)),
    ]
    years = {one.name: one for one in build_slices(items, {}) if one.name.startswith("year")}
    assert list(years) == ["year 2019", "year 2021"]
    assert slice_mask(years["year 2021"], items).tolist() == [True, False, False, True]
    assert slice_mask(years["year 2019"], items).tolist() == [False, False, True, False]


def test_rare_tags_have_less_than_half_of_an_even_share() -> None:
    assert rare_tags({"a": 310, "b": 285, "c": 106, "d": 63}) == ["d"]
    assert rare_tags({"a": 10, "b": 10}) == []
    assert rare_tags({"a": 30, "never seen in training": 0}) == ["never seen in training"]
    assert rare_tags({}) == []


def test_the_rare_slice_goes_by_the_true_tag() -> None:
    items = [item(tag="d"), item(tag="a")]
    rare = [one for one in build_slices(items, {"a": 90, "d": 5}) if one.name == "rare tags"]
    assert slice_mask(rare[0], items).tolist() == [True, False]
    assert "d" in rare[0].description
    assert not any(one.name == "rare tags" for one in build_slices(items, {"a": 5, "d": 5}))


def test_values_of_a_column_are_slices() -> None:
    items = [Item(str(number), "a title", "") for number in range(4)]
    slices = slices_by_column({"kind": {"0": "paper", "1": "post", "3": "post", "9": "post"}})
    assert [one.name for one in slices] == ["kind post", "kind paper"]
    assert [slice_mask(one, items).tolist() for one in slices] == [
        [False, True, False, True],
        [True, False, False, False],
    ]


def test_a_column_of_too_many_values_is_refused() -> None:
    with pytest.raises(UserError, match="title has 101 values, 100 at most"):
        slices_by_column({"title": {str(number): f"title {number}" for number in range(101)}})
