from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tagger.data.splits import Split
from tagger.errors import UserError
from tagger.evaluation.rows import EvaluationRows, load_rows, own_items, rows_in, trained_on
from tagger.runs import open_run


def load(runs: Any, name: str, *overrides: str) -> EvaluationRows:
    config = runs.config(name, *overrides)
    return load_rows(open_run(name, config.runs_dir), config)


def test_a_run_knows_its_own_rows(runs, items, split) -> None:
    run = runs.make("r", items, split)
    assert [item.id for item in own_items(run)] == [item.id for item in items]
    assert [item.id for item in trained_on(run)] == [items[row].id for row in split.train]
    held_out = rows_in(run, items, {"validation", "test"})
    assert held_out.nonzero()[0].tolist() == [*split.validation, *split.test]
    rows = load(runs, "r")
    assert [item.id for item in rows.items] == [items[row].id for row in split.test]
    assert (rows.source, rows.own, rows.loaded, rows.warning) == ("orchard", True, 40, None)
    assert rows.explanation == "the run's own 15 test rows of 40"
    assert {"no description", "year 2019"} <= {one.name for one in rows.slices}


def test_rows_without_a_date_have_no_slices_by_year(runs, items, split, new_items) -> None:
    runs.make("r", items, split)
    fresh = [replace(item, created_on=None) for item in new_items(6, seed=9)]
    path = runs.other_source(fresh)[1].partition("=")[2]
    Path(path).write_text(Path(path).read_text().replace(",None,", ",,"))
    rows = load(runs, "r", "data=file", f"data.path={path}", f"data.tags={runs.tag_file}")
    assert rows.explanation.endswith("none has a date, so there are no slices by year")
    assert not [one for one in rows.slices if one.name.startswith("year")]


def test_seen_rows_and_their_near_duplicates_are_left_out(runs, items, split, new_items) -> None:
    fresh = new_items(6, seed=9)
    words = items[1].description.split()
    similar = replace(items[1], id="similar", description=" ".join([*words, "also"]))
    shouted = replace(items[2], id="shouted", title=items[2].title.upper())
    runs.make("r", items, split, answers=[*fresh, similar])
    mixed = [*fresh, similar, shouted, items[21], items[30]]
    rows = load(runs, "r", *runs.other_source(mixed))
    # Left: the fresh ones, and the test row, which the run has not seen.
    assert len(rows.items) == 7
    assert "left out 2 that r has seen and 1 near-duplicates" in rows.explanation


def test_rows_that_resemble_such_a_near_duplicate_alone_are_judged_on(
    runs, items, split, new_items
) -> None:
    fresh = new_items(6, seed=9)
    similar = replace(items[1], id="similar", title="Of a kind of its own here")
    similar_to_it = replace(fresh[0], id="next", title=similar.title)
    runs.make("r", items, split, answers=[*fresh, similar, similar_to_it])
    rows = load(runs, "r", *runs.other_source([*fresh, similar, similar_to_it]))
    assert len(rows.items) == 7
    assert "and 1 near-duplicates" in rows.explanation


def test_a_run_whose_source_is_gone_is_evaluated_on_a_copy_of_it(
    runs, items, split, tmp_path
) -> None:
    runs.make("r", items, split)
    (tmp_path / "r.csv").unlink()
    with pytest.raises(UserError, match="made from files that are not here") as raised:
        load(runs, "r")
    assert "evaluate.py data=file data.path=FILE" in raised.value.hint
    rows = load(runs, "r", *runs.other_source(items))
    assert rows.own
    assert len(rows.items) == 15


def test_a_run_without_test_rows_is_explained(runs, items) -> None:
    runs.make("r", items, Split(train=list(range(40)), validation=[], test=[]))
    with pytest.raises(UserError, match="no row of orchard is left") as raised:
        load(runs, "r")
    assert "rows=all" in raised.value.hint


def test_unknown_tags_are_listed_with_the_known_ones(runs, items, split, new_items) -> None:
    runs.make("r", items, split, tags=("apples", "pears-and-other-fruit", "plums"))
    strange = new_items(6, seed=9, tags=("apples", "never seen"))
    with pytest.raises(UserError, match="does not know") as raised:
        load(runs, "r", *runs.other_source(strange))
    text = str(raised.value)
    assert "tags of the data: apples, never seen" in text
    assert "tags of the run: apples, pears-and-other-fruit, plums" in text


def test_changed_data_of_the_run_is_refused(runs, items, split, new_items, tmp_path) -> None:
    runs.make("r", items, split)
    from_elsewhere = runs.other_source([*items[:-1], *new_items(1, seed=9)], "changed")
    changed = Path(from_elsewhere[1].partition("=")[2])
    (tmp_path / "r.csv").write_bytes(changed.read_bytes())
    with pytest.raises(UserError, match="are not those that r was made from"):
        load(runs, "r")
