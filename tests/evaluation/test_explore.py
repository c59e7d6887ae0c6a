import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.data.tags import tag_positions
from tagger.evaluation import explore as module
from tagger.evaluation.evaluate_run import evaluate_run
from tagger.evaluation.explore import draw_map, embed_rows, explore
from tagger.evaluation.results import Results
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


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "embed_items", embed)


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


def results_of(run: RunFolder, items: Sequence[Item], errs_on: Sequence[str]) -> Results:
    """Decisions on the test rows, wrong on those given."""
    test = [items[row] for row in PARTS.test]
    true = tag_positions(test, run.tags)
    probabilities = np.full((len(test), len(run.tags)), 0.1)
    for row, item in enumerate(test):
        probabilities[row, (true[row] + (item.id in errs_on)) % len(run.tags)] = 0.7
    return Results(test, true, probabilities, run.tags)


def test_a_weak_word_is_found_and_its_errors_shown(run: RunFolder, all_items: list[Item]) -> None:
    errs_on = [all_items[row].id for row in [*range(100, 118), 90, 140]]
    results = results_of(run, all_items, errs_on)
    found = explore(run, results, [], embed(results.items), seed=0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {"weak_slices", "errors", "map"}
    first = found["weak_slices"]["slices"][0]
    assert (first["name"], first["errors"], first["num_samples"]) == (f'word "{WORD}"', 18, 25)
    assert found["errors"]["total"] == 20
    assert len(found["map"]) == 120


def test_neighbours_come_from_what_the_run_was_trained_on(
    run: RunFolder, all_items: list[Item]
) -> None:
    results = results_of(run, all_items, [all_items[100].id])
    (group,) = explore(run, results, [], embed(results.items), seed=0)["errors"]["groups"]
    (error,) = group["errors"]
    titles = {all_items[row].title for row in PARTS.train}
    assert len(error["neighbours"]) == 5
    assert {one["title"] for one in error["neighbours"]} <= titles
    assert {one["tag"] for one in error["neighbours"]} == {error["true"]}


def test_without_vectors_weak_slices_are_still_searched(
    run: RunFolder, all_items: list[Item]
) -> None:
    errs_on = [all_items[row].id for row in range(100, 118)]
    found = explore(run, results_of(run, all_items, errs_on), [], None, seed=0)
    assert found["map"] is None
    assert [one["name"] for one in found["weak_slices"]["slices"]] == [f'word "{WORD}"']
    errors = [one for group in found["errors"]["groups"] for one in group["errors"]]
    assert len(errors) == 18
    assert all(one["neighbours"] == [] for one in errors)


def test_a_source_that_is_gone_costs_neighbours_alone(
    run: RunFolder, runs: Any, all_items: list[Item]
) -> None:
    (runs.folder / "r.csv").unlink()
    results = results_of(run, all_items, [all_items[100].id])
    found = explore(run, results, [], embed(results.items), seed=0)
    assert found["errors"]["groups"][0]["errors"][0]["neighbours"] == []
    assert len(found["map"]) == 120


def test_the_same_seed_finds_the_same(run: RunFolder, all_items: list[Item]) -> None:
    results = results_of(run, all_items, [all_items[row].id for row in range(95, 118)])
    first, second = (explore(run, results, [], embed(results.items), seed=3) for _ in range(2))
    assert first == second


def test_no_error_leaves_nothing_to_say_but_a_map(run: RunFolder, all_items: list[Item]) -> None:
    results = results_of(run, all_items, [])
    found = explore(run, results, [], embed(results.items), seed=0)
    assert found["weak_slices"]["slices"] == found["errors"]["groups"] == []
    assert len(found["map"]) == 120


def test_a_map_of_too_many_rows_keeps_all_errors(
    run: RunFolder, all_items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 40)
    errs_on = {all_items[row].id for row in range(85, 195, 10)}
    results = results_of(run, all_items, sorted(errs_on))
    rows = draw_map(results, embed(results.items), seed=0)
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == 40
    assert errs_on == {row["id"] for row in rows if row["true"] != row["predicted"]}
    order = [item.id for item in results.items]
    assert ids == sorted(ids, key=order.index)


def test_each_row_of_a_map_is_told_as_it_is(run: RunFolder, all_items: list[Item]) -> None:
    results = results_of(run, all_items, [all_items[100].id])
    rows = draw_map(results, embed(results.items), seed=0)
    item = all_items[100]
    assert {key: value for key, value in rows[20].items() if key not in "xy"} == {
        "id": item.id,
        "title": item.title,
        "description": item.description,
        "true": item.tag,
        "predicted": "plums",
        "probability": 0.7,
    }
    assert all(0 <= row[axis] <= 1 for row in rows for axis in "xy")


def test_long_descriptions_are_cut_on_the_map(run: RunFolder, all_items: list[Item]) -> None:
    results = results_of(run, all_items, [])
    first = results.items[0]
    long = replace(first, description="word " * 500)
    changed = Results([long, *results.items[1:]], results.true, results.probabilities, results.tags)
    rows = draw_map(changed, embed(changed.items), seed=0)
    assert rows[0]["description"] == "word " * 60


def test_too_few_rows_make_no_map(run: RunFolder, all_items: list[Item]) -> None:
    results = results_of(run, all_items, [])
    few = Results(results.items[:9], results.true[:9], results.probabilities[:9], results.tags)
    assert draw_map(few, embed(few.items), seed=0) is None


def test_too_many_rows_are_not_embedded(
    all_items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embed_rows(all_items, ()).shape == (200, 6)
    monkeypatch.setattr(module, "MOST_EMBEDDED", 199)
    assert embed_rows(all_items, ()) is None


@pytest.mark.slow
def test_the_page_of_an_evaluation_holds_the_map_and_no_markup_of_items(
    runs: Any, all_items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "</script><script>alert(1)</script>"
    all_items[100] = replace(all_items[100], title=f"{hostile} {all_items[100].title}")
    monkeypatch.setattr("tagger.evaluation.evaluate_run.check_against_library", lambda *_: None)
    run = runs.make("page", all_items, PARTS, errs_on=[all_items[100].id])
    report = evaluate_run(runs.config("page", "explore=on"))
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert report["errors"]["total"] == 1
    assert len(re.findall("<circle ", page)) == len(report["map"]) == 120
    assert hostile not in page
    rows = json.loads(re.search(r'id="map-rows">(.*?)</script>', page, re.DOTALL)[1])
    assert rows[-1]["title"] == all_items[100].title  # drawn last, on top
    # A browser runs the script only if it is the one that the page's policy names.
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in page
