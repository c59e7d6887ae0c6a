import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tagger.training.noise import KEYS, SHORTEST, disturb, misspell

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig, TrainingConfig
from tagger.data.items import Item

WORDS = ["learning", "orchard", "Iron", "furnace", "weather", "Blacksmith", "model"]
ANY_SHARE = st.floats(0, 1)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def config(**changes: float) -> TrainingConfig:
    overrides = [f"training.{name}={value}" for name, value in changes.items()]
    return load_config(TrainConfig, compose_config("train", overrides)).training


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


def test_a_field_is_left_out_at_the_rate_and_never_both() -> None:
    item, random = Item("1", "a title", "a description", tag="x"), generator()
    chosen = config(field_dropout=0.3)
    met = [disturb(item, chosen, random) for _ in range(4000)]
    without_title = sum(not one.title for one in met) / 4000
    without_description = sum(not one.description for one in met) / 4000
    assert without_title == pytest.approx(0.15, abs=0.03)
    assert without_description == pytest.approx(0.15, abs=0.03)
    assert all(one.text for one in met)
    assert {(one.id, one.tag) for one in met} == {("1", "x")}


@pytest.mark.parametrize("item", [Item("1", "a title", ""), Item("1", "", "a description")])
def test_an_only_field_is_never_left_out(item: Item) -> None:
    chosen, random = config(field_dropout=0.9), generator()
    assert all(disturb(item, chosen, random) == item for _ in range(200))


def test_both_fields_are_misspelt() -> None:
    item = Item("1", " ".join(WORDS), " ".join(WORDS), tag="x")
    met = disturb(item, config(typos=0.9), generator())
    assert met.title != item.title
    assert met.description != item.description
    assert len(met.title.split()) == len(met.description.split()) == len(WORDS)


def test_both_kinds_of_noise_go_together() -> None:
    item, random = Item("1", "orchards", "blacksmiths", tag="x"), generator()
    chosen = config(field_dropout=0.5, typos=0.9)
    met = [disturb(item, chosen, random) for _ in range(200)]
    assert any(not one.title and one.description != item.description for one in met)
    assert any(not one.description and one.title != item.title for one in met)


def test_without_noise_an_item_stays_as_it_is() -> None:
    item = Item("1", "a title", "a description", tag="x")
    assert disturb(item, config(), generator()) == item
