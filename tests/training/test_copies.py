from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tagger.training.copies import (
    CHANGES,
    DROPPED,
    LONGEST_SPAN,
    changed_copies,
    cross_fields,
    drop_words,
    swap_span,
)

from tagger.data.items import Item

LONG = Item("1", "t1 t2 t3 t4", " ".join(f"a{n}" for n in range(20)), tag="x")
OTHER = Item("2", "other title", " ".join(f"b{n}" for n in range(12)), tag="y")
ITEMS = [LONG, OTHER, Item("3", "a title alone", "", tag="x"), Item("4", "", "a description alone")]
EVERY = ("drop", "swap", "cross")


def rng(seed=0):
    return np.random.default_rng(seed)


def is_part_of(words, whole):
    """Whether words stand in another list of words, in this order."""
    rest = iter(whole)
    return all(word in rest for word in words)


def test_the_seed_decides_everything():
    one, same, other = (changed_copies(ITEMS, 5, EVERY, seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_each_item_has_so_many_copies_in_its_order_and_without_a_tag(copies):
    found = changed_copies(ITEMS, copies, ["drop"], 0)
    assert [item.id for item in found] == [item.id for item in ITEMS for _ in range(copies)]
    assert all(item.tag is None for item in found)
    assert [item.tag for item in ITEMS] == ["x", "y", "x", None]


def test_without_copies_there_may_be_no_items():
    assert changed_copies([], 0, EVERY, 0) == []


def test_a_fifth_of_the_words_are_left_out():
    text = " ".join(f"w{n}" for n in range(5000))
    found = drop_words(Item("1", text, text), OTHER, rng())
    for field in (found.title, found.description):
        assert len(field.split()) / 5000 == pytest.approx(1 - DROPPED, abs=0.02)
        assert is_part_of(field.split(), text.split())
    assert found.title != found.description


def test_a_field_never_loses_all_of_its_words_and_an_empty_one_stays_empty():
    short = Item("1", "first second", "")
    random = rng()
    found = Counter(drop_words(short, OTHER, random).title for _ in range(400))
    # Both are drawn in a twenty-fifth of the cases: the first stays, as where it is alone.
    assert set(found) == {"first second", "first", "second"}
    assert found["first"] > found["second"]
    assert drop_words(short, OTHER, random).description == ""


def test_a_swapped_span_is_as_long_as_the_one_it_takes_the_place_of():
    random, lengths, starts = rng(), Counter(), set()
    for _ in range(500):
        words = swap_span(LONG, OTHER, random).description.split()
        assert len(words) == 20
        theirs = [word for word in words if word[0] == "b"]
        where = [at for at, word in enumerate(words) if word[0] == "b"]
        assert where == list(range(where[0], where[-1] + 1)), "they stand together"
        at = int(theirs[0][1:])
        assert theirs == [f"b{n}" for n in range(at, at + len(theirs))], "in their own order"
        assert [word for word in words if word[0] == "a"] == [
            f"a{n}" for n in range(20) if n not in where
        ]
        lengths[len(theirs)] += 1
        starts |= {where[0]}
    # At most half of the shorter text, and anywhere in the longer.
    assert set(lengths) == set(range(1, int(12 * LONGEST_SPAN) + 1))
    assert min(starts) == 0 and max(starts) > 15


def test_a_swap_leaves_the_title():
    assert swap_span(LONG, OTHER, rng()).title == LONG.title


@pytest.mark.parametrize(
    ("item", "other"),
    [(LONG, ITEMS[2]), (ITEMS[2], LONG), (Item("1", "a b c", "one"), LONG)],
    ids=["no words to take", "no place for them", "a word is no half"],
)
def test_where_there_is_no_span_to_swap_words_are_dropped(item, other):
    assert swap_span(item, other, rng()) == drop_words(item, other, rng())


def test_crossed_fields_are_this_title_and_that_description():
    found = cross_fields(LONG, OTHER, rng())
    assert (found.id, found.title, found.description) == ("1", LONG.title, OTHER.description)


@pytest.mark.parametrize(
    ("item", "other"), [(ITEMS[3], LONG), (LONG, ITEMS[2])], ids=["no title", "no description"]
)
def test_where_nothing_can_be_crossed_words_are_dropped(item, other):
    assert cross_fields(item, other, rng()) == drop_words(item, other, rng())


@pytest.mark.parametrize("change", EVERY)
def test_copies_are_changed_in_the_ways_that_are_named(change):
    items = [LONG, OTHER]
    for copy in changed_copies(items, 20, [change], 0):
        item, other = (LONG, OTHER) if copy.id == "1" else (OTHER, LONG)
        words, of_other = copy.description.split(), other.description.split()
        if change == "drop":
            assert is_part_of(words, item.description.split())
        elif change == "swap":
            assert len(words) == len(item.description.split())
        else:
            assert copy.description in (item.description, other.description)
        assert change == "drop" or copy.title == item.title
        assert change != "drop" or not set(words) & set(of_other)


def test_each_way_is_taken_about_as_often():
    found = changed_copies([LONG], 600, EVERY, 0)
    # Crossed or swapped with itself alone, it stays as it is or nearly so; else it is shorter.
    shorter = sum(len(copy.text.split()) < len(LONG.text.split()) for copy in found)
    assert shorter == pytest.approx(200, abs=40)


fields = st.text("ab \t", max_size=12).map(str.strip)
items = st.builds(Item, st.just("1"), fields, fields).filter(lambda item: item.text)


@settings(max_examples=100, deadline=None)
@given(
    given=st.lists(items, min_size=1, max_size=5),
    changes=st.sets(st.sampled_from(sorted(CHANGES)), min_size=1).map(sorted),
    seed=st.integers(0, 2**31 - 1),
)
def test_no_copy_is_empty(given, changes, seed):
    found = changed_copies(given, 3, changes, seed)
    assert len(found) == 3 * len(given)
    assert all(copy.text for copy in found)
