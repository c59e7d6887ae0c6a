import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.data.items import Item
from tagger.evaluation.error_groups import (
    MOST_SHOWN,
    NEAREST,
    describe_errors,
    nearest_items,
    suspected_label_errors,
)
from tagger.evaluation.parts import Part
from tagger.evaluation.predictions import LabelledPredictions
from tagger.evaluation.report import Errors, NearestItem, WrongItem
from tagger.scores import IntArray

TAGS = ("fruit", "metal", "weather")


def make_predictions(
    true: IntArray, predicted: IntArray, sure: float | np.ndarray = 0.9
) -> LabelledPredictions:
    """Rows with these tags, decided so, each decision as sure as given."""
    rows = np.arange(len(true))
    probabilities = np.repeat(((1 - np.broadcast_to(sure, len(true))) / 2)[:, None], 3, axis=1)
    probabilities[rows, predicted] = sure
    items = [Item(f"i{row}", f"title {row}", f"about {row}", tag=TAGS[true[row]]) for row in rows]
    return LabelledPredictions(items, true, probabilities, TAGS)


def carrying(tags: IntArray) -> list[list[tuple[Item, float]]]:
    """Neighbours of each row that all carry the tag given for it."""
    return [[(Item("k", "known", "", tag=TAGS[tag]), 0.8)] * NEAREST for tag in tags.tolist()]


def test_groups_are_named_by_part_or_by_tags() -> None:
    true = np.arange(300) % 3
    predicted = true.copy()
    predicted[:30] = (true[:30] + 1) % 3
    usual = Part("word", "usual", np.arange(100, 300))
    predicted[[100, 103, 106, 109]] = 0  # metal taken for fruit
    predictions = make_predictions(true, predicted)
    bad = Part("word", 'word "quince"', np.arange(40))
    wide = Part("word", "wide", np.arange(60))
    described = describe_errors(predictions, [usual, wide, bad], None)
    first, second = described.groups
    assert (first.name, first.num_samples) == ('word "quince"', 40)
    assert first.error_rate.low < first.error_rate.value == 0.75
    assert [one.id for one in first.errors] == [f"i{row}" for row in range(30)]
    assert second.name == "metal taken for fruit"
    assert (second.num_samples, second.error_rate) == (None, None)
    assert [one.id for one in second.errors] == ["i100", "i103", "i106", "i109"]
    assert (described.total, described.shown) == (34, 34)


def test_an_error_is_told_with_its_neighbours() -> None:
    true, predicted = np.array([0, 1] * 6), np.array([0, 1] * 5 + [0, 0])
    titled, untitled = Item("a", "Iron", "x", tag="metal"), Item("b", "", "Some  tin", tag="metal")
    near = [*[[]] * 11, [(titled, 0.91234), (untitled, 0.5)]]
    described = describe_errors(make_predictions(true, predicted, 0.8), [], near)
    (group,) = described.groups
    near_ones = [
        NearestItem(title="Iron", tag="metal", similarity=0.912),
        NearestItem(title="Some tin", tag="metal", similarity=0.5),
    ]
    assert group.errors == [
        WrongItem(
            id="i11",
            title="title 11",
            description="about 11",
            true="metal",
            predicted="fruit",
            probability=0.8,
            suspected_label_error=False,
            nearest_items=near_ones,
        )
    ]


def test_the_surest_errors_come_first_in_every_group() -> None:
    random = np.random.default_rng(0)
    true = np.arange(200) % 3
    predicted = np.where(random.random(200) < 0.4, (true + 1) % 3, true)
    predictions = make_predictions(true, predicted, random.uniform(0.5, 1, 200))
    parts = [Part("word", "x", np.flatnonzero(predictions.wrong)[:20])]
    groups = describe_errors(predictions, parts, None).groups
    assert len(groups) == 4
    for group in groups:
        sure = [one.probability for one in group.errors]
        assert sure == sorted(sure, reverse=True)


def test_only_the_surest_are_shown_where_there_are_many() -> None:
    many = MOST_SHOWN + 50
    true, predicted = np.arange(many) % 3, (np.arange(many) + 1) % 3
    sure = np.random.default_rng(0).uniform(0.5, 1, many)
    described = describe_errors(make_predictions(true, predicted, sure), [], None)
    assert (described.total, described.shown) == (many, MOST_SHOWN)
    shown = [one.probability for group in described.groups for one in group.errors]
    assert sorted(shown) == sorted(sure)[50:]


def test_no_error_is_no_group() -> None:
    described = describe_errors(make_predictions(np.arange(9) % 3, np.arange(9) % 3), [], None)
    assert described == Errors(total=0, shown=0, suspected_label_errors=0, groups=[])


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_each_error_is_in_exactly_one_group(seed: int) -> None:
    random = np.random.default_rng(seed)
    true, predicted = random.integers(0, 3, (2, 80))
    predicted = np.where(random.random(80) < 0.6, true, predicted)
    predictions = make_predictions(true, predicted)
    parts = [
        Part("word", f"part {n}", np.unique(random.choice(np.argsort(~predictions.wrong)[:40], 15)))
        for n in range(12)
    ]
    described = describe_errors(predictions, parts, None)
    grouped = [one.id for group in described.groups for one in group.errors]
    assert sorted(grouped) == sorted(f"i{row}" for row in np.flatnonzero(predictions.wrong))


def test_nearest_items_are_the_nearest_by_cosine() -> None:
    random = np.random.default_rng(0)
    rows, known_rows = random.normal(size=(30, 6)), random.normal(size=(50, 6))
    known = [Item(str(number), "", "") for number in range(50)]
    found = nearest_items(rows, known, known_rows)
    assert len(found) == 30
    for vector, near in zip(rows, found, strict=True):
        lengths = np.linalg.norm(known_rows, axis=1) * np.linalg.norm(vector)
        cosines = known_rows @ vector / lengths
        best = sorted(range(50), key=lambda place: -cosines[place])[:NEAREST]
        assert [int(item.id) for item, _ in near] == best
        assert [value for _, value in near] == pytest.approx(cosines[best].tolist())


def test_few_known_items_are_all_neighbours() -> None:
    known = [Item("far", "", ""), Item("near", "", "")]
    found = nearest_items(np.array([[1.0, 0.1], [0.0, 0.0]]), known, np.eye(2)[::-1])
    assert [[item.id for item, _ in near] for near in found] == [["near", "far"], ["far", "near"]]
    assert [value for _, value in found[1]] == [0, 0]


def test_without_known_items_rows_have_no_neighbours() -> None:
    assert nearest_items(np.ones((3, 2)), [], np.empty((0, 2))) == [[], [], []]


def test_flipped_labels_are_marked_and_errors_of_the_model_are_not() -> None:
    real = np.arange(300) % 3
    true, predicted = real.copy(), real.copy()
    flipped, mistaken = np.arange(20), np.arange(100, 120)
    true[flipped] = (real[flipped] + 1) % 3
    predicted[mistaken] = (real[mistaken] + 1) % 3
    predictions = make_predictions(true, predicted)
    marked = suspected_label_errors(predictions, carrying(real))
    assert np.flatnonzero(marked).tolist() == flipped.tolist()
    described = describe_errors(predictions, [], carrying(real))
    assert described.suspected_label_errors == 20
    ids = [
        one.id for group in described.groups for one in group.errors if one.suspected_label_error
    ]
    assert set(ids) == {f"i{row}" for row in flipped}


def test_without_neighbours_the_model_alone_marks_labels() -> None:
    real = np.arange(300) % 3
    true = real.copy()
    true[:20] = (real[:20] + 1) % 3
    assert np.flatnonzero(
        suspected_label_errors(make_predictions(true, real), None)
    ).tolist() == list(range(20))


def test_neighbours_that_are_divided_speak_for_the_label() -> None:
    real = np.arange(300) % 3
    true = real.copy()
    true[:20] = (real[:20] + 1) % 3
    halves = [
        [*one[:2], *other[:2]] for one, other in zip(carrying(real), carrying(true), strict=True)
    ]
    assert not suspected_label_errors(make_predictions(true, real), halves).any()


def test_a_single_tag_marks_nothing() -> None:
    true = np.zeros(40, dtype=np.int64)
    marked = suspected_label_errors(
        make_predictions(true, np.arange(40) % 2), carrying(np.arange(40) % 2)
    )
    assert marked.tolist() == [False] * 40
