import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.errors import UserError
from tagger.evaluation import evaluate_run as module
from tagger.evaluation.evaluate_run import check_against_library, confident_errors, evaluate_run


@pytest.fixture(autouse=True)
def without_the_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing `evaluate` takes seconds; one slow test below does it."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(module, "check_against_library", lambda *_: None)


@pytest.mark.slow
def test_own_test_rows_give_a_whole_report(runs, items, split, capsys) -> None:
    run = runs.make("r", items, split, errs_on=["i0-30", "i0-1"])
    report = evaluate_run(runs.config("r"))

    assert report == json.loads((run.path / "report.json").read_text())
    assert report["overall"]["num_samples"] == 15
    accuracy = report["overall"]["accuracy"]
    assert accuracy["value"] == pytest.approx(14 / 15)
    assert accuracy["low"] < 14 / 15 < accuracy["high"]
    assert list(report["per_class"]) == ["apples", "pears-and-other-fruit", "plums", "never seen"]
    assert report["per_class"]["never seen"]["num_samples"] == 0
    assert all("num_samples" in block for block in report["slices"].values())
    assert report["slices"]["year 2019"]["num_samples"] == 5
    assert "short text" in report["empty_slices"]
    assert [error["id"] for error in report["errors"]] == ["i0-30"]
    assert report["comparison"] is None
    assert report["latency"]["p95_ms"] > 0

    plots = {path.name for path in (run.path / "plots").iterdir()}
    names = ("confusion", "learning-curves", "precision-recall", "reliability", "slices")
    assert plots == {f"{name}.png" for name in names}
    with (run.path / "predictions.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == [i.id for i in items[25:]]
    printed = capsys.readouterr().out
    assert "pears-and-other-fruit" in printed
    assert str(run.path / "report.html") in printed
    assert str(run.path / "plots" / "confusion.png") in printed


def test_the_same_run_gives_the_same_numbers(runs, items, split) -> None:
    runs.make("r", items, split, errs_on=["i0-30"])
    first, second = (evaluate_run(runs.config("r")) for _ in range(2))
    for part in ("overall", "per_class", "slices", "confusion", "calibration"):
        assert first[part] == second[part]


def test_another_source_goes_into_its_own_folder(runs, items, split, new_items) -> None:
    fresh = new_items(12, seed=9)
    run = runs.make("r", items, split, answers=fresh)
    before = (run.path / "predictions.csv").read_bytes()
    report = evaluate_run(runs.config("r", *runs.other_source(fresh, "market")))
    assert report["overall"]["num_samples"] == 12
    assert (run.path / "on-market" / "report.html").is_file()
    assert not (run.path / "report.json").exists()
    assert (run.path / "predictions.csv").read_bytes() == before


def test_seen_rows_and_their_near_duplicates_are_left_out(runs, items, split, new_items) -> None:
    fresh = new_items(6, seed=9)
    words = items[1].description.split()
    similar = replace(items[1], id="similar", description=" ".join([*words, "also"]))
    shouted = replace(items[2], id="shouted", title=items[2].title.upper())
    runs.make("r", items, split, answers=[*fresh, similar])
    mixed = [*fresh, similar, shouted, items[21], items[30]]
    report = evaluate_run(runs.config("r", *runs.other_source(mixed)))
    # Left: the fresh ones, and the test row, which the run has not seen.
    assert report["overall"]["num_samples"] == 7
    assert "left out 2 that r has seen and 1 near-duplicates" in report["data"]["explanation"]


def test_rows_all_keeps_everything_away_from_the_test_report(runs, items, split) -> None:
    run = runs.make("r", items, split)
    report = evaluate_run(runs.config("r", "rows=all"))
    assert report["overall"]["num_samples"] == 40
    assert "trained on" in report["data"]["explanation"]
    assert (run.path / "on-orchard-all" / "report.json").is_file()
    assert not (run.path / "report.json").exists()


def test_a_copy_of_the_own_source_is_the_own_source(runs, items, split) -> None:
    run = runs.make("r", items, split)
    report = evaluate_run(runs.config("r", *runs.other_source(items, "copy")))
    assert report["data"]["own"]
    assert report["overall"]["num_samples"] == 15
    assert (run.path / "report.json").is_file()


def test_a_run_without_test_rows_is_explained(runs, items) -> None:
    runs.make("r", items, Split(train=list(range(40)), validation=[], test=[]))
    with pytest.raises(UserError, match="no row of orchard is left") as raised:
        evaluate_run(runs.config("r"))
    assert "rows=all" in raised.value.hint


def test_unknown_tags_are_listed_with_the_known_ones(runs, items, split, new_items) -> None:
    runs.make("r", items, split, tags=("apples", "pears-and-other-fruit", "plums"))
    strange = new_items(6, seed=9, tags=("apples", "never seen"))
    with pytest.raises(UserError, match="does not know") as raised:
        evaluate_run(runs.config("r", *runs.other_source(strange)))
    text = str(raised.value)
    assert "tags of the data: apples, never seen" in text
    assert "tags of the run: apples, pears-and-other-fruit, plums" in text


def test_changed_data_of_the_run_is_refused(runs, items, split, new_items, tmp_path) -> None:
    runs.make("r", items, split)
    from_elsewhere = runs.other_source([*items[:-1], *new_items(1, seed=9)], "changed")
    changed = Path(from_elsewhere[1].partition("=")[2])
    (tmp_path / "r.csv").write_bytes(changed.read_bytes())
    with pytest.raises(UserError, match="are not those that r was made from"):
        evaluate_run(runs.config("r"))


def test_comparison_of_two_runs(runs, items, split) -> None:
    runs.make("ours", items, split, errs_on=["i0-30", "i0-31"])
    runs.make("theirs", items, split, errs_on=["i0-30", "i0-32", "i0-33"])
    report = evaluate_run(runs.config("ours", "against=theirs"))
    comparison = report["comparison"]
    assert comparison["num_samples"] == comparison["recorded_predictions"] == 15
    assert [item["id"] for item in comparison["fixed"]] == ["i0-32", "i0-33"]
    assert [item["id"] for item in comparison["broken"]] == ["i0-31"]
    assert comparison["differences"]["accuracy"]["value"] == pytest.approx(1 / 15)
    assert runs.models["theirs"].asked == []


def test_the_other_run_predicts_what_it_lacks(runs, items, split, new_items) -> None:
    fresh = new_items(8, seed=9)
    runs.make("ours", items, split, answers=fresh)
    runs.make("theirs", items, split, answers=fresh, errs_on=["i9-0"])
    report = evaluate_run(runs.config("ours", "against=theirs", *runs.other_source(fresh)))
    assert report["comparison"]["recorded_predictions"] == 0
    assert runs.models["theirs"].asked == [item.id for item in fresh]
    assert [item["id"] for item in report["comparison"]["fixed"]] == ["i9-0"]


def test_an_id_that_names_another_text_is_not_taken_from_the_record(
    runs, items, split, new_items
) -> None:
    renamed = [replace(item, id=f"i0-{25 + n}") for n, item in enumerate(new_items(8, seed=9))]
    runs.make("ours", items, split, answers=renamed)
    runs.make("theirs", items, split, answers=renamed)
    report = evaluate_run(runs.config("ours", "against=theirs", *runs.other_source(renamed)))
    assert report["comparison"]["recorded_predictions"] == 0
    assert report["comparison"]["mcnemar"]["p_value"] == 1


def test_rows_that_the_other_run_trained_on_are_not_compared(runs, items, split) -> None:
    runs.make("ours", items, split)
    overlapping = Split(train=list(range(15, 40)), validation=[], test=list(range(15)))
    runs.make("theirs", items, overlapping)
    with pytest.raises(UserError, match="no row in common that neither has seen"):
        evaluate_run(runs.config("ours", "against=theirs"))
    partly = Split(train=list(range(30)), validation=[], test=list(range(30, 40)))
    runs.make("partly", items, partly)
    report = evaluate_run(runs.config("ours", "against=partly"))
    assert report["comparison"]["explanation"].startswith("10 of 15 rows paired")


def test_runs_with_other_tags_are_not_compared(runs, items, split) -> None:
    runs.make("ours", items, split)
    runs.make("theirs", items, split, tags=("apples", "pears-and-other-fruit", "plums"))
    with pytest.raises(UserError, match="their tags differ"):
        evaluate_run(runs.config("ours", "against=theirs"))


def test_tags_in_another_order_are_matched_by_name(runs, items, split) -> None:
    runs.make("ours", items, split)
    runs.make(
        "theirs", items, split, tags=("plums", "never seen", "apples", "pears-and-other-fruit")
    )
    report = evaluate_run(runs.config("ours", "against=theirs"))
    assert report["comparison"]["mcnemar"] == {"fixed": 0, "broken": 0, "p_value": 1.0}


def test_the_surest_errors_come_first(new_items: Callable[..., list[Item]]) -> None:
    items = new_items(4)
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    errors = confident_errors(items, np.array([1, 1, 1, 0]), probabilities, ["a", "b"])
    assert [error["id"] for error in errors] == ["i0-1", "i0-3", "i0-0"]
    assert errors[0]["true"] == "b"
    assert errors[0]["predicted"] == "a"


@pytest.mark.slow
def test_a_number_that_the_library_contradicts_is_not_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true, predicted = np.array([0, 1, 1]), np.array([0, 1, 0])
    check_against_library(true, predicted, ["a", "b"])
    wrong = module.compute_scores(predicted, true, ["a", "b"])
    monkeypatch.setattr(module, "compute_scores", lambda *_: wrong)
    with pytest.raises(RuntimeError, match="precision"):
        check_against_library(true, predicted, ["a", "b"])
