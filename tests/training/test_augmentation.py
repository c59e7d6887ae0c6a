import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.data.items import Item
from tagger.training.augmentation import (
    CHANGES,
    DROPPED,
    KEYS,
    LONGEST_SPAN,
    SHORTEST,
    changed_copies,
    cross_fields,
    drop_tokens,
    drop_words,
    misspell,
    misspell_item,
    swap_span,
)

WORDS = ["learning", "orchard", "Iron", "furnace", "weather", "Blacksmith", "model"]
ANY_SHARE = st.floats(0, 1)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def is_slip(word: str, changed: str) -> bool:
    """Whether a letter was swapped with the next, left out, doubled or taken for its neighbour."""
    possible = set()
    for at in range(1, len(word)):
        before, letter, after = word[:at], word[at], word[at + 1 :]
        possible |= {before + after, before + letter + letter + after}
        if after:
            possible.add(before + after[0] + letter + after[1:])
        for row in KEYS:
            place = row.find(letter.lower())
            near = row[max(place - 1, 0) : place + 2] if place >= 0 else ""
            possible |= {before + key + after for key in near + near.upper()}
    return changed in possible


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_about_the_share_of_long_words_is_misspelt(share: float) -> None:
    words = WORDS * 500
    changed = misspell(" ".join(words), share, generator()).split()
    rate = sum(one != other for one, other in zip(words, changed, strict=True)) / len(words)
    assert share - 0.03 < rate < share + 0.03


def test_a_slip_is_one_that_a_keyboard_makes() -> None:
    for seed in range(200):
        for word in WORDS:
            assert is_slip(word, misspell(word, 1.0, generator(seed)))


def test_every_kind_of_slip_comes_up() -> None:
    slips = {misspell("model", 1.0, generator(seed)) for seed in range(300)}
    assert {"mdoel", "modl", "modell", "mosel"} <= slips


@given(st.text(max_size=60), ANY_SHARE, st.integers(0, 100))
@settings(max_examples=150, deadline=None)
def test_only_long_words_change_and_never_at_their_start(
    text: str, share: float, seed: int
) -> None:
    changed = misspell(text, share, generator(seed))
    letters = r"[^\W\d_]+"
    assert re.split(letters, changed) == re.split(letters, text)  # spacing, signs and digits
    for before, after in zip(re.findall(letters, text), re.findall(letters, changed), strict=True):
        assert after[0] == before[0]
        assert abs(len(after) - len(before)) <= 1
        if len(before) < SHORTEST:
            assert after == before


def test_spacing_and_signs_stay() -> None:
    text = "  learning,\tmodels:\n\n(weather) — v2.0 C++ it's <b>  "
    changed = misspell(text, 1.0, generator())
    assert changed != text
    assert re.sub(r"[^\W\d_]", "", changed) == re.sub(r"[^\W\d_]", "", text)


@given(st.text(max_size=60))
def test_no_share_changes_nothing(text: str) -> None:
    assert misspell(text, 0.0, generator()) == text


def test_the_same_state_gives_the_same_text() -> None:
    text = " ".join(WORDS * 10)
    assert misspell(text, 0.5, generator(4)) == misspell(text, 0.5, generator(4))
    assert misspell(text, 0.5, generator(4)) != misspell(text, 0.5, generator(5))


@pytest.mark.parametrize("text", ["машинное обучение", "機械学習入門", "İSTANBULİİ", "straße ǅǅǅǅ"])
def test_letters_that_are_on_no_key_do_not_stop_it(text: str) -> None:
    for seed in range(100):
        changed = misspell(text, 1.0, generator(seed))
        assert abs(len(changed) - len(text)) <= 2
        assert changed[0] == text[0]


def test_both_fields_are_misspelt() -> None:
    item = Item("1", " ".join(WORDS), " ".join(WORDS), tag="x")
    met = misspell_item(item, 0.9, generator())
    assert met.title != item.title
    assert met.description != item.description
    assert len(met.title.split()) == len(met.description.split()) == len(WORDS)


def test_dropped_tokens_leave_order_and_special_tokens():
    row = [101, *range(1000, 2000), 102]
    dropped = drop_tokens(row, 0.3, np.random.default_rng(0))
    assert dropped[0] == 101 and dropped[-1] == 102
    assert dropped == [*sorted(dropped[:-1]), 102]
    assert 650 < len(dropped) < 750
    assert drop_tokens([101, 102], 0.9, np.random.default_rng(0)) == [101, 102]
    assert drop_tokens(row, 0.0, np.random.default_rng(0)) == row


LONG = Item("1", "t1 t2 t3 t4", " ".join(f"a{n}" for n in range(20)), tag="x")
OTHER = Item("2", "other title", " ".join(f"b{n}" for n in range(12)), tag="y")
ITEMS = [LONG, OTHER, Item("3", "a title alone", "", tag="x"), Item("4", "", "a description alone")]
EVERY = ("drop", "swap", "cross")


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
    found = drop_words(Item("1", text, text), OTHER, generator())
    for field in (found.title, found.description):
        assert len(field.split()) / 5000 == pytest.approx(1 - DROPPED, abs=0.02)
        assert is_part_of(field.split(), text.split())
    assert found.title != found.description


def test_a_field_never_loses_all_of_its_words_and_an_empty_one_stays_empty():
    short = Item("1", "first second", "")
    random = generator()
    found = Counter(drop_words(short, OTHER, random).title for _ in range(400))
    # Both are drawn in a twenty-fifth of the cases: the first stays, as where it is alone.
    assert set(found) == {"first second", "first", "second"}
    assert found["first"] > found["second"]
    assert drop_words(short, OTHER, random).description == ""


def test_a_swapped_span_is_as_long_as_the_one_it_takes_the_place_of():
    random, lengths, starts = generator(), Counter(), set()
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
    assert swap_span(LONG, OTHER, generator()).title == LONG.title


@pytest.mark.parametrize(
    ("item", "other"),
    [(LONG, ITEMS[2]), (ITEMS[2], LONG), (Item("1", "a b c", "one"), LONG)],
    ids=["no words to take", "no place for them", "a word is no half"],
)
def test_where_there_is_no_span_to_swap_words_are_dropped(item, other):
    assert swap_span(item, other, generator()) == drop_words(item, other, generator())


def test_crossed_fields_are_this_title_and_that_description():
    found = cross_fields(LONG, OTHER, generator())
    assert (found.id, found.title, found.description) == ("1", LONG.title, OTHER.description)


@pytest.mark.parametrize(
    ("item", "other"), [(ITEMS[3], LONG), (LONG, ITEMS[2])], ids=["no title", "no description"]
)
def test_where_nothing_can_be_crossed_words_are_dropped(item, other):
    assert cross_fields(item, other, generator()) == drop_words(item, other, generator())


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
