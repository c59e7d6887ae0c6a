import csv
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import yaml
from filelock import FileLock

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.data.sources import load_labelled
from tagger.decision.calibrators import fit_temperature
from tagger.decision.decider import PLAIN, load_rule
from tagger.decision.policies import Argmax
from tagger.errors import UserError
from tagger.files import write_json
from tagger.models.transformer import TransformerClassifier
from tagger.runs import RunFolder, read_calibration, read_predictions
from tagger.training.train_run import train


@pytest.fixture
def config(tiny_config, tmp_path):
    def make(*overrides):
        short = ("training.epochs=1", "name=run", f"runs_dir={tmp_path}")
        return tiny_config(*short, *overrides)

    return make


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
    assert not list(tiny_run.path.parent.glob(".*"))


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


def test_without_rows_to_fit_to_the_most_probable_tag_is_published_as_it_is(config):
    run = RunFolder(train(config("data.split.validation=0")))
    assert load_rule(run.path, 3) == PLAIN
    assert len(read_calibration(run.path / "calibration.csv", run.tags)[1]) == 0


def test_a_decision_out_of_folds_leaves_no_scratch_behind(config):
    run = RunFolder(train(config("decision.folds=2")))
    assert not (run.path / "folds").exists()
    train_ids = {row.id for row in run.split_rows() if row.split == "train"}
    with (run.path / "calibration.csv").open(encoding="utf-8", newline="") as file:
        assert Counter(row["id"] for row in csv.DictReader(file)) == Counter(train_ids)


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


def test_weight_of_extra_rows_matters(config, extra_file):
    given = f"data.extra=[{extra_file}]"
    light, heavy = (
        RunFolder(train(config(given, f"name=w{weight}", f"data.extra_weight={weight}.0")))
        for weight in (1, 50)
    )
    first, second = (
        read_predictions(one.path / "predictions.csv", one.tags) for one in (light, heavy)
    )
    assert max(abs(first[id] - second[id]).max() for id in first) > 1e-4


def test_resume_refuses_other_extra_rows(config, extra_file):
    given = f"data.extra=[{extra_file}]"
    path = train(config(given))
    train(config(given, "if_exists=resume"))
    text = extra_file.read_text(encoding="utf-8")
    extra_file.write_text(text.replace("monsoon", "typhoon"), encoding="utf-8")
    with pytest.raises(UserError, match="items themselves changed"):
        train(config(given, "if_exists=resume"))
    with pytest.raises(UserError, match=r"data\.extra: "):
        train(config("if_exists=resume"))
    assert RunFolder(path).finished


def test_bad_extra_rows_leave_no_run_behind(config, extra_file, tmp_path):
    extra_file.write_text("id,title,tag\n1,a,vegetable\n")
    with pytest.raises(UserError, match=r"extra\.csv cannot be used"):
        train(config(f"data.extra=[{extra_file}]"))
    assert list(tmp_path.iterdir()) == [extra_file]


def test_existing_run_is_refused_by_default_and_kept(config, tmp_path):
    train(config())
    before = (tmp_path / "run" / "meta.json").read_bytes()
    with pytest.raises(UserError, match="exists already") as error:
        train(config("seed=5"))
    assert "if_exists=replace" in str(error.value)
    assert (tmp_path / "run" / "meta.json").read_bytes() == before


def test_replace_starts_over(config, tmp_path):
    train(config())
    train(config("if_exists=replace", "seed=5"))
    assert RunFolder(tmp_path / "run").meta.seed == 5


def test_replace_removes_nothing_but_runs(config, tmp_path):
    precious = tmp_path / "run" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(UserError, match="not a run folder"):
        train(config("if_exists=replace"))
    assert precious.read_text() == "years of work"


def test_finished_run_is_not_trained_again(config, tmp_path, capsys):
    train(config())
    before = (tmp_path / "run" / "meta.json").read_bytes()
    train(config("if_exists=resume"))
    assert "finished already" in capsys.readouterr().out
    assert (tmp_path / "run" / "meta.json").read_bytes() == before


def test_resume_refuses_another_config(config):
    train(config())
    with pytest.raises(UserError, match=r"training\.lr: 0\.005 and 0\.001"):
        train(config("if_exists=resume", "training.lr=0.001"))


def test_resume_refuses_other_data(config, tmp_path, toy_folder):
    copy = tmp_path / "items.csv"
    rows = list(csv.reader((toy_folder / "items.csv").open(encoding="utf-8", newline="")))
    with copy.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    train(config(f"data.path={copy}"))
    rows[1][2] += " changed"
    with copy.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(UserError, match="items themselves changed"):
        train(config(f"data.path={copy}", "if_exists=resume"))


def resume(*overrides):
    return load_config(TrainConfig, compose_config("train", ["resume=run", *overrides]))


def test_resume_takes_the_runs_own_settings_and_no_others(config, tmp_path, monkeypatch, capsys):
    train(config())
    own = [
        "data=file", f"data.path={tiny_path(config)}", "model=tiny", "training.lr=0.005",
        "training.epochs=1", f"runs_dir={tmp_path}",
    ]  # fmt: skip
    # Another working directory, and the same file by another path.
    monkeypatch.chdir(tmp_path)
    own[1] = f"data.path={os.path.relpath(tiny_path(config), tmp_path)}"
    with pytest.raises(UserError) as error:
        train(resume(*own, "training.lr=0.5", "seed=9"))
    tags = config().data.tags
    # Those that `data=file` and `model=tiny` bring along are other ones than the run has.
    changed = {problem.partition(":")[0] for problem in error.value.problems}
    assert changed == {"training.lr", "seed", "data.name", "data.tags"}
    assert "training.lr: 0.005 and 0.5" in error.value.problems
    assert train(resume(*own, "data.name=toy", f"data.tags={tags}")).samefile(tmp_path / "run")
    assert "finished already" in capsys.readouterr().out


def tiny_path(config):
    return config().data.path


def test_resume_says_where_the_items_were(config, toy_folder, tmp_path):
    copy = shutil.copy(toy_folder / "items.csv", tmp_path / "mine.csv")
    train(config(f"data.path={copy}"))
    copy.unlink()
    with pytest.raises(UserError, match="made from files that are not here") as error:
        train(resume(f"runs_dir={tmp_path}"))
    assert str(copy) in error.value.problems[0]


BAD_ENCODER = ("model.encoder=./nowhere", "model.random=null")


def test_a_start_that_fails_leaves_nothing(config, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        train(config(*BAD_ENCODER, f"runs_dir={tmp_path / 'a' / 'runs'}"))
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_is_interrupted_leaves_nothing(config, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TransformerClassifier, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config())
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_replaced_only_by_one_that_starts(config, tmp_path):
    before = (train(config()) / "meta.json").read_bytes()
    with pytest.raises(UserError, match="there is no folder"):
        train(config(*BAD_ENCODER, "if_exists=replace"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "meta.json").read_bytes() == before
    assert RunFolder(tmp_path / "run").load_classifier()


def test_a_run_that_cannot_be_resumed_now_stays(config, tmp_path):
    """It is not this start that made it."""
    path = train(config())
    for name in ("model", "metrics.jsonl"):
        shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()
    plain = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    plain["model"] |= {"encoder": "./nowhere", "random": None}
    (path / "config.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    write_json(path / "meta.json", RunFolder(path).meta.model_dump() | {"status": "running"})
    with pytest.raises(UserError, match="there is no folder"):
        train(resume(f"runs_dir={tmp_path}"))
    assert (path / "splits.csv").exists()


def test_meta_says_where_the_run_was_made(tiny_run):
    assert tiny_run.meta.schema_version == 2
    made_in = tiny_run.meta.made_in
    assert made_in.folder == str(tiny_run.path.resolve())
    assert made_in.host
    assert made_in.repository


def test_two_processes_cannot_train_one_run(config, tmp_path):
    lock = FileLock(tmp_path / ".run.lock")
    with lock, pytest.raises(UserError, match="another process"):
        train(config())
    assert not (tmp_path / "run").exists()


def test_nameless_runs_get_folders_of_their_own(config, tmp_path):
    first, second = train(config("name=null")), train(config("name=null"))
    assert first != second
    assert first.name.startswith("tiny-toy-")


def test_bad_data_leaves_no_run_behind(config, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        train(config("data.path=nowhere.csv"))
    assert list(tmp_path.iterdir()) == []
