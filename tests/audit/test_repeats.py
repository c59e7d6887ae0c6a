import numpy as np

from tagger.audit.repeats import close_pairs, find_repeats
from tagger.data.items import Item


def item(number: int, title: str, description: str, tag: str | None = "fruit") -> Item:
    return Item(str(number), title, description, None, tag)


ITEMS = [
    item(0, "Ripe Plums", "How to tell a ripe plum by its smell and weight"),
    item(1, "ripe  plums", "how to tell a ripe plum by its smell and weight", "metal"),
    item(2, "Plums, ripe", "How to tell a ripe plum by smell and weight, quickly"),
    item(3, "Welding", "Steel"),
    item(4, "Forging", "steel"),
    item(5, "Hail", "Why hailstones have rings"),
]


def kinds_of(repeats):
    return {(one.kind, one.rows): one for one in repeats}


def test_each_kind_of_repeat_is_found_and_only_what_says_the_same_conflicts():
    found = kinds_of(find_repeats(ITEMS, [""] * 6, None))
    assert found["text", (0, 1)].conflict
    assert found["near", (0, 1, 2)].conflict
    assert found["title", (0, 1)].conflict is False
    # One word is shared by chance: a repeat of the field, and no near-duplicate.
    assert ("description", (3, 4)) in found
    assert not any(3 in one.rows for one in found.values() if one.kind == "near")
    assert not any(one.kind == "meaning" for one in found.values())


def test_rows_of_different_parts_leak_and_rows_of_one_part_do_not():
    parts = ["train", "train", "test", "train", "test", "test"]
    found = kinds_of(find_repeats(ITEMS, parts, None))
    assert found["near", (0, 1, 2)].across
    assert not found["text", (0, 1)].across
    assert not found["description", (3, 4)].across


def test_close_vectors_are_a_repeat_of_meaning_unless_the_words_show_it():
    vectors = np.eye(6)
    vectors[1] = vectors[0]
    vectors[5] = vectors[3] + 0.1 * vectors[5]
    found = kinds_of(find_repeats(ITEMS, [""] * 6, vectors))
    assert {rows for kind, rows in found if kind == "meaning"} == {(3, 5)}


def test_close_pairs_equal_a_direct_computation_beyond_one_block(monkeypatch):
    monkeypatch.setattr("tagger.audit.repeats.BLOCK", 7)
    vectors = np.random.default_rng(0).normal(size=(40, 4))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    expected = [(i, j) for i in range(40) for j in range(i + 1, 40) if cosines[i, j] >= 0.8]
    assert sorted(close_pairs(vectors, 0.8)) == expected
    assert expected
