import csv
import json
from collections import Counter
from random import Random

import numpy as np
import pytest

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import EnsembleConfig, EvaluateConfig
from tagger.data.sources import load_labelled
from tagger.decision.calibrators import fit_temperature
from tagger.decision.change import change_decision
from tagger.decision.decider import load_rule
from tagger.decision.policies import Argmax
from tagger.errors import UserError
from tagger.evaluation.rows import load_rows
from tagger.runs import (
    RunFolder,
    read_calibration,
    read_ids,
    read_predictions,
    read_row_sources,
)
from tagger.training import train_run
from tagger.training.train_run import train


def test_run_folder_holds_what_others_read(tiny_run):
    names = {path.name for path in tiny_run.path.iterdir()}
    expected = {"config.yaml", "meta.json", "metrics.jsonl", "splits.csv", "predictions.csv"}
    assert names == expected | {"calibration.csv", "decision.json", "model"}
    meta = tiny_run.meta
    assert meta.status == "finished"
    assert meta.tags == ["fruit", "metal", "weather"]
    assert meta.data.rows == {"train": 36, "validation": 12, "test": 12}
    assert meta.data.extra.rows == 0
    assert meta.environment.versions["python"]
    assert meta.environment.hardware["cpu"]
    assert meta.environment.command
    assert meta.train_seconds > 0 and meta.peak_memory_mib > 0
    assert meta.texts_cut == 0
    assert meta.schema_version == 2
    assert meta.made_in.folder == str(tiny_run.path.resolve())
    assert meta.made_in.host and meta.made_in.repository
    assert not list(tiny_run.path.parent.glob(".*"))


def test_the_share_of_texts_that_are_cut_is_recorded_and_said(tiny_config, tmp_path):
    given = ["name=cut", f"runs_dir={tmp_path}", "training.epochs=1", "model.max_length=49"]
    told: list[str] = []
    meta = RunFolder(train(tiny_config(*given), told.append)).meta
    assert 0 < meta.texts_cut < 1
    assert f"{meta.texts_cut:.1%} of the texts have more tokens" in told[-1]


def test_a_folder_that_a_machine_does_not_see_is_refused(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(train_run, "gather_object", lambda there: [*there, False])
    with pytest.raises(UserError, match="not there on every machine"):
        train(tiny_config("name=lost", f"runs_dir={tmp_path}"))
    assert not list(tmp_path.iterdir())


def test_splits_and_predictions_name_the_same_rows(tiny_run):
    rows = tiny_run.split_rows()
    items = load_labelled(tiny_run.config.data, tiny_run.tags).items
    assert Counter(row.id for row in rows) == Counter(item.id for item in items)
    tested = {row.id for row in rows if row.split == "test"}
    predictions = read_predictions(tiny_run.path / "predictions.csv", tiny_run.tags)
    assert predictions.keys() == tested
    classifier = tiny_run.load_classifier()
    item = next(item for item in items if item.id in tested)
    assert predictions[item.id] == pytest.approx(classifier.predict_proba([item])[0], abs=1e-5)


def test_the_decision_is_fitted_to_the_validation_rows(tiny_run):
    validation = [row for row in tiny_run.split_rows() if row.split == "validation"]
    path = tiny_run.path / "calibration.csv"
    with path.open(encoding="utf-8", newline="") as file:
        found = [(row["id"], row["true"]) for row in csv.DictReader(file)]
    assert found == [(row.id, row.tag) for row in validation]
    probabilities, true, ood_scores = read_calibration(path, tiny_run.tags)
    assert ood_scores is None
    items = {item.id: item for item in load_labelled(tiny_run.config.data, tiny_run.tags).items}
    classifier = tiny_run.load_classifier()
    expected = classifier.predict_proba([items[row.id] for row in validation])
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    rule = load_rule(tiny_run.path, 3)
    assert rule.policy == Argmax()
    assert rule.calibrator.temperature == pytest.approx(
        fit_temperature(probabilities, true).temperature, rel=1e-3
    )


@pytest.fixture
def extra_file(tiny_run, tmp_path):
    """Rows for training alone: three of their own, one like a test row, one like a training row."""
    items = {item.id: item for item in load_labelled(tiny_run.config.data, tiny_run.tags).items}
    part = {row.id: row.split for row in tiny_run.split_rows()}
    held_out = next(items[id] for id in items if part[id] == "test")
    trained_on = next(items[id] for id in items if part[id] == "train")
    path = tmp_path / "extra.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "description", "tag"])
        writer.writerow(["x1", "orchard of quinces and medlars", "", "fruit"])
        writer.writerow(["x2", "tungsten and bismuth mined abroad", "", "metal"])
        writer.writerow(["x3", "monsoon", "", "weather"])
        for name, item in (("like-test", held_out), ("like-train", trained_on)):
            writer.writerow([name, item.title.upper(), f"{item.description} too", item.tag])
    return path


@pytest.mark.slow
def test_extra_rows_are_trained_on_unless_they_resemble_held_out_ones(config, extra_file):
    run = RunFolder(train(config(f"data.extra=[{extra_file}]")))
    rows = run.split_rows()
    assert [row.id for row in rows if row.split == "extra"] == ["x1", "x2", "x3", "like-train"]
    assert run.meta.data.rows == {"train": 36, "validation": 12, "test": 12}
    assert run.meta.data.extra.rows == 4
    # 36 rows are three batches of 16, and so are 40: the weights tell that they were used.
    without = RunFolder(train(config("name=without")))
    first, second = (
        read_predictions(one.path / "predictions.csv", one.tags) for one in (run, without)
    )
    assert first.keys() == second.keys()
    assert max(abs(first[id] - second[id]).max() for id in first) > 1e-4


OWN_WORDS = {"fruit": ["apple", "plum"], "metal": ["iron", "zinc"], "weather": ["rain", "fog"]}


@pytest.fixture
def more_file(tmp_path):
    """Thirty rows with the ids of rows of the toy file, and texts of their own."""
    random, path = Random(5), tmp_path / "second.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for number, tag in enumerate([*OWN_WORDS] * 10):
            own = ["".join(random.choices("bdfgklmnprstvz", k=7)) for _ in range(6)]
            writer.writerow([f"t{number:02}", " ".join([*OWN_WORDS[tag], *own]), tag])
    return path


def test_rows_of_several_files_are_held_out_folded_and_judged_by_file(
    runs, linear_model, more_file
):
    more = f"data.more=['{more_file}']"
    run = runs.train("two", more, "decision.folds=3", model=linear_model)
    assert run.meta.data.rows == {"train": 54, "validation": 18, "test": 18}
    items = {item.id: item for item in load_labelled(run.data_config, run.tags).items}
    parts = {
        part: Counter(items[row.id].source for row in run.split_rows() if row.split == part)
        for part in run.meta.data.rows
    }
    assert all({"toy", "second"} == set(sources) for sources in parts.values())
    rows = read_row_sources(run.path / "calibration.csv", run.tags)
    assert rows == [items[one].source for one in read_ids(run.path / "calibration.csv")]
    assert Counter(rows) == parts["train"]
    described = json.loads((run.path / "decision.json").read_text())["fitted_on"]["source"]
    assert described.startswith("54 training rows, out of 3 folds: ")
    assert f"second {parts['train']['second'] / 54:.1%}" in described

    given = {"policy": "threshold", "target_precision": 0.5, "confidence": 0.5}
    assert "would be published" in change_decision(run, given | {"scope": "per_source"})
    config = load_config(
        EvaluateConfig, compose_config("evaluate", ["run=two", f"runs_dir={runs.folder}"])
    )
    found = [one.name for one in load_rows(run, config).slices if one.name.startswith("source")]
    assert sorted(found) == ["source: second", "source: toy"]

    # An ensemble's rows know their files too.
    runs.train("also", more, "decision.folds=3", model=linear_model.model_copy(update={"C": 0.1}))
    pair = EnsembleConfig(approach="ensemble", name="pair", runs=["two", "also"])
    both = runs.train("both", more, "decision.folds=3", model=pair)
    assert Counter(read_row_sources(both.path / "calibration.csv", both.tags)) == parts["train"]


def test_a_run_says_that_a_further_file_is_gone(runs, linear_model, more_file):
    run = runs.train("two", f"data.more=['{more_file}']", model=linear_model)
    more_file.unlink()
    with pytest.raises(UserError, match="made from files that are not here") as error:
        run.check_source()
    assert str(more_file) in str(error.value)


def test_bad_extra_rows_leave_no_run_behind(config, extra_file, tmp_path):
    extra_file.write_text("id,title,tag\n1,a,vegetable\n")
    with pytest.raises(UserError, match=r"extra\.csv cannot be used"):
        train(config(f"data.extra=[{extra_file}]"))
    assert list(tmp_path.iterdir()) == [extra_file]


def test_bad_data_leaves_no_run_behind(config, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        train(config("data.path=nowhere.csv"))
    assert list(tmp_path.iterdir()) == []
