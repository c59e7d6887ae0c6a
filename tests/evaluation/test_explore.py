from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.data.tags import tag_positions
from tagger.evaluation import explore as module
from tagger.evaluation.explore import FEWEST_ON_MAP, draw_map, embed_rows, explore, project
from tagger.evaluation.predictions import LabelledPredictions
from tagger.evaluation.slices import Slice
from tagger.runs import RunFolder
from tagger.scores import FloatArray

PARTS = Split(train=list(range(60)), validation=list(range(60, 80)), test=list(range(80, 200)))
WORD = "quince"


def embed(items: Sequence[Item], model: str = "", tags: Sequence[str] = ()) -> FloatArray:
    """Vectors that say the tag, and a little that is the item's own."""
    assert items, "an encoder has nothing to embed"
    width, rows = 6, np.zeros((len(items), 6))
    known = ("apples", "pears-and-other-fruit", "plums")
    for row, item in enumerate(items):
        own = np.random.default_rng(int(item.content_hash[:8], 16)).normal(scale=0.1, size=width)
        rows[row] = own + np.eye(width)[known.index(str(item.tag))]
    return rows


def lay_out(vectors: FloatArray, seed: int) -> FloatArray:
    """Stands in for t-SNE, which takes a second: the first two coordinates, from 0 to 1."""
    places: FloatArray = (vectors[:, :2] - vectors[:, :2].min()) / np.ptp(vectors[:, :2])
    return places


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "embed_items", embed)
    monkeypatch.setattr(module, "project", lay_out)


@pytest.fixture
def all_items(new_items: Callable[..., list[Item]]) -> list[Item]:
    """200 items; those of 25 test rows have one word in common."""
    made = new_items(200)
    for row in range(100, 125):
        made[row] = replace(made[row], title=f"{WORD} {made[row].title}")
    return made


@pytest.fixture
def run(runs: Any, all_items: list[Item]) -> RunFolder:
    return runs.make("r", all_items, PARTS)


def results_of(
    run: RunFolder, items: Sequence[Item], errs_on: Sequence[str]
) -> LabelledPredictions:
    """Decisions on the test rows, wrong on those given."""
    test = [items[row] for row in PARTS.test]
    true = tag_positions(test, run.tags)
    probabilities = np.full((len(test), len(run.tags)), 0.1)
    for row, item in enumerate(test):
        probabilities[row, (true[row] + (item.id in errs_on)) % len(run.tags)] = 0.7
    return LabelledPredictions(test, true, probabilities, run.tags)


def test_a_weak_word_is_found_and_its_errors_shown(run: RunFolder, all_items: list[Item]) -> None:
    errs_on = [all_items[row].id for row in [*range(100, 118), 90, 140]]
    results = results_of(run, all_items, errs_on)
    weak, errors, points = explore(run, results, [], embed(results.items), seed=0)
    first = weak.slices[0]
    assert (first.name, first.errors, first.num_samples) == (f'word "{WORD}"', 18, 25)
    assert errors.total == 20
    assert len(points) == 120


def test_neighbours_come_from_what_the_run_was_trained_on(
    run: RunFolder, all_items: list[Item]
) -> None:
    results = results_of(run, all_items, [all_items[100].id])
    (group,) = explore(run, results, [], embed(results.items), seed=0)[1].groups
    (error,) = group.errors
    titles = {all_items[row].title for row in PARTS.train}
    assert len(error.nearest_items) == 5
    assert {one.title for one in error.nearest_items} <= titles
    assert {one.tag for one in error.nearest_items} == {error.true}


def test_without_vectors_weak_slices_are_still_searched(
    run: RunFolder, all_items: list[Item]
) -> None:
    errs_on = [all_items[row].id for row in range(100, 118)]
    weak, errors, points = explore(run, results_of(run, all_items, errs_on), [], None, seed=0)
    assert points is None
    assert [one.name for one in weak.slices] == [f'word "{WORD}"']
    listed = [one for group in errors.groups for one in group.errors]
    assert len(listed) == 18
    assert all(one.nearest_items == [] for one in listed)


def test_a_source_that_is_gone_costs_neighbours_alone(
    run: RunFolder, runs: Any, all_items: list[Item]
) -> None:
    (runs.folder / "r.csv").unlink()
    results = results_of(run, all_items, [all_items[100].id])
    _, errors, points = explore(run, results, [], embed(results.items), seed=0)
    assert errors.groups[0].errors[0].nearest_items == []
    assert len(points) == 120


def test_the_same_seed_finds_the_same(run: RunFolder, all_items: list[Item]) -> None:
    results = results_of(run, all_items, [all_items[row].id for row in range(95, 118)])
    first, second = (explore(run, results, [], embed(results.items), seed=3) for _ in range(2))
    assert first == second


def test_no_error_leaves_nothing_to_say_but_a_map(run: RunFolder, all_items: list[Item]) -> None:
    results = results_of(run, all_items, [])
    weak, errors, points = explore(run, results, [], embed(results.items), seed=0)
    assert weak.slices == errors.groups == []
    assert len(points) == 120


def test_a_map_of_too_many_rows_keeps_all_errors(
    run: RunFolder, all_items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ON_MAP", 40)
    errs_on = {all_items[row].id for row in range(85, 195, 10)}
    results = results_of(run, all_items, sorted(errs_on))
    rows = draw_map(results, [], embed(results.items), seed=0)
    ids = [row.id for row in rows]
    assert len(set(ids)) == 40
    assert errs_on == {row.id for row in rows if row.true != row.predicted}
    order = [item.id for item in results.items]
    assert ids == sorted(ids, key=order.index)


def test_each_row_of_a_map_is_told_as_it_is(run: RunFolder, all_items: list[Item]) -> None:
    results = results_of(run, all_items, [all_items[100].id])
    item = all_items[100]
    slices = [Slice("this one", "", lambda one: one is item), Slice("none", "", lambda one: False)]
    rows = draw_map(results, slices, embed(results.items), seed=0)
    assert rows[20].model_dump(exclude={"x", "y"}) == {
        "id": item.id,
        "title": item.title,
        "description": item.description,
        "true": item.tag,
        "predicted": "plums",
        "probability": 0.7,
        "slices": ("this one",),
    }
    assert rows[0].slices == ()
    assert all(0 <= place <= 1 for row in rows for place in (row.x, row.y))


def test_long_descriptions_are_cut_on_the_map(run: RunFolder, all_items: list[Item]) -> None:
    results = results_of(run, all_items, [])
    first = results.items[0]
    long = replace(first, description="word " * 500)
    changed = LabelledPredictions(
        [long, *results.items[1:]], results.true, results.probabilities, results.tags
    )
    rows = draw_map(changed, [], embed(changed.items), seed=0)
    assert rows[0].description == "word " * 60


def test_too_many_rows_are_not_embedded(
    all_items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embed_rows(all_items, ()).shape == (200, 6)
    monkeypatch.setattr(module, "MOST_EMBEDDED", 199)
    assert embed_rows(all_items, ()) is None


@pytest.fixture(scope="module")
def crowds() -> FloatArray:
    """Three crowds of 20 rows, far from each other."""
    random = np.random.default_rng(0)
    return np.repeat(np.eye(16)[:3], 20, axis=0) + random.normal(scale=0.02, size=(60, 16))


@pytest.fixture(scope="module")
def places(crowds: FloatArray) -> FloatArray:
    layout = project(crowds, seed=0)
    assert layout is not None
    return layout


def test_each_row_has_a_place_and_the_map_is_filled(places: FloatArray) -> None:
    assert places.shape == (60, 2)
    assert places.min(axis=0).tolist() == [0, 0]
    assert places.max(axis=0).tolist() == [1, 1]


def test_crowds_stay_apart(places: FloatArray) -> None:
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    crowd = np.arange(60) // 20
    assert (crowd[np.argsort(distances, axis=1)[:, :5]] == crowd[:, None]).all()


def test_the_same_seed_draws_the_same_map(crowds: FloatArray, places: FloatArray) -> None:
    again = project(crowds, seed=0)
    assert np.array_equal(places, again)  # type: ignore[arg-type]


def test_length_does_not_matter(crowds: FloatArray, places: FloatArray) -> None:
    longer = project(crowds * (2.0 ** (np.arange(60) % 5))[:, None], seed=0)
    assert np.allclose(places, longer)  # type: ignore[arg-type]


@pytest.mark.parametrize("many", [0, 1, FEWEST_ON_MAP - 1])
def test_too_few_rows_make_no_map(crowds: FloatArray, many: int) -> None:
    assert project(crowds[:many], seed=0) is None


def test_few_rows_and_repeated_ones_make_a_map(crowds: FloatArray) -> None:
    repeated = np.vstack([np.repeat(crowds[:1], FEWEST_ON_MAP - 2, axis=0), crowds[30:32]])
    places = project(repeated, seed=0)
    assert places is not None
    assert np.isfinite(places).all()


@pytest.mark.parametrize("vectors", [np.ones((20, 8)), np.zeros((20, 8))])
def test_equal_vectors_make_no_map(vectors: FloatArray) -> None:
    assert project(vectors, seed=0) is None
