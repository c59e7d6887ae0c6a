import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.data.items import Item
from tagger.evaluation.parts import (
    FEWEST_ROWS,
    ROWS_A_CLUSTER,
    ROWS_A_CLUSTER_OF_A_TAG,
    Part,
    found_parts,
    membership,
    named_parts,
)
from tagger.evaluation.slices import build_slices
from tagger.scores import FloatArray, IntArray

TAGS = ("fruit", "metal")


def make_items(texts: list[str], tags: list[str] | None = None) -> list[Item]:
    given_tags = tags or ["fruit"] * len(texts)
    return [
        Item(str(number), text, "", tag=tag)
        for number, (text, tag) in enumerate(zip(texts, given_tags, strict=True))
    ]


def find(texts: list[str], vectors: FloatArray | None = None) -> list[Part]:
    return found_parts(make_items(texts), np.zeros(len(texts), np.int64), TAGS, vectors)


def by_name(parts: list[Part]) -> dict[str, list[int]]:
    return {part.name: part.rows.tolist() for part in parts}


@pytest.fixture(scope="module")
def crowds() -> tuple[list[Item], IntArray, FloatArray]:
    """Four crowds of 40, two of each tag, each with words of its own and its own direction."""
    subjects = ("orchard apples", "vineyard grapes", "copper wire", "iron forge")
    random = np.random.default_rng(0)
    place = np.arange(160) % 4
    true = place // 2
    items = make_items(
        [f"{subjects[crowd]} number {'xyz'[row % 3]}" for row, crowd in enumerate(place)],
        [TAGS[tag] for tag in true],
    )
    vectors = np.eye(4)[place] + random.normal(scale=0.05, size=(160, 4))
    return items, true, vectors


def test_named_parts_are_all_rows_slices_and_tags() -> None:
    items = make_items(["an apple tutorial", "iron", "a course on iron"], ["fruit", *["metal"] * 2])
    parts = named_parts(
        items,
        (*TAGS, "weather"),
        build_slices(items, {"fruit": 10, "metal": 1, "weather": 10}),
    )
    rows = by_name(parts)
    assert rows["all rows"] == [0, 1, 2]
    assert rows["tutorials and courses"] == [0, 2]
    assert rows["rare tags"] == rows["metal"] == [1, 2]
    assert (rows["fruit"], rows["weather"]) == ([0], [])
    assert {part.kind for part in parts} == {"all", "slice", "tag"}


def test_a_word_counts_once_a_row_in_any_case() -> None:
    texts = ["Apple APPLE apple", "straße apple"] * 5 + ["pear"] * 10
    rows = by_name(find([*texts, "STRASSE"]))
    assert rows['word "apple"'] == list(range(10))
    assert 'word "strasse"' not in rows  # 6 rows
    assert by_name(find([*texts, *["STRASSE"] * 3]))['word "strasse"'] == [
        1,
        3,
        5,
        7,
        9,
        20,
        21,
        22,
    ]


def test_stop_words_and_numbers_make_no_part() -> None:
    assert [part for part in find(["the THE of 2024 10"] * 20) if part.kind == "word"] == []


def test_names_of_languages_are_words() -> None:
    names = by_name(find(["c++ C# scikit-learn"] * 8))
    assert {'word "c++"', 'word "c#"', 'word "scikit-learn"'} <= set(names)


@given(st.lists(st.integers(1, 40), min_size=60, max_size=120))
@settings(max_examples=50, deadline=None)
def test_no_row_is_of_two_lengths(lengths: list[int]) -> None:
    parts = [part for part in find(["a " * many for many in lengths]) if part.kind == "length"]
    rows = np.concatenate([part.rows for part in parts])
    assert len(np.unique(rows)) == len(rows)
    for part in parts:
        low, high = map(int, part.name.removesuffix(" words").split(" to "))
        inside = [row for row, many in enumerate(lengths) if low <= many <= high]
        assert part.rows.tolist() == inside


@pytest.mark.parametrize("lengths", [[5] * 40, list(range(1, 101)), [1] * 50 + [30] * 50])
def test_lengths_cover_every_row(lengths: list[int]) -> None:
    parts = [part for part in find(["a " * many for many in lengths]) if part.kind == "length"]
    rows = np.concatenate([part.rows for part in parts])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert len(parts) == min(len(set(lengths)), 4)


def test_there_are_clusters_only_with_vectors(
    crowds: tuple[list[Item], IntArray, FloatArray],
) -> None:
    items, true, vectors = crowds
    without = found_parts(items, true, TAGS, None)
    assert {part.kind for part in without} == {"word", "length"}
    clusters = [part for part in found_parts(items, true, TAGS, vectors) if part.kind == "cluster"]
    assert len(clusters) >= 8


def test_clusters_follow_meaning(crowds: tuple[list[Item], IntArray, FloatArray]) -> None:
    items, true, vectors = crowds
    rows = {tuple(part.rows.tolist()) for part in found_parts(items, true, TAGS, vectors)}
    # 40 of 160 rows: two clusters a tag at 30 rows each are the crowds of that tag.
    for crowd in range(4):
        assert tuple(range(crowd, 160, 4)) in rows


def test_clusters_of_a_tag_hold_its_rows_alone(
    crowds: tuple[list[Item], IntArray, FloatArray],
) -> None:
    items, true, vectors = crowds
    parts = found_parts(items, true, TAGS, vectors)
    for position, tag in enumerate(TAGS):
        own = [part for part in parts if part.name.startswith(f"{tag} about")]
        assert len(own) >= 2
        assert all((true[part.rows] == position).all() for part in own)


def test_names_say_the_words_that_set_a_cluster_apart(
    crowds: tuple[list[Item], IntArray, FloatArray],
) -> None:
    items, true, vectors = crowds
    names = {
        tuple(part.rows.tolist()): part.name for part in found_parts(items, true, TAGS, vectors)
    }
    assert names[tuple(range(0, 160, 4))].startswith("fruit about apples, orchard")
    assert names[tuple(range(3, 160, 4))].startswith("metal about forge, iron")


def test_rows_ascend_and_no_part_is_too_small(
    crowds: tuple[list[Item], IntArray, FloatArray],
) -> None:
    items, true, vectors = crowds
    rare = [Item(f"r{number}", "quince", "", tag="fruit") for number in range(FEWEST_ROWS - 1)]
    parts = found_parts(
        [*items, *rare],
        np.append(true, [0] * len(rare)),
        TAGS,
        np.vstack([vectors, np.full((len(rare), 4), -1.0)]),
    )
    assert 'word "quince"' not in by_name(parts)
    assert min(len(part.rows) for part in parts) >= FEWEST_ROWS
    assert all((np.diff(part.rows) > 0).all() for part in parts)


def test_the_same_rows_give_the_same_parts(
    crowds: tuple[list[Item], IntArray, FloatArray],
) -> None:
    first, second = (found_parts(*crowds[:2], TAGS, crowds[2]) for _ in range(2))
    assert [(part.kind, part.name, part.rows.tolist()) for part in first] == [
        (part.kind, part.name, part.rows.tolist()) for part in second
    ]


def test_few_rows_are_not_clustered() -> None:
    many = min(*ROWS_A_CLUSTER, *ROWS_A_CLUSTER_OF_A_TAG) * 2 - 1
    parts = find(["apple"] * many, np.random.default_rng(0).normal(size=(many, 3)))
    assert {part.kind for part in parts} == {"word", "length"}


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_equal_and_zero_vectors_do_not_stop_the_search() -> None:
    parts = find(["apple pear"] * 40, np.zeros((40, 3)))
    assert 'word "apple"' in by_name(parts)


def test_words_of_any_script_are_parts() -> None:
    texts = ["Привет МИР 😀 机器学习", "мир, Ελλάδα — café"] * 8
    rows = by_name(find(texts, np.random.default_rng(0).normal(size=(16, 3))))
    assert rows['word "мир"'] == list(range(16))
    assert rows['word "机器学习"'] == list(range(0, 16, 2))
    assert {'word "ελλάδα"', 'word "café"'} <= set(rows)


def test_membership_says_which_part_has_which_row() -> None:
    parts = [
        Part("word", "a", np.array([0, 3])),
        Part("word", "b", np.array([], dtype=np.int64)),
        Part("word", "c", np.array([1, 2, 3])),
    ]
    assert membership(parts, 5).toarray().tolist() == [
        [1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
    ]


def test_membership_of_no_part_has_no_row() -> None:
    assert membership([], 5).shape == (0, 5)
    assert membership([], 5).nnz == 0
