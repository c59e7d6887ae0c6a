import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.data.items import Item
from tagger.training.augmentation import KEYS, SHORTEST, drop_tokens, misspell, misspell_item

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
